//! What passes a port of the switch, with the kernel's time stamps turned into CLOCK_MONOTONIC.
//! A frame to a host is seen as it leaves the port, a few microseconds before the host's XDP program sees it.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeSpec, TimeVal};

use super::clock;
use super::frame::{Kind, kind};
use super::network::{Network, Port};
use super::realtime;

/// Longest frame.
const FRAME_MAX: usize = 2048;
/// Most frames kept; later ones are dropped.
const FRAMES_MAX: usize = 1 << 20;
/// How often the thread looks whether it should end.
const LOOK_MS: i64 = 50;
/// The receive buffer, for the times when the machine is busy.
const BUFFER_BYTES: usize = 8 << 20;
/// Below everything measured: the stamps are the kernel's.
const PRIORITY: i32 = 30;

/// Which way a frame passed the port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The host sent it.
    FromHost,
    /// It went to the host.
    ToHost,
}

/// A captured frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// CLOCK_MONOTONIC of the kernel's stamp.
    pub at_ns: u64,
    /// Which way.
    pub direction: Direction,
    /// What it is.
    pub kind: Kind,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// Signs of life that passed a port one way.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Signs {
    /// Frames.
    pub frames: u64,
    /// Their bytes, from the Ethernet header on, without checksum and preamble.
    pub bytes: u64,
}

/// A running capture of everything that is not [`Kind::Other`].
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// What the thread is to run at, 0 for what it runs at.
    priority: AtomicI32,
    frames: Mutex<Vec<Captured>>,
    from_host: Counter,
    to_host: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Capture {
    /// Starts at the switch's side of `port`.
    ///
    /// # Errors
    /// Not privileged, or no such port.
    pub fn start(network: &Network, port: Port) -> Result<Self> {
        let socket = network.switch().run(|| packet_socket(&port.name()))?;
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("capture".into()).spawn(move || collect(&socket, &shared))?
        };
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lets it run at another SCHED_FIFO priority from now on, for loads that would starve it: what it does not read in
    /// time is lost.
    pub fn run_at(&self, priority: i32) {
        self.shared.priority.store(priority, Ordering::Relaxed);
    }

    /// Frames since `from_ns` that `wanted` accepts, in order of capture.
    pub fn frames(&self, from_ns: u64, wanted: impl Fn(&Captured) -> bool) -> Vec<Captured> {
        let frames = self.shared.lock();
        let start = frames.partition_point(|frame| frame.at_ns < from_ns);
        frames.iter().skip(start).filter(|frame| wanted(frame)).cloned().collect()
    }

    /// When the last heartbeat of `node` went to the host, no later than `before_ns`.
    pub fn last_heartbeat_ns(&self, node: u8, before_ns: u64) -> Option<u64> {
        let frames = self.shared.lock();
        let is_wanted = |frame: &&Captured| {
            frame.at_ns <= before_ns
                && frame.direction == Direction::ToHost
                && frame.kind.is_heartbeat_of(node)
        };
        frames.iter().rev().find(is_wanted).map(|frame| frame.at_ns)
    }

    /// The first frame of the host since `from_ns` that announces `address`.
    pub fn first_announcement_ns(&self, address: std::net::IpAddr, from_ns: u64) -> Option<u64> {
        let frames = self.shared.lock();
        let is_wanted = |frame: &&Captured| {
            frame.at_ns >= from_ns
                && frame.direction == Direction::FromHost
                && frame.kind == Kind::Announcement(address)
        };
        frames.iter().find(is_wanted).map(|frame| frame.at_ns)
    }

    /// Signs of life that passed since the start, also those that were forgotten or for which there was no room.
    pub fn signs(&self, direction: Direction) -> Signs {
        let counter = self.shared.counter(direction);
        Signs { frames: counter.frames.load(Ordering::Relaxed), bytes: counter.bytes.load(Ordering::Relaxed) }
    }

    /// Ends the capture; what was captured stays.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Forgets what was captured so far.
    pub fn clear(&self) {
        self.shared.lock().clear();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the capture has been printed already.
            let _ = thread.join();
        }
    }
}

impl Kind {
    /// Whether it is a heartbeat of `wanted`.
    pub fn is_heartbeat_of(self, wanted: u8) -> bool {
        match self {
            Self::Heartbeat { node, .. } => node == wanted,
            Self::Announcement(_) | Self::Vrrp(_) | Self::Peer(_) | Self::Other => false,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Captured>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn counter(&self, direction: Direction) -> &Counter {
        match direction {
            Direction::FromHost => &self.from_host,
            Direction::ToHost => &self.to_host,
        }
    }
}

/// A raw packet socket (packet(7)) on one interface that sees all protocols in both directions.
pub fn packet_socket(interface: &str) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
        .context("cannot open a packet socket")?;
    let index =
        nix::net::if_::if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
    // SAFETY: all-zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
    address.sll_ifindex = i32::try_from(index)?;
    let len = u32::try_from(size_of_val(&address))?;
    // SAFETY: the pointer and the length are of the same `sockaddr_ll`.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    if bound < 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot bind to {interface}"));
    }
    setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, LOOK_MS * 1000))?;
    // Smaller where this is not permitted.
    let _ = setsockopt(&fd, sockopt::RcvBufForce, &BUFFER_BYTES);
    Ok(fd)
}

fn collect(socket: &OwnedFd, shared: &Shared) {
    realtime::fifo(PRIORITY);
    let mut buffer = vec![0; FRAME_MAX];
    let mut space = cmsg_space!(TimeSpec);
    while !shared.stop.load(Ordering::Relaxed) {
        match shared.priority.swap(0, Ordering::Relaxed) {
            0 => {}
            priority => {
                realtime::fifo(priority);
            }
        }
        let Some((len, wall_ns, direction)) = receive(socket, &mut buffer, &mut space) else { continue };
        let bytes = buffer.get(..len).unwrap_or_default();
        let kind = kind(bytes);
        if kind == Kind::Other {
            continue;
        }
        if kind.is_sign_of_life() {
            let counter = shared.counter(direction);
            counter.frames.fetch_add(1, Ordering::Relaxed);
            counter.bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
        let at_ns = wall_ns.saturating_sub(clock::realtime_offset_ns());
        let mut frames = shared.lock();
        if frames.len() < FRAMES_MAX {
            frames.push(Captured { at_ns, direction, kind, bytes: bytes.to_vec() });
        }
    }
}

/// Length, CLOCK_REALTIME of the stamp, direction.
fn receive(socket: &OwnedFd, buffer: &mut [u8], space: &mut [u8]) -> Option<(usize, u64, Direction)> {
    let mut buffers = [IoSliceMut::new(buffer)];
    let received =
        recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut buffers, Some(space), MsgFlags::empty()).ok()?;
    let stamp = received.cmsgs().ok()?.find_map(|message| {
        if let ControlMessageOwned::ScmTimestampns(time) = message { Some(clock::to_ns(&time)) } else { None }
    })?;
    let packet_type = received.address.map(|address| packet_type(&address))?;
    let direction =
        if packet_type == libc::PACKET_OUTGOING { Direction::ToHost } else { Direction::FromHost };
    Some((received.bytes, stamp, direction))
}

fn packet_type(address: &LinkAddr) -> u8 {
    let raw: &libc::sockaddr_ll = address.as_ref();
    raw.sll_pkttype
}
