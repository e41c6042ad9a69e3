//! What the machine itself does while clusters are measured: how busy it is, and when it stood still. One thread on each CPU
//! sleeps a millisecond again and again, above everything measured; what it wakes late, all others did, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Between two wake-ups.
const TICK_NS: u64 = 1_000_000;
/// Later than this is a stall.
const STALL_NS: u64 = 5_000_000;
/// Above everything measured.
const PRIORITY: i32 = 90;
/// Most stalls remembered.
const STALLS_MAX: usize = 100_000;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Lateness>>,
    threads: Vec<JoinHandle<()>>,
}

/// How late wake-ups were.
#[derive(Clone, Default, Debug)]
pub struct Lateness {
    /// The worst.
    pub max_ns: u64,
    /// When a CPU stood still, from the time when it should have woken.
    pub stalls: Vec<(u64, u64)>,
}

/// Readings of `/proc/stat`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Busy {
    idle: u64,
    all: u64,
}

impl Watch {
    /// # Errors
    /// No thread to be had.
    pub fn start() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::<Mutex<Lateness>>::default();
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let spawn = |cpu: usize| {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            thread::Builder::new().name("watch".into()).spawn(move || watch(cpu, &stop, &seen))
        };
        let threads = (0..cpus).map(spawn).collect::<std::io::Result<_>>()?;
        Ok(Self { stop, seen, threads })
    }

    /// What was seen since the last time.
    pub fn take(&self) -> Lateness {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}

impl Lateness {
    /// Whether a CPU stood still at any time between these.
    pub fn stalled_between(&self, from_ns: u64, to_ns: u64) -> bool {
        self.stalls.iter().any(|(start_ns, end_ns)| *start_ns <= to_ns && *end_ns >= from_ns)
    }
}

impl Busy {
    /// # Errors
    /// `/proc/stat` is not as it should be.
    pub fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let times: Vec<u64> = line.split_whitespace().skip(1).filter_map(|time| time.parse().ok()).collect();
        let idle = times.iter().skip(3).take(2).sum();
        // Time of guests is in that of users, too.
        Ok(Self { idle, all: times.iter().take(8).sum() })
    }

    /// Part of the time, of all CPUs, in which they were not idle since `before`.
    pub fn part_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        1.0 - self.idle.saturating_sub(before.idle) as f64 / all as f64
    }
}

fn watch(cpu: usize, stop: &AtomicBool, seen: &Mutex<Lateness>) {
    let mut only = CpuSet::new();
    // On another CPU it watches that one.
    let _ = only.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
    realtime::fifo(PRIORITY);
    let mut due_ns = clock::now_ns();
    while !stop.load(Ordering::Relaxed) {
        due_ns += TICK_NS;
        clock::sleep_until(due_ns);
        let now_ns = clock::now_ns();
        let late_ns = now_ns.saturating_sub(due_ns);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.max_ns = seen.max_ns.max(late_ns);
        if late_ns > STALL_NS && seen.stalls.len() < STALLS_MAX {
            seen.stalls.push((due_ns, now_ns));
        }
        drop(seen);
        due_ns = due_ns.max(now_ns.saturating_sub(TICK_NS));
    }
}
