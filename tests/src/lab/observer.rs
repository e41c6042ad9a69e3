//! An observer outside the nodes: it asks *every* node's MAC address for the service address, by ARP and by UDP, all the
//! time, and records by its own clock who answers. A node that may not serve must not answer, whatever it believes.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{MsgFlags, recv, send};

use super::capture::packet_socket;
use super::clock;
use super::echo::PORT as SERVICE_PORT;
use super::frame::edited;
use super::netns::Netns;
use super::network::Port;
use super::realtime;

/// Between two requests of one kind to one node.
const INTERVAL_NS: u64 = 2_000_000;
/// The port that the requests come from.
const PORT: u16 = 7_070;
/// As the client's: the measuring must not wait for the measured.
const PRIORITY: i32 = 61;
/// Most answers that are kept.
const ANSWERS_MAX: usize = 1 << 20;
const FRAME_MAX: usize = 2048;

/// How a node was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// An ARP request.
    Arp,
    /// A datagram to the service.
    Udp,
}

/// A node answered for the service address; times of the observer's CLOCK_MONOTONIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Who, by its MAC address.
    pub node: usize,
    /// To what.
    pub by: By,
    /// When it was asked. An ARP reply does not say to which request it is: of the last two, the earlier.
    pub asked_ns: u64,
    /// When the answer was read.
    pub answered_ns: u64,
}

/// A running observer.
#[derive(Debug)]
pub struct Observer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    address: Ipv4Addr,
    macs: Vec<[u8; 6]>,
    /// By node: requests of both kinds.
    asked: Vec<AtomicU64>,
    /// By node: when it was last asked by ARP, and the time before that.
    arp_ns: Vec<AtomicU64>,
    arp_before_ns: Vec<AtomicU64>,
    /// The worst delay of a request behind its schedule.
    late_max_ns: AtomicU64,
    /// Answers for which there was no room.
    forgotten: AtomicU64,
    answers: Mutex<Vec<Answer>>,
}

impl Observer {
    /// Starts in the namespace `netns` of host `host`, which asks `nodes` for `address`.
    ///
    /// # Errors
    /// A MAC address cannot be read, or no socket can be had.
    pub fn start(netns: &Netns, host: usize, nodes: &[&Netns], address: IpAddr) -> Result<Self> {
        let IpAddr::V4(address) = address else { bail!("the observer asks for IPv4 addresses") };
        let macs = nodes.iter().map(|node| mac(node)).collect::<Result<Vec<_>>>()?;
        let own = mac(netns)?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            address,
            asked: macs.iter().map(|_| AtomicU64::new(0)).collect(),
            arp_ns: macs.iter().map(|_| AtomicU64::new(0)).collect(),
            arp_before_ns: macs.iter().map(|_| AtomicU64::new(0)).collect(),
            macs,
            late_max_ns: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            answers: Mutex::default(),
        });
        let (sender, receiver) = netns.run(|| Ok((packet_socket("eth0")?, packet_socket("eth0")?)))?;
        let from = Port { host, bridge: 0 }.ipv4();
        let asking = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("asks".into()).spawn(move || ask(&sender, own, from, &shared))?
        };
        let hearing = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("hears".into()).spawn(move || hear(&receiver, own, &shared))?
        };
        Ok(Self { shared, threads: vec![asking, hearing] })
    }

    /// All answers read since `from_ns`, in order.
    pub fn answers_since(&self, from_ns: u64) -> Vec<Answer> {
        let answers = self.shared.lock();
        let start = answers.partition_point(|answer| answer.answered_ns < from_ns);
        answers.iter().skip(start).copied().collect()
    }

    /// Takes out what was answered since the last time, in order: who watches for hours keeps no more than that.
    pub fn drain(&self) -> Vec<Answer> {
        std::mem::take(&mut *self.shared.lock())
    }

    /// Answers that were not kept for want of room.
    pub fn forgotten(&self) -> u64 {
        self.shared.forgotten.load(Ordering::Relaxed)
    }

    /// The worst delay of a request behind its schedule: for so long nobody was asked.
    pub fn late_max_ms(&self) -> f64 {
        clock::ms_between(0, self.shared.late_max_ns.load(Ordering::Relaxed))
    }

    /// How many requests went to a node.
    pub fn asked(&self, node: usize) -> u64 {
        self.shared.asked.get(node).map_or(0, |asked| asked.load(Ordering::Relaxed))
    }

    /// Who served since `from_ns`, turn by turn. A turn ends with an answer of another node, unless that was asked before
    /// the turn's first answer was there, and may have been given before it, too. Two nodes that serve at once make a
    /// turn of nearly every answer.
    pub fn turns(&self, from_ns: u64) -> Vec<Turn> {
        let mut turns: Vec<Turn> = Vec::new();
        for answer in self.answers_since(from_ns) {
            match turns.last_mut() {
                Some(turn) if turn.node == answer.node => turn.last_ns = answer.answered_ns,
                Some(turn) if answer.asked_ns <= turn.first_ns => {}
                Some(_) | None => turns.push(Turn {
                    node: answer.node,
                    first_ns: answer.answered_ns,
                    last_ns: answer.answered_ns,
                }),
            }
        }
        turns
    }
}

/// A time in which one node served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Who.
    pub node: usize,
    /// Its first answer.
    pub first_ns: u64,
    /// Its last one.
    pub last_ns: u64,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the observer has been printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mac(netns: &Netns) -> Result<[u8; 6]> {
    // sysfs shows the namespace in which it was mounted: ask iproute2.
    let listed = netns.ip_output(&["-o", "link", "show", "eth0"])?;
    let mut words = listed.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
    let text = words.next().context("eth0 has no MAC address")?;
    let mut mac = [0; 6];
    for (byte, text) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(text, 16).context("not a MAC address")?;
    }
    Ok(mac)
}

fn ask(socket: &OwnedFd, own: [u8; 6], from: Ipv4Addr, shared: &Shared) {
    realtime::fifo(PRIORITY);
    let mut due_ns = clock::now_ns();
    while !shared.stop.load(Ordering::Relaxed) {
        for (node, mac) in shared.macs.iter().enumerate() {
            let count = |sent: nix::Result<usize>| {
                if let (Ok(_), Some(asked)) = (sent, shared.asked.get(node)) {
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            };
            let now_ns = clock::now_ns();
            if let (Some(last), Some(before)) = (shared.arp_ns.get(node), shared.arp_before_ns.get(node)) {
                before.store(last.swap(now_ns, Ordering::Relaxed), Ordering::Relaxed);
            }
            count(send(socket.as_raw_fd(), &arp_request(*mac, own, from, shared.address), MsgFlags::empty()));
            let now_ns = clock::now_ns();
            if let Some(frame) = datagram(*mac, own, from, shared.address, now_ns) {
                count(send(socket.as_raw_fd(), &frame, MsgFlags::empty()));
            }
        }
        due_ns += INTERVAL_NS;
        clock::sleep_until(due_ns);
        let now_ns = clock::now_ns();
        shared.late_max_ns.fetch_max(now_ns.saturating_sub(due_ns), Ordering::Relaxed);
        // After a stall the schedule goes on from now: a burst of late requests would say nothing.
        due_ns = due_ns.max(now_ns.saturating_sub(INTERVAL_NS));
    }
}

fn arp_request(to: [u8; 6], own: [u8; 6], from: Ipv4Addr, asked: Ipv4Addr) -> Vec<u8> {
    let mut frame = [to, own].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(own);
    frame.extend(from.octets());
    frame.extend([0; 6]);
    frame.extend(asked.octets());
    frame
}

/// The probe's number is its time.
fn datagram(to: [u8; 6], own: [u8; 6], from: Ipv4Addr, asked: Ipv4Addr, number: u64) -> Option<Vec<u8>> {
    let mut frame = [to, own].concat();
    frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(from.octets());
    frame.extend(asked.octets());
    frame.extend(PORT.to_be_bytes());
    frame.extend(SERVICE_PORT.to_be_bytes());
    frame.extend([0; 4]);
    // Lengths and checksums.
    edited(&frame, |payload| *payload = number.to_be_bytes().to_vec())
}

fn hear(socket: &OwnedFd, own: [u8; 6], shared: &Shared) {
    realtime::fifo(PRIORITY);
    let mut buffer = [0; FRAME_MAX];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok(len) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { continue };
        let answered_ns = clock::now_ns();
        let frame = buffer.get(..len).unwrap_or_default();
        if let Some((node, by, asked_ns)) = read(frame, own, shared) {
            let mut answers = shared.lock();
            if answers.len() < ANSWERS_MAX {
                answers.push(Answer { node, by, asked_ns, answered_ns });
            } else {
                shared.forgotten.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Who answered what, if the frame is an answer for the service address.
fn read(frame: &[u8], own: [u8; 6], shared: &Shared) -> Option<(usize, By, u64)> {
    let address = shared.address.octets();
    if frame.get(..6)? != own {
        return None;
    }
    let sender = frame.get(6..12)?;
    let node = shared.macs.iter().position(|mac| mac == sender)?;
    match frame.get(12..14)? {
        [8, 6] if frame.get(28..32)? == address && frame.get(20..22)? == [0, 2] => {
            Some((node, By::Arp, shared.arp_before_ns.get(node)?.load(Ordering::Relaxed)))
        }
        [8, 0] if frame.get(26..30)? == address && frame.get(23)? == &17 => {
            let number = frame.get(42..50)?.first_chunk::<8>()?;
            Some((node, By::Udp, u64::from_be_bytes(*number)))
        }
        _ => None,
    }
}
