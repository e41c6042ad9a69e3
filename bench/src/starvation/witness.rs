//! The machine's own noise: threads that only sleep for a millisecond, one of SCHED_FIFO 99 on each CPU and as many of
//! SCHED_DEADLINE, free to move. When one of the latter is late no process could have been on time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result};

use super::scheduling::{Grant, pin, set_deadline};

/// Between two wake-ups.
const INTERVAL_NS: u64 = 1_000_000;
const FIFO_PRIORITY: i32 = 99;
const GRANT: Grant = Grant::us(50, 1_000);
/// From here on a wake-up of a SCHED_DEADLINE thread is a stall of the machine.
const STALL_NS: u64 = 5_000_000;
/// Most stalls that are kept of a phase.
const STALLS_MAX: usize = 10_000;

/// Running witnesses.
pub struct Witness {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    fifo_ns: AtomicU64,
    deadline_ns: AtomicU64,
    /// From when to when.
    stalls: Mutex<Vec<(u64, u64)>>,
}

/// What they saw in a phase.
#[derive(Clone, Debug)]
pub struct Noise {
    /// Worst lateness of SCHED_FIFO 99 on any CPU, milliseconds.
    pub fifo_ms: f64,
    /// Worst lateness of SCHED_DEADLINE, milliseconds.
    pub deadline_ms: f64,
    /// Every stall of the machine, from when to when.
    pub stalls: Vec<(u64, u64)>,
}

impl Noise {
    /// Whether the machine stood still at some time between `from_ns` and `to_ns`.
    pub fn is_stalled(&self, from_ns: u64, to_ns: u64) -> bool {
        self.stalls.iter().any(|(from, to)| *from < to_ns && *to > from_ns)
    }
}

impl Witness {
    /// Starts them.
    ///
    /// # Errors
    /// A class is not permitted.
    pub fn start(cpus: &[usize]) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let mut threads = Vec::new();
        let (told, tells) = std::sync::mpsc::channel();
        for cpu in cpus {
            let (cpu, ending, tell) = (*cpu, Arc::clone(&shared), told.clone());
            let work = move || {
                let ready = pin(0, cpu).and_then(|()| {
                    realtime::fifo(FIFO_PRIORITY).then_some(()).context("SCHED_FIFO 99 was refused")
                });
                tell_and_watch(ready, &tell, &ending, |_, late_ns| {
                    ending.fifo_ns.fetch_max(late_ns, Ordering::Relaxed);
                });
            };
            threads.push(thread::Builder::new().name("witness".into()).spawn(work)?);
            let (ending, tell) = (Arc::clone(&shared), told.clone());
            let work = move || {
                tell_and_watch(set_deadline(0, GRANT), &tell, &ending, |due_ns, late_ns| {
                    ending.deadline_ns.fetch_max(late_ns, Ordering::Relaxed);
                    if late_ns >= STALL_NS {
                        let mut stalls = ending.stalls.lock().unwrap_or_else(PoisonError::into_inner);
                        if stalls.len() < STALLS_MAX {
                            stalls.push((due_ns, due_ns + late_ns));
                        }
                    }
                });
            };
            threads.push(thread::Builder::new().name("witness".into()).spawn(work)?);
        }
        drop(told);
        let witness = Self { shared, threads };
        for ready in tells.iter().take(witness.threads.len()) {
            ready.context("no witness of the machine's noise")?;
        }
        Ok(witness)
    }

    /// What was seen since this was last asked.
    pub fn take(&self) -> Noise {
        let ms = |of: &AtomicU64| clock::ms_between(0, of.swap(0, Ordering::Relaxed));
        let mut stalls = self.shared.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        Noise {
            fifo_ms: ms(&self.shared.fifo_ns),
            deadline_ms: ms(&self.shared.deadline_ns),
            stalls: std::mem::take(&mut stalls),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}

fn tell_and_watch(
    ready: Result<()>,
    tell: &std::sync::mpsc::Sender<Result<()>>,
    shared: &Shared,
    saw: impl Fn(u64, u64),
) {
    let is_ready = ready.is_ok();
    // Nobody listens any more when another one failed.
    if tell.send(ready).is_err() || !is_ready {
        return;
    }
    let mut due_ns = clock::now_ns() + INTERVAL_NS;
    while !shared.stop.load(Ordering::Relaxed) {
        clock::sleep_until(due_ns);
        let now_ns = clock::now_ns();
        saw(due_ns, now_ns.saturating_sub(due_ns));
        due_ns = (due_ns + INTERVAL_NS).max(now_ns);
    }
}
