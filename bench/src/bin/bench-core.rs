//! `cargo xtask bench core`: what one heartbeat costs the core of a node: the reading of a peer's slot and its share of the
//! round that renews the leases. Clusters of 2 to 32 nodes with 64 groups spread over them, all of them steady.

use std::path::PathBuf;
use std::process::ExitCode;

use agent_tests::lab::clock::now_ns;
use anyhow::{Result, ensure};
use bench::report::{Cell, Goal, Report, Table};
use bench::statistics::Summary;
use bench_subject::{Cluster, GROUPS, heartbeat, tick};
use clap::Parser;

const NODES: [u8; 6] = [2, 4, 8, 16, 24, 32];
/// Most nanoseconds for a heartbeat in a cluster of [`GOAL_NODES`].
const GOAL_NS: f64 = 2_000.0;
const GOAL_NODES: u8 = 16;

/// Cost of a heartbeat in the core, by the size of the cluster.
#[derive(Parser)]
struct Arguments {
    /// Samples for each size
    #[arg(long, default_value_t = 15)]
    runs: usize,
    /// Rounds in each sample: one keepalive, one heartbeat of every peer
    #[arg(long, default_value_t = 1_000)]
    rounds: u64,
    /// Directory for core.json and core.md
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    bench::options::run(|| run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.runs > 0 && arguments.rounds > 0,
        "nothing to measure: --runs and --rounds are at least 1"
    );
    let mut report = Report::new("core", "what a heartbeat costs the core, by the size of the cluster");
    report.notes.push(format!(
        "{} samples of {} rounds, {GROUPS} groups spread over all nodes. A heartbeat's cost is its own reading and its share of \
         the round that renews leases and sends.",
        arguments.runs, arguments.rounds
    ));
    let mut table = Table::new(
        "Nanoseconds a heartbeat",
        &["nodes", "groups held", "least", "median", "p99", "maximum", "of the median, the round"],
    );
    for nodes in NODES {
        let samples = measure(nodes, arguments)?;
        let whole = Summary::of(samples.reading_and_round_ns.iter().copied());
        let round = Summary::of(samples.round_ns.iter().copied());
        let least = samples.reading_and_round_ns.iter().copied().fold(f64::INFINITY, f64::min);
        let number = |value: f64| Cell::number(value, 0);
        table.row(vec![
            Cell::count(usize::from(nodes)),
            Cell::count(samples.held),
            number(least),
            number(whole.median),
            number(whole.p99),
            number(whole.max),
            number(round.median),
        ]);
        if nodes == GOAL_NODES {
            let what = format!("a heartbeat in a cluster of {nodes}, median");
            report.goals.push(Goal::new(what, whole.median, GOAL_NS, "ns"));
        }
    }
    report.tables.push(table);
    report.publish(arguments.out.as_deref())
}

/// By sample, a heartbeat's share.
struct Samples {
    held: usize,
    reading_and_round_ns: Vec<f64>,
    round_ns: Vec<f64>,
}

fn measure(nodes: u8, arguments: &Arguments) -> Result<Samples> {
    let mut cluster = Cluster::new(nodes)?;
    let beats = (cluster.peers() as u64 * arguments.rounds) as f64;
    let mut samples =
        Samples { held: cluster.steady()?, reading_and_round_ns: Vec::new(), round_ns: Vec::new() };
    for _ in 0..arguments.runs {
        let (mut reading, mut round) = (0, 0);
        for _ in 0..arguments.rounds {
            cluster.beat();
            let start = now_ns();
            cluster.hear(heartbeat);
            let read = now_ns();
            cluster.tick(tick);
            reading += read - start;
            round += now_ns() - read;
        }
        samples.reading_and_round_ns.push((reading + round) as f64 / beats);
        samples.round_ns.push(round as f64 / beats);
    }
    // Leases lost on the way would make it another measurement.
    cluster.steady()?;
    Ok(samples)
}
