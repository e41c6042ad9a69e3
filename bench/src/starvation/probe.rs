//! One client of all services: an ICMP echo request (RFC 792) to each every few milliseconds from the host of its client. The
//! kernels answer, so that a starved server is not taken for a lost service; the sender is SCHED_DEADLINE.

use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use agent_tests::lab::clock;
use agent_tests::lab::netns::Netns;
use anyhow::{Context as _, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvmsg, sendto, socket,
};

use super::scheduling::{Grant, set_deadline};

/// Between two requests to one service.
pub const INTERVAL_NS: u64 = 5_000_000;
const GRANT: Grant = Grant::us(500, 5_000);
/// Most requests that are kept of one service: ten minutes.
const REQUESTS_MAX: usize = 120_000;
const HEADER_LEN: usize = 8;
const REQUEST_LEN: usize = 16;
const ECHO_REQUEST: u8 = 8;
const IPV4_LEN: usize = 20;
const PACKET_MAX: usize = 128;
/// An answer that comes later is none.
const PATIENCE_NS: u64 = 1_000_000_000;

/// A running client.
pub struct Probes {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// By service: when each request was sent, and whether it was answered.
    requests: Mutex<Vec<Vec<(u64, bool)>>>,
}

/// A socket at a client's host, and the service that it asks.
pub struct Asker {
    socket: OwnedFd,
    service: SockaddrIn,
}

impl Asker {
    /// In the namespace of a client.
    ///
    /// # Errors
    /// Not privileged.
    pub fn new(netns: &Netns, service: Ipv4Addr) -> Result<Self> {
        let socket = netns.run(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)
                .context("cannot open a socket for ICMP")
        })?;
        let [a, b, c, d] = service.octets();
        Ok(Self { socket, service: SockaddrIn::new(a, b, c, d, 0) })
    }
}

impl Probes {
    /// Starts asking all services.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(askers: Vec<Asker>) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        *shared.requests.lock().unwrap_or_else(PoisonError::into_inner) = vec![Vec::new(); askers.len()];
        let asking = Arc::clone(&shared);
        let thread = thread::Builder::new().name("pings".into()).spawn(move || ask_all(&askers, &asking))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Forgets what was asked so far.
    pub fn clear(&self) {
        let mut requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter_mut().for_each(Vec::clear);
    }

    /// The longest time without an answer of a service between two times, in milliseconds: from the first request that was
    /// not answered to the next that was. NaN when nothing was asked.
    pub fn lost_ms(&self, service: usize, from_ns: u64, to_ns: u64) -> f64 {
        let requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = requests.get(service).map_or(&[][..], Vec::as_slice);
        longest_loss_ms(asked.iter().filter(|(sent_ns, _)| (from_ns..to_ns).contains(sent_ns)).copied())
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}

fn longest_loss_ms(requests: impl Iterator<Item = (u64, bool)>) -> f64 {
    let (mut worst, mut lost_from, mut last_ns) = (f64::NAN, None, 0);
    for (sent_ns, is_answered) in requests {
        worst = f64::max(worst, 0.0);
        last_ns = sent_ns;
        if is_answered {
            if let Some(from_ns) = lost_from.take() {
                worst = worst.max(clock::ms_between(from_ns, sent_ns));
            }
        } else {
            lost_from.get_or_insert(sent_ns);
        }
    }
    lost_from.map_or(worst, |from_ns| worst.max(clock::ms_between(from_ns, last_ns + INTERVAL_NS)))
}

fn ask_all(askers: &[Asker], shared: &Shared) {
    // Where it is refused, the witnesses have been as well, and the benchmark has ended.
    let _ = set_deadline(0, GRANT);
    let mut due_ns = clock::now_ns();
    while !shared.stop.load(Ordering::Relaxed) {
        for (place, asker) in askers.iter().enumerate() {
            hear(place, asker, shared);
            let now_ns = clock::now_ns();
            let mut requests = shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(requests) = requests.get_mut(place)
                && requests.len() < REQUESTS_MAX
            {
                requests.push((now_ns, false));
            }
            drop(requests);
            let packet = request(now_ns);
            // A service that cannot be reached is what is being measured.
            let _ = sendto(asker.socket.as_raw_fd(), &packet, &asker.service, MsgFlags::empty());
            hear(place, asker, shared);
        }
        due_ns = (due_ns + INTERVAL_NS).max(clock::now_ns());
        clock::sleep_until(due_ns);
    }
}

/// Takes all answers that are there.
fn hear(place: usize, asker: &Asker, shared: &Shared) {
    let mut buffer = [0; PACKET_MAX];
    loop {
        let mut buffers = [IoSliceMut::new(&mut buffer)];
        let Ok(received) =
            recvmsg::<SockaddrIn>(asker.socket.as_raw_fd(), &mut buffers, None, MsgFlags::empty())
        else {
            return;
        };
        let (from, bytes) = (received.address, received.bytes);
        if from.is_none_or(|from| from.ip() != asker.service.ip()) {
            continue;
        }
        let Some(sent_ns) = buffer.get(..bytes).and_then(answered) else { continue };
        if clock::now_ns().saturating_sub(sent_ns) > PATIENCE_NS {
            continue;
        }
        let mut requests = shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = requests.get_mut(place)
            && let Ok(at) = requests.binary_search_by_key(&sent_ns, |(sent_ns, _)| *sent_ns)
            && let Some((_, is_answered)) = requests.get_mut(at)
        {
            *is_answered = true;
        }
    }
}

fn request(now_ns: u64) -> [u8; REQUEST_LEN] {
    let mut packet = [0; REQUEST_LEN];
    packet[0] = ECHO_REQUEST;
    packet[HEADER_LEN..].copy_from_slice(&now_ns.to_be_bytes());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet
}

/// Which request an echo reply (type 0) behind its IPv4 header answers: the time when that was sent.
fn answered(packet: &[u8]) -> Option<u64> {
    let message = packet.get(IPV4_LEN..)?;
    let number = message.get(HEADER_LEN..)?.first_chunk()?;
    (message.first()? == &0).then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::{INTERVAL_NS, longest_loss_ms};

    #[test]
    fn the_longest_loss_is_found_also_at_the_end() {
        let at = |answered: &[bool]| {
            let requests: Vec<(u64, bool)> =
                answered.iter().enumerate().map(|(n, ok)| (n as u64 * INTERVAL_NS, *ok)).collect();
            longest_loss_ms(requests.into_iter())
        };
        assert!(at(&[]).is_nan());
        assert!((at(&[true, true])).abs() < 1e-9);
        assert!((at(&[true, false, true, false, false, true]) - 10.0).abs() < 1e-9);
        assert!((at(&[true, false, true, false, false, false]) - 15.0).abs() < 1e-9);
    }
}
