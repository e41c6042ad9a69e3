//! The machine's own witness: on each processor a thread of the highest fixed priority that sleeps 1 ms at a time and records
//! when it woke late. What is late here is late for everybody: nothing above it is ours but the agents' own deadline threads.

use std::collections::{BTreeMap, VecDeque};
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
/// Most records, the newest: some hours of a bad machine.
const RECORDS_MAX: usize = 1 << 20;

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
    processor: usize,
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

    /// How much of this time a processor stood still, the one that did for longest, in milliseconds; what is below 2 ms at a
    /// time is not counted. To be asked later: agents run before the witness when a stall is over.
    pub fn stood_ms(&self, from_ns: u64, to_ns: u64) -> f64 {
        let records = self.shared.records.lock().unwrap_or_else(PoisonError::into_inner);
        stood_ms(records.iter(), from_ns, to_ns)
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

fn stood_ms<'a>(records: impl Iterator<Item = &'a Stall>, from_ns: u64, to_ns: u64) -> f64 {
    let mut by_processor = BTreeMap::<usize, u64>::new();
    for stall in records {
        let within = stall.woke_ns.min(to_ns).saturating_sub(stall.due_ns.max(from_ns));
        *by_processor.entry(stall.processor).or_default() += within;
    }
    clock::ms_between(0, by_processor.into_values().max().unwrap_or(0))
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
            records.push_back(Stall { processor, due_ns, woke_ns });
            due_ns = woke_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Stall, stood_ms};

    #[test]
    fn a_processor_stood_still_for_the_sum_of_its_stalls_within_the_time() {
        let of = |processor: usize, from_ms: u64, to_ms: u64| Stall {
            processor,
            due_ns: from_ms * 1_000_000,
            woke_ns: to_ms * 1_000_000,
        };
        let stalls = [of(0, 10, 30), of(1, 25, 40), of(0, 31, 51)];
        let stood =
            |from_ms: u64, to_ms: u64| stood_ms(stalls.iter(), from_ms * 1_000_000, to_ms * 1_000_000);
        for (from_ms, to_ms, expected) in
            [(0, 10, 0.0), (0, 60, 40.0), (20, 41, 20.0), (26, 30, 4.0), (30, 31, 1.0), (60, 90, 0.0)]
        {
            assert!((stood(from_ms, to_ms) - expected).abs() < 1e-9, "{from_ms} to {to_ms}");
        }
    }
}
