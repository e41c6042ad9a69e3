//! A client of the service: one UDP probe each millisecond, and of every probe when it was sent, when and by whom it was
//! answered. Its gap is the time between the sending of the last answered and the first answered probe around a fault.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};

use super::clock;
use super::echo::{ANSWER_LEN, PROBE_LEN, service};
use super::netns::Netns;
use super::realtime;

/// Between two probes.
const INTERVAL_NS: u64 = 1_000_000;
/// Probes that are remembered: ten minutes. Older ones are forgotten, so that a client can ask for hours.
const PROBES_MAX: usize = 600_000;
/// The oldest of them, which are written anew next, are not read.
const SPARED: usize = 2_000;
/// Between two looks of a client at rest.
const REST_NS: u64 = 5_000_000;
/// How often a thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// Above the agents: the measuring must not wait for the measured.
const PRIORITY: i32 = 61;

/// A running client.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    rests: AtomicBool,
    sent: AtomicUsize,
    late_max_ns: AtomicU64,
    interval_ns: u64,
    probes: Vec<Probe>,
}

#[derive(Debug, Default)]
struct Probe {
    number: AtomicUsize,
    sent_ns: AtomicU64,
    answered_ns: AtomicU64,
    node: AtomicU8,
}

/// An answered probe; times of CLOCK_MONOTONIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// When the probe was sent.
    pub sent_ns: u64,
    /// When the answer was read.
    pub answered_ns: u64,
    /// Who answered.
    pub node: u8,
}

/// A time without service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The last answer before.
    pub last: Answer,
    /// The first answer after.
    pub first: Answer,
}

impl Gap {
    /// From the sending of the last answered to the sending of the first answered probe, in milliseconds.
    pub fn ms(&self) -> f64 {
        clock::ms_between(self.last.sent_ns, self.first.sent_ns)
    }
}

impl Client {
    /// Starts probing `address` from inside `netns`.
    ///
    /// # Errors
    /// No socket or thread to be had.
    pub fn start(netns: &Netns, address: IpAddr) -> Result<Self> {
        Self::start_every(netns, address, Duration::from_nanos(INTERVAL_NS))
    }

    /// As [`Client::start`], with another time between two probes.
    ///
    /// # Errors
    /// No socket or thread to be had.
    pub fn start_every(netns: &Netns, address: IpAddr, interval: Duration) -> Result<Self> {
        let socket = netns.run(|| {
            let socket = match address {
                IpAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
                IpAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
            };
            socket.context("cannot open the client's socket")
        })?;
        socket.set_read_timeout(Some(LOOK))?;
        let shared = Arc::new(Shared::new(PROBES_MAX, interval));
        let sender = {
            let (socket, shared) = (socket.try_clone()?, Arc::clone(&shared));
            thread::Builder::new()
                .name("probes".into())
                .spawn(move || send_probes(&socket, address, &shared))?
        };
        let receiver = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("answers".into()).spawn(move || read_answers(&socket, &shared))?
        };
        Ok(Self { shared, threads: vec![sender, receiver] })
    }

    /// One that asks nothing, where nothing but the cluster itself may have a cost.
    pub fn silent() -> Self {
        Self { shared: Arc::new(Shared::new(0, Duration::from_nanos(INTERVAL_NS))), threads: Vec::new() }
    }

    /// All answers to probes sent from `from_ns` on, in order of sending.
    pub fn answers_since(&self, from_ns: u64) -> Vec<Answer> {
        self.shared.probes_since(from_ns).filter_map(Probe::answer).collect()
    }

    /// The newest answer among the probes of the last `within`.
    pub fn newest_answer(&self, within: Duration) -> Option<Answer> {
        self.answers_since(clock::now_ns().saturating_sub(clock::ns(within))).last().copied()
    }

    /// How many probes were sent in this time, and how many of them have no answer.
    pub fn lost(&self, from_ns: u64, to_ns: u64) -> (usize, usize) {
        let probes = self.shared.probes_since(from_ns);
        let asked = probes.take_while(|probe| probe.sent_ns.load(Ordering::Relaxed) < to_ns);
        asked.fold((0, 0), |(sent, lost), probe| (sent + 1, lost + usize::from(probe.answer().is_none())))
    }

    /// All probes sent in this time, in order: when, and who answered.
    pub fn probes(&self, from_ns: u64, to_ns: u64) -> Vec<(u64, Option<u8>)> {
        let probes = self.shared.probes_since(from_ns);
        let probes = probes.map(|probe| (probe.sent_ns.load(Ordering::Relaxed), probe.answer()));
        let asked = probes.take_while(|(sent_ns, _)| *sent_ns < to_ns);
        asked.map(|(sent_ns, answer)| (sent_ns, answer.map(|answer| answer.node))).collect()
    }

    /// Sends nothing for a while, or again: a client that nobody reads takes time from those who are measured.
    pub fn rest(&self, rests: bool) {
        self.shared.rests.store(rests, Ordering::Relaxed);
    }

    /// The longest gap among the probes sent from `from_ns` on.
    pub fn longest_gap(&self, from_ns: u64) -> Option<Gap> {
        let answers = self.answers_since(from_ns);
        let gaps = answers
            .iter()
            .zip(answers.iter().skip(1))
            .map(|(last, first)| Gap { last: *last, first: *first });
        gaps.max_by_key(|gap| gap.first.sent_ns - gap.last.sent_ns)
    }

    /// Ends the probing; what was answered stays.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// The worst delay of a probe behind its schedule: what the machine, not the service, took.
    pub fn late_max_ms(&self) -> f64 {
        clock::ms_between(0, self.shared.late_max_ns.load(Ordering::Relaxed))
    }

    /// Starts the worst delay anew.
    pub fn forget_lateness(&self) {
        self.shared.late_max_ns.store(0, Ordering::Relaxed);
    }
}

impl Shared {
    fn new(probes_max: usize, interval: Duration) -> Self {
        let mut probes = Vec::new();
        probes.resize_with(probes_max, Probe::default);
        Self {
            stop: AtomicBool::new(false),
            rests: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
            late_max_ns: AtomicU64::new(0),
            interval_ns: clock::ns(interval),
            probes,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            // A panic of the client has been printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The place of a probe: the places are used again and again.
    fn probe(&self, number: usize) -> Option<&Probe> {
        self.probes.get(number % self.probes.len().max(1))
    }

    /// What is remembered of the probes sent from `from_ns` on, in order.
    fn probes_since(&self, from_ns: u64) -> impl Iterator<Item = &Probe> {
        let sent = self.sent.load(Ordering::Acquire);
        let is_before = |number: usize| {
            self.probe(number).is_some_and(|probe| probe.sent_ns.load(Ordering::Relaxed) < from_ns)
        };
        let (mut low, mut high) = (sent.saturating_sub(self.probes.len().saturating_sub(SPARED)), sent);
        while low < high {
            let middle = low.midpoint(high);
            if is_before(middle) { low = middle + 1 } else { high = middle }
        }
        (low..sent).filter_map(|number| self.probe(number))
    }
}

impl Probe {
    fn answer(&self) -> Option<Answer> {
        let answered_ns = self.answered_ns.load(Ordering::Acquire);
        (answered_ns != 0).then(|| Answer {
            sent_ns: self.sent_ns.load(Ordering::Relaxed),
            answered_ns,
            node: self.node.load(Ordering::Relaxed),
        })
    }
}

fn send_probes(socket: &UdpSocket, address: IpAddr, shared: &Shared) {
    realtime::fifo(PRIORITY);
    let to = SockaddrStorage::from(service(address));
    let mut due_ns = clock::now_ns();
    for number in 0.. {
        let Some(probe) = shared.probe(number) else { return };
        if shared.rests.load(Ordering::Relaxed) {
            while shared.rests.load(Ordering::Relaxed) && !shared.stop.load(Ordering::Relaxed) {
                clock::sleep_until(clock::now_ns() + REST_NS);
            }
            due_ns = clock::now_ns();
        }
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        clock::sleep_until(due_ns);
        let now_ns = clock::now_ns();
        shared.late_max_ns.fetch_max(now_ns.saturating_sub(due_ns), Ordering::Relaxed);
        probe.answered_ns.store(0, Ordering::Relaxed);
        probe.number.store(number, Ordering::Relaxed);
        probe.sent_ns.store(now_ns, Ordering::Relaxed);
        shared.sent.store(number + 1, Ordering::Release);
        // An unreachable service is what is being measured.
        // It must not be waited for: the probes before may still wait for somebody to answer ARP.
        let probe = (number as u64).to_be_bytes();
        let _ = sendto(socket.as_raw_fd(), &probe, &to, MsgFlags::MSG_DONTWAIT);
        // After a stall the schedule goes on from now: a burst of late probes would say nothing.
        due_ns = (due_ns + shared.interval_ns).max(now_ns);
    }
}

fn read_answers(socket: &UdpSocket, shared: &Shared) {
    realtime::fifo(PRIORITY);
    let mut answer = [0; ANSWER_LEN];
    while !shared.stop.load(Ordering::Relaxed) {
        // Errors are timeouts and the ICMP messages of a node without the address.
        let Ok(ANSWER_LEN) = socket.recv(&mut answer) else { continue };
        let now_ns = clock::now_ns();
        let Some((number, rest)) = answer.split_first_chunk::<PROBE_LEN>() else { continue };
        let number = usize::try_from(u64::from_be_bytes(*number)).unwrap_or(usize::MAX);
        let (Some(probe), Some(node)) = (shared.probe(number), rest.first()) else { continue };
        // An answer to a probe that was forgotten.
        if probe.number.load(Ordering::Relaxed) != number {
            continue;
        }
        probe.node.store(*node, Ordering::Relaxed);
        probe.answered_ns.store(now_ns, Ordering::Release);
    }
}
