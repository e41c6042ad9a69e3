//! Two rt loops beside the threads of their serial lines, joined by pseudo terminals: heartbeats come over both links,
//! and the loops allocate nothing for them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use agent_core::PeerState;
use common::{Agent, agent_with_line, peer_states, rounds};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use xbeat::stats::LineStats;

const PORT: u16 = 46_952;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what this thread asks for and gives back.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Two pseudo terminals and a thread that carries bytes between them.
struct Cable {
    devices: [PathBuf; 2],
    ended: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
}

impl Cable {
    fn new() -> Self {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let masters = [(); 2].map(|()| posix_openpt(flags).unwrap());
        masters.iter().for_each(|master| grantpt(master).and_then(|()| unlockpt(master)).unwrap());
        let devices = [0, 1].map(|end: usize| PathBuf::from(ptsname_r(&masters[end]).unwrap()));
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let pump = std::thread::spawn(move || carry(&masters, &stop));
        Self { devices, ended, pump: Some(pump) }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.pump.take().unwrap().join().unwrap();
    }
}

fn carry(masters: &[PtyMaster; 2], ended: &AtomicBool) {
    let mut bytes = [0; 4096];
    while !ended.load(Ordering::Relaxed) {
        // A terminal that nobody has open hangs up all the time: then this turns as fast as the timeout.
        let mut ready = [0, 1].map(|end: usize| PollFd::new(masters[end].as_fd(), PollFlags::POLLIN));
        poll(&mut ready, PollTimeout::from(10u8)).unwrap();
        for (from, to) in [(0, 1), (1, 0)] {
            let length = nix::unistd::read(&masters[from], &mut bytes).unwrap_or(0);
            let _ = nix::unistd::write(&masters[to], &bytes[..length]);
        }
    }
}

fn line(agent: &Agent) -> &LineStats {
    &agent.stats.lines[0]
}

fn received(agent: &Agent) -> u64 {
    line(agent).received_frames.load(Ordering::Relaxed)
}

#[test]
fn heartbeats_over_a_line_allocate_nothing() {
    let cable = Cable::new();
    let mut alpha = agent_with_line(0, 5, PORT, cable.devices.clone());
    let mut beta = agent_with_line(1, 5, PORT, cable.devices.clone());
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| received(agent) >= 5));
    assert!(peer_states(&mut beta).contains(&PeerState::Up));

    let before = ALLOCATIONS.with(Cell::get);
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| received(agent) >= 30));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert!(line(&beta).sent_frames.load(Ordering::Relaxed) >= 25);
    assert!(beta.stats.sent[1].load(Ordering::Relaxed) >= 25, "heartbeats of the link");
    assert_eq!(line(&beta).noise.load(Ordering::Relaxed), 0);
    peer_states(&mut beta);

    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(vec![1u8; 16]));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 2, "the count works");
}
