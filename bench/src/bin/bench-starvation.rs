//! `cargo xtask bench starvation`: a ladder of load on one CPU and on all, under which every scheduling choice of the agent, and
//! peers, must not declare anybody dead without reason and must still find a true death in time.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use bench::options::{self, Options};
use bench::report::Report;
use bench::starvation::{self, BETWEEN, BETWEEN_PEERS, Rung, load};
use clap::Parser;

/// A phase, unless another length is asked for: with peers, whose start takes its time, a little less.
const SECONDS: u64 = 60;
const SECONDS_PEERS: u64 = 56;

/// Nodes whose CPUs are taken from them.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Length of a phase; a rung has two
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(4..=120))]
    seconds: Option<u64>,
    /// Only these rungs
    #[arg(long, value_enum, value_delimiter = ',')]
    rungs: Vec<Rung>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    options::run(|| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut report = Report::new("starvation", "who is declared dead when CPUs are taken away");
    let peers = arguments.options.peers(&mut report);
    let mut rungs = if arguments.rungs.is_empty() { Rung::ALL.to_vec() } else { arguments.rungs.clone() };
    if !load::is_installed() {
        let skipped =
            "stress-ng is not installed (cargo xtask bench --install-peers): its rungs are left out";
        report.skipped.push(skipped.to_owned());
        rungs.retain(|rung| !rung.needs_stress());
    }
    ensure!(!rungs.is_empty(), "no rung is left");
    let (seconds, between) =
        if peers.is_empty() { (SECONDS, BETWEEN) } else { (SECONDS_PEERS, BETWEEN_PEERS) };
    let span = Duration::from_secs(arguments.seconds.unwrap_or(seconds));
    let plans = starvation::plans(&rungs, span);
    let minutes = (span + between).as_secs_f64() * plans.len() as f64 / 60.0;
    eprintln!("{} phases of {} s: about {minutes:.0} minutes", plans.len(), span.as_secs());
    let (entrants, findings) = starvation::run(&plans, &peers)?;
    starvation::report::fill(&mut report, &entrants, &findings);
    report.publish(arguments.options.out.as_deref())
}
