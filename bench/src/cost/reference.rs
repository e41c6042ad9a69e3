//! The least that a sender of heartbeats can be: a realtime thread with a periodic timer that sends a datagram as long as a
//! heartbeat, and nothing else. It runs beside the agents, so both meet the same machine. Its datagrams look like heartbeats of
//! the cluster, so that the receiver's program handles and drops them, but their key is another: the screen refuses them.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agent_common::maps::KeyState;
use agent_common::wire::{FRAME_MAX, cluster_id, encode};
use agent_common::{Beat, KeyId, LinkId, NodeId};
use agent_tests::lab::netns::Netns;
use agent_tests::lab::network::Port;
use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;

/// As the agent's realtime thread.
const PRIORITY: i32 = 60;
/// The node that it sends to, and where heartbeats arrive.
const TO: Port = Port { host: 0, bridge: 0 };
const PORT: u16 = 694;

/// The running loop.
pub struct Loop {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<f64>>,
}

impl Loop {
    /// Sends from `host` once in `interval`.
    ///
    /// # Errors
    /// No socket, timer or thread can be had.
    pub fn start(host: &Netns, interval: Duration) -> Result<Self> {
        let socket = host.run(|| {
            let socket =
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot bind the loop's socket")?;
            socket.connect(SocketAddrV4::new(TO.ipv4(), PORT))?;
            Ok(socket)
        })?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        let every = Expiration::Interval(TimeSpec::from_duration(interval));
        timer.set(every, TimerSetTimeFlags::empty())?;
        let stop = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&stop);
        let thread =
            thread::Builder::new().name("loop".into()).spawn(move || run(&socket, timer, &ending))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it: the thread's processor time for one frame, nanoseconds.
    pub fn finish(mut self) -> f64 {
        self.end()
    }

    fn end(&mut self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        // A panic of the loop has been printed already.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(f64::NAN)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(socket: &UdpSocket, timer: TimerFd, stop: &AtomicBool) -> f64 {
    realtime::fifo(PRIORITY);
    let mut timer = std::fs::File::from(OwnedFd::from(timer));
    let (mut frame, mut expired, mut sent) = ([0; FRAME_MAX], [0; 8], 0.0);
    let length = forge(&mut frame);
    let frame = frame.get(..length).unwrap_or_default();
    let before_ns = processor_ns();
    while !stop.load(Ordering::Relaxed) && timer.read_exact(&mut expired).is_ok() {
        // A refusal that came back by ICMP costs a system call as well.
        let _ = socket.send(frame);
        sent += 1.0;
    }
    (processor_ns() - before_ns) as f64 / sent
}

/// A heartbeat of the second node that the first will not believe.
fn forge(frame: &mut [u8; FRAME_MAX]) -> usize {
    let mut beat = Beat::empty(NodeId::new(1).unwrap_or(NodeId::FIRST));
    (beat.incarnation, beat.seq) = (u64::MAX / 2, 1);
    (beat.keepalive_us, beat.deadtime_us) = (10_000, 50_000);
    let key = KeyState::from_secret(&[0x42; 32]);
    KeyId::new(1).map_or(0, |id| {
        encode(&beat, LinkId::FIRST, beat.keepalive_us, cluster_id(super::cluster::NAME), id, &key, frame)
    })
}

fn processor_ns() -> u64 {
    clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| clock::to_ns(&time))
}
