//! A quick part of the cluster simulator: fixed seeds and random ones without a violation, rules broken on purpose that are
//! noticed, the model of the kernel's counting against the code that the kernel runs.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use agent_tests::cluster::campaign::{catch, run_all};
use agent_tests::cluster::{Broken, How, run};

/// Seeds that once found something.
const FIXED: [u64; 8] = [1, 2, 3, 5, 8, 13, 21, 34];
/// Random seeds, others at each run.
const RANDOM: u64 = 200;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn fixed_seeds_hold_every_invariant() {
    for seed in FIXED {
        let outcome = run(seed, How::default());
        assert!(outcome.violation.is_none(), "cargo xtask sim --seed {seed}: {:?}", outcome.violation);
    }
}

#[test]
fn random_seeds_hold_every_invariant() {
    let first = RandomState::new().hash_one(0) >> 8;
    let how = How { short: true, ..How::default() };
    let sum = run_all(first, RANDOM, how, threads(), |_| {});
    for (seed, violation) in &sum.failed {
        println!("cargo xtask sim --seed {seed} -- --short: {}", violation.text);
    }
    assert!(sum.failed.is_empty(), "{} of {} seeds", sum.failed.len(), sum.runs);
    // A run that never serves tests nothing.
    assert!(sum.share() > 30.0, "served {} % of the time", sum.share());
    assert!(sum.witness.handovers > RANDOM && sum.witness.deaths > RANDOM, "{:?}", sum.witness);
    assert!(sum.witness.restarts_in_lease > 0 && sum.witness.replays_taken > 0, "{:?}", sum.witness);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let traced = How { traced: true, ..How::default() };
    for seed in [4, 7] {
        let (one, other) = (run(seed, traced), run(seed, traced));
        assert_eq!((one.trace, one.events, one.witness), (other.trace, other.events, other.witness));
    }
}

#[test]
fn a_gate_left_open_and_one_inherited_are_noticed() {
    for broken in [Broken::GateOpenAfterCrash, Broken::InheritedGateNotCapped] {
        let how = How { broken: Some(broken), ..How::default() };
        assert!(catch(how, 200, 1, threads()).is_some(), "{}", broken.text());
    }
}
