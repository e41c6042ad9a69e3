//! The machine's own witness: on each processor a thread of the highest fixed priority that sleeps 1 ms at a time and records
//! when it woke late. What is late here is late for everybody: nothing above it is ours but the agents' own deadline threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use agent_tests::lab::{clock, realtime};
use anyhow::Result;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Between two wake-ups.
const INTERVAL_NS: u64 = 1_000_000;
/// The highest.
const PRIORITY: i32 = 99;
/// What is recorded.
const LATE_NS: u64 = 2_000_000;
/// Most records; the oldest are forgotten.
const RECORDS_MAX: usize = 20_000;

/// The running witness.
#[derive(Debug)]
pub struct Stalls {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    worst_ns: AtomicU64,
    late: AtomicU64,
    wakes: AtomicU64,
    records: Mutex<VecDeque<Stall>>,
}

#[derive(Clone, Copy, Debug)]
struct Stall {
    due_ns: u64,
    woke_ns: u64,
}

impl Stalls {
    /// Starts a thread on every processor.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let mut threads = Vec::new();
        for processor in 0..processors {
            let shared = Arc::clone(&shared);
            let name = format!("witness{processor}");
            threads.push(thread::Builder::new().name(name).spawn(move || watch(processor, &shared))?);
        }
        Ok(Self { shared, threads })
    }

    /// The worst lateness that touches this time, in milliseconds; 0 when it was below 2 ms.
    pub fn worst_ms(&self, from_ns: u64, to_ns: u64) -> f64 {
        let records = self.shared.records.lock().unwrap_or_else(PoisonError::into_inner);
        let touching = records.iter().rev().filter(|stall| stall.woke_ns >= from_ns && stall.due_ns <= to_ns);
        touching.map(|stall| clock::ms_between(stall.due_ns, stall.woke_ns)).fold(0.0, f64::max)
    }

    /// The worst lateness of all, in milliseconds.
    pub fn worst_of_all_ms(&self) -> f64 {
        clock::ms_between(0, self.shared.worst_ns.load(Ordering::Relaxed))
    }

    /// How often it was later than 2 ms, and how often it woke at all.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.late.load(Ordering::Relaxed), self.shared.wakes.load(Ordering::Relaxed))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the witness has been printed already.
            let _ = thread.join();
        }
    }
}

fn watch(processor: usize, shared: &Shared) {
    let mut set = CpuSet::new();
    // Where it is not permitted, it runs wherever the kernel puts it.
    let _ = set.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    realtime::fifo(PRIORITY);
    let mut due_ns = clock::now_ns();
    while !shared.stop.load(Ordering::Relaxed) {
        due_ns += INTERVAL_NS;
        clock::sleep_until(due_ns);
        let woke_ns = clock::now_ns();
        let late_ns = woke_ns.saturating_sub(due_ns);
        shared.wakes.fetch_add(1, Ordering::Relaxed);
        shared.worst_ns.fetch_max(late_ns, Ordering::Relaxed);
        if late_ns >= LATE_NS {
            shared.late.fetch_add(1, Ordering::Relaxed);
            let mut records = shared.records.lock().unwrap_or_else(PoisonError::into_inner);
            if records.len() == RECORDS_MAX {
                records.pop_front();
            }
            records.push_back(Stall { due_ns, woke_ns });
            due_ns = woke_ns;
        }
    }
}
