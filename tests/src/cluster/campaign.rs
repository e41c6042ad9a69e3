//! Many seeds on all processors: their sum, and for each broken rule the first seed that noticed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::report::{Invariant, Violation, Witness};
use super::run::{How, Outcome, run};

/// The sum of many runs.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// How many.
    pub runs: u64,
    /// Seeds with a violation, in order.
    pub failed: Vec<(u64, Violation)>,
    /// What happened in all of them.
    pub witness: Witness,
    /// True nanoseconds served and possible, over all groups.
    pub served_ns: u128,
    /// What could have been served.
    pub possible_ns: u128,
    /// True nanoseconds of all runs.
    pub span_ns: u128,
    /// Events of all runs.
    pub events: u64,
}

impl Sum {
    /// Of 100, how much of the possible time was served.
    pub fn share(&self) -> f64 {
        if self.possible_ns == 0 { 0.0 } else { self.served_ns as f64 * 100.0 / self.possible_ns as f64 }
    }

    /// Cluster hours that were simulated.
    pub fn hours(&self) -> f64 {
        self.span_ns as f64 / 3.6e12
    }

    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        if let Some(violation) = &outcome.violation {
            self.failed.push((outcome.seed, violation.clone()));
        }
        self.witness.add(&outcome.witness);
        self.served_ns += u128::from(outcome.served_ns);
        self.possible_ns += u128::from(outcome.possible_ns);
        self.span_ns += u128::from(outcome.span_ns);
        self.events += outcome.events;
    }

    fn join(&mut self, other: Self) {
        self.runs += other.runs;
        self.failed.extend(other.failed);
        self.witness.add(&other.witness);
        self.served_ns += other.served_ns;
        self.possible_ns += other.possible_ns;
        self.span_ns += other.span_ns;
        self.events += other.events;
    }
}

/// Runs `seeds` seeds from `first` on, on `threads` threads, each like `how`; after each, `ran` is called.
pub fn run_all(first: u64, seeds: u64, how: How, threads: usize, ran: impl Fn(&Outcome) + Sync) -> Sum {
    let next = AtomicU64::new(0);
    let total = Mutex::new(Sum::default());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut sum = Sum::default();
                loop {
                    let step = next.fetch_add(1, Ordering::Relaxed);
                    if step >= seeds {
                        break;
                    }
                    let outcome = run(first.wrapping_add(step), how);
                    ran(&outcome);
                    sum.add(&outcome);
                }
                if let Ok(mut total) = total.lock() {
                    total.join(sum);
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap_or_default();
    total.failed.sort_by_key(|(seed, _)| *seed);
    total
}

/// The first seed that noticed a broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Which seed, counted from 1.
    pub seeds: u64,
    /// What was violated.
    pub invariant: Invariant,
    /// Who and what.
    pub text: String,
}

/// Looks for the first of `budget` seeds from `first` on that notices the broken rule of `how`, and that is clean without it.
pub fn catch(how: How, budget: u64, first: u64, threads: usize) -> Option<Caught> {
    let next = AtomicU64::new(0);
    let found = AtomicBool::new(false);
    let best: Mutex<Option<Caught>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !found.load(Ordering::Relaxed) {
                    let step = next.fetch_add(1, Ordering::Relaxed);
                    if step >= budget {
                        break;
                    }
                    let Some(caught) = try_seed(first.wrapping_add(step), how, step + 1) else { continue };
                    found.store(true, Ordering::Relaxed);
                    if let Ok(mut best) = best.lock()
                        && best.as_ref().is_none_or(|best| caught.seeds < best.seeds)
                    {
                        *best = Some(caught);
                    }
                }
            });
        }
    });
    best.into_inner().unwrap_or_default()
}

fn try_seed(seed: u64, how: How, seeds: u64) -> Option<Caught> {
    let Violation { invariant, text, .. } = run(seed, how).violation?;
    let sound = run(seed, How { broken: None, ..how });
    sound.violation.is_none().then_some(Caught { seeds, invariant, text })
}
