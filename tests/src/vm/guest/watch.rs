//! Asks one machine by ARP for an address, all the time, and notes when it last answered and when anything last came from
//! the address there: by one clock, which is also that of the takeover's events.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::lab::capture::packet_socket;
use crate::lab::clock;
use crate::vm::protocol::{INTERFACE, Watched};

/// Between two requests.
const INTERVAL_NS: u64 = 20_000_000;
const FRAME_MAX: usize = 2048;

pub(super) struct Watch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    watched: Mutex<Watched>,
}

impl Shared {
    fn note(&self, change: impl FnOnce(&mut Watched)) {
        change(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Watch {
    pub(super) fn start(mac: [u8; 6], address: Ipv4Addr, own: Ipv4Addr) -> Result<Self> {
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), watched: Mutex::default() });
        let request = arp_request(mac, own_mac()?, own, address);
        let (sender, receiver) = (packet_socket(INTERFACE)?, packet_socket(INTERFACE)?);
        let asking = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("asks".into()).spawn(move || ask(&sender, &request, &shared))?
        };
        let hearing = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("hears".into())
                .spawn(move || hear(&receiver, mac, address, &shared))?
        };
        Ok(Self { shared, threads: vec![asking, hearing] })
    }

    pub(super) fn watched(&self) -> Watched {
        *self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}

fn own_mac() -> Result<[u8; 6]> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{INTERFACE}/address"))?;
    let mut mac = [0; 6];
    for (byte, text) in mac.iter_mut().zip(text.trim().split(':')) {
        *byte = u8::from_str_radix(text, 16).context("not a MAC address")?;
    }
    Ok(mac)
}

/// To that machine alone.
fn arp_request(to: [u8; 6], own: [u8; 6], from: Ipv4Addr, asked: Ipv4Addr) -> Vec<u8> {
    let mut frame = [to, own].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(own);
    frame.extend(from.octets());
    frame.extend([0; 6]);
    frame.extend(asked.octets());
    frame
}

fn ask(socket: &OwnedFd, request: &[u8], shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        if send(socket.as_raw_fd(), request, MsgFlags::empty()).is_ok() {
            shared.note(|watched| watched.asked += 1);
        }
        clock::sleep_until(clock::now_ns() + INTERVAL_NS);
    }
}

fn hear(socket: &OwnedFd, mac: [u8; 6], address: Ipv4Addr, shared: &Shared) {
    let mut buffer = [0; FRAME_MAX];
    while !shared.stop.load(Ordering::Relaxed) {
        // The socket gives up waiting now and then.
        let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { continue };
        let now_ns = clock::now_ns();
        let frame = buffer.get(..length).unwrap_or_default();
        match said(frame, mac, address) {
            Some(Said::Answer) => shared.note(|watched| {
                watched.answers += 1;
                watched.last_answer_ns = now_ns;
            }),
            Some(Said::Datagram) => shared.note(|watched| {
                watched.heard += 1;
                watched.last_heard_ns = now_ns;
            }),
            None => {}
        }
    }
}

/// What a machine says from the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Answer,
    Datagram,
}

fn said(frame: &[u8], mac: [u8; 6], address: Ipv4Addr) -> Option<Said> {
    let address = address.octets();
    if frame.get(6..12)? != mac {
        return None;
    }
    match frame.get(12..14)? {
        [8, 6] if frame.get(20..22)? == [0, 2] && frame.get(28..32)? == address => Some(Said::Answer),
        [8, 0] if frame.get(26..30)? == address => Some(Said::Datagram),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Said, arp_request, said};

    #[test]
    fn only_what_that_machine_says_from_the_address_counts() {
        let (mac, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let (address, own) = ([10, 0, 0, 9].into(), [10, 0, 0, 1].into());
        // A reply has the sender's address in the same place as a request.
        let mut reply = arp_request(other, mac, address, own);
        assert_eq!(said(&reply, mac, address), None, "a request");
        reply[21] = 2;
        assert_eq!(said(&reply, mac, address), Some(Said::Answer));
        assert_eq!(said(&reply, other, address), None, "of another machine");
        assert_eq!(said(&reply, mac, own), None, "for another address");
        let mut datagram = [other, mac].concat();
        datagram.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1]);
        assert_eq!(said(&datagram, mac, address), Some(Said::Datagram));
        assert_eq!(said(&datagram[..20], mac, address), None, "cut short");
    }
}
