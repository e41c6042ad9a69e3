//! `cargo xtask bench flood`: forged heartbeats, replays, garbage and foreign UDP at one node of a cluster, as fast as one core can
//! send them. It fails when a node was called dead and the machine had not stood still.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use bench::failover::stalls::Stalls;
use bench::flood::subject::Lane;
use bench::flood::{cost, report, rival, subject};
use bench::options::{self, Options};
use bench::peers::Name;
use bench::progress::Progress;
use bench::report::Report;
use clap::Parser;

/// Between floods: clusters start, counters are read.
const BETWEEN: Duration = Duration::from_secs(2);

/// A cluster under a flood.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// How long each flood lasts
    #[arg(long, value_name = "S", default_value_t = 8.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    options::run(|| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!((0.5..=60.0).contains(&arguments.seconds), "--seconds is from 0.5 to 60");
    let span = Duration::from_secs_f64(arguments.seconds);
    let mut report = Report::new("flood", "Forged, replayed and foreign frames as fast as one core can send");
    let with_keepalived = arguments.options.peers(&mut report).contains(&Name::Keepalived);
    let floods =
        Lane::ALL.map(Lane::floods).iter().sum::<usize>() + if with_keepalived { rival::FLOODS } else { 0 };
    let minutes = (span + BETWEEN).as_secs_f64() * floods as f64 / 60.0;
    eprintln!("flood: {floods} floods of {:.0} s, about {minutes:.1} min", arguments.seconds);
    let mut progress = Progress::new("flood", floods + 1);
    progress.at("test-runs");
    let costs = cost::measure()?;
    progress.step();
    let stalls = Stalls::start()?;
    let mut rows = Vec::new();
    for lane in Lane::ALL {
        rows.extend(subject::measure(lane, span, &stalls, &mut progress)?);
    }
    if with_keepalived {
        rows.extend(rival::measure(span, &stalls, &mut progress)?);
    }
    drop(progress);
    report::write(&mut report, &rows, &costs);
    report.publish(arguments.options.out.as_deref())?;
    let deaths: usize = rows.iter().filter(|row| row.kind.is_some()).map(|row| row.deaths_unexcused).sum();
    ensure!(deaths == 0, "{deaths} false deaths");
    Ok(())
}
