//! `cargo xtask bench failover`: how long a service is away when its node fails, with xbeat (two nodes, and two nodes and a
//! witness) and with keepalived.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agent_tests::lab::clock;
use anyhow::{Context as _, Result};
use bench::failover::report::Report;
use bench::failover::xbeat::{self, Votes};
use bench::failover::{cost, keepalived};
use bench::machine::Machine;
use clap::Parser;

/// Settings measured unless others are asked for, (keepalive, deadtime) in milliseconds.
const SETTINGS_MS: [(u64, u64); 2] = [(10, 30), (2, 10)];
/// Setting of the cost: a hundred heartbeats a second.
const COST_SETTING_MS: (u64, u64) = (10, 50);

/// Failover over veth, stage by stage.
#[derive(Parser)]
struct Arguments {
    /// Failovers in each series
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Time between two heartbeats; with --deadtime, instead of 10/30 ms and 2/10 ms
    #[arg(long, value_name = "MS", value_parser = milliseconds, requires = "deadtime")]
    keepalive: Option<u64>,
    /// Silence after which a node is dead
    #[arg(long, value_name = "MS", value_parser = milliseconds, requires = "keepalive")]
    deadtime: Option<u64>,
    /// Measure keepalived too; it is when it is installed, unless --no-peers
    #[arg(long)]
    peers: bool,
    /// Do not measure keepalived
    #[arg(long, conflicts_with = "peers")]
    no_peers: bool,
    /// Measure keepalived alone
    #[arg(long, conflicts_with = "no_peers")]
    only_peers: bool,
    /// Install Debian's keepalived first, without starting a service
    #[arg(long)]
    install_peers: bool,
    /// Do not measure CPU and memory in the steady state
    #[arg(long)]
    no_cost: bool,
    /// Directory for failover.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    clock::catch_interrupts()?;
    if arguments.install_peers && !keepalived::is_installed() {
        keepalived::install()?;
    }
    let settings = match (arguments.keepalive, arguments.deadtime) {
        (Some(keepalive), Some(deadtime)) => vec![(keepalive, deadtime)],
        (_, _) => SETTINGS_MS.to_vec(),
    };
    let settings = if arguments.only_peers { Vec::new() } else { settings };
    let mut series = Vec::new();
    for (keepalive, deadtime) in settings {
        let (interval, silence) = (Duration::from_millis(keepalive), Duration::from_millis(deadtime));
        for votes in [Votes::Alone, Votes::Witness] {
            eprintln!("{} at {keepalive}/{deadtime} ms", votes.subject());
            series.push(xbeat::series(votes, interval, silence, arguments.runs)?);
        }
    }
    let mut version = None;
    if !arguments.no_peers {
        if keepalived::is_installed() {
            version = Some(keepalived::version());
            series.push(keepalived::series(arguments.runs)?);
        } else {
            println!("SKIP: keepalived is not installed (--install-peers installs Debian's)");
            anyhow::ensure!(
                !arguments.peers && !arguments.only_peers,
                "keepalived was asked for and is not installed"
            );
        }
    }
    let mut cost = Vec::new();
    if !arguments.no_cost {
        eprintln!("cost of the steady state");
        if !arguments.only_peers {
            let (keepalive, deadtime) = COST_SETTING_MS;
            cost = cost::of_xbeat(Duration::from_millis(keepalive), Duration::from_millis(deadtime))?;
        }
        if version.is_some() {
            cost.extend(keepalived::cost()?);
        }
    }
    let report = Report::new(Machine::here(), version, series, cost);
    print!("{}", report.text());
    if let Some(directory) = &arguments.out {
        std::fs::create_dir_all(directory).context("cannot make the directory for results")?;
        let path = directory.join("failover.json");
        std::fs::write(&path, serde_json::to_string_pretty(&report)?).context("cannot write results")?;
    }
    Ok(())
}

/// "10ms" or "10".
fn milliseconds(text: &str) -> Result<u64, std::num::ParseIntError> {
    text.strip_suffix("ms").unwrap_or(text).parse()
}
