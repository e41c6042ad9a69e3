//! `bench-subject NODES ROUNDS`: runs a steady cluster for the benchmark `guard`, which counts the instructions of
//! `measured_heartbeat` and `measured_tick`. Prints how often each was called.

use std::{error::Error, process::ExitCode};

use agent_core::{Action, Instant, Node, Reading};
use bench_subject::{Cluster, heartbeat, tick};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [nodes, rounds] = args else { return Err("usage: bench-subject NODES ROUNDS".into()) };
    let (mut cluster, rounds) = (Cluster::new(nodes.parse()?)?, rounds.parse::<usize>()?);
    for _ in 0..rounds {
        cluster.beat();
        cluster.hear(measured_heartbeat);
        cluster.tick(measured_tick);
    }
    cluster.steady()?;
    println!("heartbeats {} ticks {rounds}", cluster.peers() * rounds);
    Ok(())
}

/// Found by its name: counting is on while it runs.
#[inline(never)]
fn measured_heartbeat(node: &mut Node, slot: &Reading, now: Instant) {
    heartbeat(node, slot, now);
}

/// As [`measured_heartbeat`].
#[inline(never)]
fn measured_tick(node: &mut Node, now: Instant) -> Vec<Action> {
    tick(node, now)
}
