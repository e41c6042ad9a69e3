//! Sends frames at a port of the switch as fast as one core can: packet(7) past the queueing discipline, many to a system call.
//! It ends by itself after its time, and at once when it is dropped.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::network::{Network, Port};
use anyhow::{Context as _, Result, anyhow, ensure};
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Frames of one system call.
const BATCH: usize = 64;
/// Longest flood.
const LIMIT: Duration = Duration::from_secs(60);

/// A running flood.
#[derive(Debug)]
pub struct Generator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Sent>>,
}

/// What a flood was.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sent {
    /// Frames that the kernel took.
    pub frames: u64,
    /// Frames that it did not take: the interface had no room.
    pub refused: u64,
    /// How long it lasted.
    pub seconds: f64,
    /// How long the thread ran, with all that the kernel did in its place.
    pub cpu_seconds: f64,
}

impl Generator {
    /// Towards the host at `port`, from the switch's side of it, for so long at most.
    ///
    /// # Errors
    /// Not privileged, no such port, or nothing to send.
    pub fn start(network: &Network, port: Port, frames: Vec<Vec<u8>>, span: Duration) -> Result<Self> {
        ensure!(!frames.is_empty(), "nothing to send");
        let socket = network.switch().run(|| sender(&port.name()))?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("flood".into())
            .spawn(move || flood(&socket, &frames, clock::ns(span.min(LIMIT)), &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Waits until it is over.
    ///
    /// # Errors
    /// Its thread panicked.
    pub fn finish(mut self) -> Result<Sent> {
        let thread = self.thread.take().context("no thread")?;
        thread.join().map_err(|_| anyhow!("the generator panicked"))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}

/// A packet socket that only sends, past the queueing discipline: it sees no frame, and no capture sees its.
fn sender(interface: &str) -> Result<OwnedFd> {
    // SAFETY: plain system call, no pointers.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    ensure!(raw >= 0, "cannot open a packet socket: {}", std::io::Error::last_os_error());
    // SAFETY: `raw` was just opened and is owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on))?;
    // SAFETY: the pointer and the length are of the same integer.
    let set = unsafe {
        libc::setsockopt(raw, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, (&raw const on).cast(), len)
    };
    ensure!(set == 0, "PACKET_QDISC_BYPASS: {}", std::io::Error::last_os_error());
    let index =
        nix::net::if_::if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
    // SAFETY: all-zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_ifindex = i32::try_from(index)?;
    let len = libc::socklen_t::try_from(size_of_val(&address))?;
    // SAFETY: the pointer and the length are of the same `sockaddr_ll`.
    let bound = unsafe { libc::bind(raw, (&raw const address).cast(), len) };
    ensure!(bound == 0, "cannot bind to {interface}: {}", std::io::Error::last_os_error());
    Ok(socket)
}

fn flood(socket: &OwnedFd, frames: &[Vec<u8>], span_ns: u64, stop: &AtomicBool) -> Sent {
    on_last_cpu();
    let turns = frames.iter().cycle().take(frames.len().next_multiple_of(BATCH));
    let mut pieces: Vec<libc::iovec> = turns
        .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = pieces.iter_mut().map(message).collect();
    let mut sent = Sent::default();
    let (from_ns, cpu_from) = (clock::now_ns(), thread_seconds());
    let mut now_ns = from_ns;
    while now_ns - from_ns < span_ns && !stop.load(Ordering::Relaxed) && !clock::is_interrupted() {
        for batch in messages.chunks_mut(BATCH) {
            send_all(socket, batch, &mut sent);
        }
        now_ns = clock::now_ns();
    }
    sent.seconds = (now_ns - from_ns) as f64 / 1e9;
    sent.cpu_seconds = thread_seconds() - cpu_from;
    sent
}

fn message(piece: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all-zero is a valid `mmsghdr`.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = std::ptr::from_mut(piece);
    message.msg_hdr.msg_iovlen = 1;
    message
}

fn send_all(socket: &OwnedFd, mut batch: &mut [libc::mmsghdr], sent: &mut Sent) {
    while let Ok(count) = u32::try_from(batch.len())
        && count > 0
    {
        // SAFETY: the messages point to pieces, and these to frames, that outlive the call; the count is theirs.
        let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), batch.as_mut_ptr(), count, 0) };
        let done = match usize::try_from(taken) {
            Ok(taken) => {
                sent.frames += taken as u64;
                taken
            }
            Err(_) => {
                sent.refused += 1;
                1
            }
        };
        batch = batch.get_mut(done..).unwrap_or_default();
    }
}

/// All floods run on one processor, and it is not the first.
fn on_last_cpu() {
    let last = thread::available_parallelism().map_or(1, usize::from) - 1;
    let mut set = CpuSet::new();
    // Where the processor may not be chosen, the scheduler chooses.
    if set.set(last).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

fn thread_seconds() -> f64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(0.0, |time| clock::to_ns(&time) as f64 / 1e9)
}
