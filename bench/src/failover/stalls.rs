//! The machine's own noise: on each processor a thread above everything measured that sleeps a millisecond at a time and keeps
//! when it came late. A virtual machine stands still now and then; what falls into such a time says nothing of the software.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use agent_tests::lab::{clock, realtime};
use anyhow::Result;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Between two looks at the clock.
const SLEEP_NS: u64 = 1_000_000;
/// Above agents, peers, client and observer.
const PRIORITY: i32 = 90;
/// Shorter ones are not kept.
const LEAST_NS: u64 = 500_000;
/// Most that are kept, the newest: more than a fault's time has, on whatever machine.
const STALLS_MAX: usize = 1 << 18;

/// A time in which a processor did not run the highest thread that wanted it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    /// When it should have run.
    pub from_ns: u64,
    /// When it did.
    pub to_ns: u64,
}

/// The running witnesses.
#[derive(Debug)]
pub struct Stalls {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<VecDeque<Stall>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Stalls {
    /// One on each processor.
    ///
    /// # Errors
    /// No threads to be had.
    pub fn start() -> Result<Self> {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<VecDeque<Stall>>>::default());
        let mut threads = Vec::new();
        for cpu in 0..thread::available_parallelism()?.get() {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            threads.push(
                thread::Builder::new().name("stalls".into()).spawn(move || witness(cpu, &stop, &seen))?,
            );
        }
        Ok(Self { stop, seen, threads })
    }

    /// The longest one that touches this time, in milliseconds.
    pub fn worst_ms(&self, from_ns: u64, to_ns: u64) -> f64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        worst_ms(seen.iter(), from_ns, to_ns)
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}

fn worst_ms<'a>(stalls: impl Iterator<Item = &'a Stall>, from_ns: u64, to_ns: u64) -> f64 {
    let within = stalls.filter(|stall| stall.to_ns >= from_ns && stall.from_ns <= to_ns);
    within.map(|stall| clock::ms_between(stall.from_ns, stall.to_ns)).fold(0.0, f64::max)
}

fn witness(cpu: usize, stop: &AtomicBool, seen: &Mutex<VecDeque<Stall>>) {
    let mut set = CpuSet::new();
    // Where the processor may not be chosen, the scheduler chooses.
    let _ = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    realtime::fifo(PRIORITY);
    while !stop.load(Ordering::Relaxed) {
        let due_ns = clock::now_ns() + SLEEP_NS;
        clock::sleep_until(due_ns);
        let now_ns = clock::now_ns();
        if now_ns.saturating_sub(due_ns) >= LEAST_NS {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() == STALLS_MAX {
                seen.pop_front();
            }
            seen.push_back(Stall { from_ns: due_ns, to_ns: now_ns });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Stall, worst_ms};

    #[test]
    fn a_stall_counts_for_every_time_that_it_touches() {
        let of = |from_ms: u64, to_ms: u64| Stall { from_ns: from_ms * 1_000_000, to_ns: to_ms * 1_000_000 };
        let stalls = [of(10, 13), of(20, 41), of(50, 51)];
        let worst =
            |from_ms: u64, to_ms: u64| worst_ms(stalls.iter(), from_ms * 1_000_000, to_ms * 1_000_000);
        for (from_ms, to_ms, expected) in
            [(0, 9, 0.0), (12, 15, 3.0), (12, 20, 21.0), (42, 49, 0.0), (0, 99, 21.0)]
        {
            assert!((worst(from_ms, to_ms) - expected).abs() < 1e-9, "{from_ms} to {to_ms}");
        }
    }
}
