//! `cargo xtask bench soak`: random faults on five nodes, watched from outside, for as long as is asked for. It fails when two
//! served at once, a live node was called dead, memory grew, or the cluster did not become whole again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bench::options;
use bench::soak::fault::Kind;
use bench::soak::{self, Setting, report, verdict};
use clap::Parser;

/// Random faults on five nodes.
#[derive(Parser)]
struct Arguments {
    /// For how long
    #[arg(long, value_name = "M", default_value_t = 5.0)]
    minutes: f64,
    /// Of the generator that draws the faults
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Time between two heartbeats
    #[arg(long, value_name = "MS", default_value_t = 10)]
    keepalive: u64,
    /// Silence after which a node is dead
    #[arg(long, value_name = "MS", default_value_t = 50)]
    deadtime: u64,
    /// The first deadtime after a start
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    initdead: u64,
    /// Only faults of these kinds
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    only: Vec<Kind>,
    /// Directory for soak.json, soak.md and the plots
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    options::run(|| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!((0.5..=100_000.0).contains(&arguments.minutes), "--minutes is from 0.5 to 100000");
    let setting = Setting {
        length: Duration::from_secs_f64(arguments.minutes * 60.0),
        seed: arguments.seed,
        keepalive: Duration::from_millis(arguments.keepalive),
        deadtime: Duration::from_millis(arguments.deadtime),
        initdead: Duration::from_millis(arguments.initdead),
        only: arguments.only.clone(),
    };
    eprintln!("soak: {} minutes and at most half a minute more, seed {}", arguments.minutes, setting.seed);
    let soak = soak::run(setting.clone())?;
    let verdict = verdict::of(&soak);
    report::of(&soak, &verdict).publish(arguments.out.as_deref())?;
    if !verdict.is_clean() {
        for line in &soak.recent {
            eprintln!("{line}");
        }
        for violation in &verdict.violations {
            eprintln!("VIOLATION: {violation}");
        }
        bail!("{} violations with seed {}", verdict.violations.len(), setting.seed);
    }
    Ok(())
}
