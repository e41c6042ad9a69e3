//! `cargo xtask bench failover`: how long a service is away when its node fails, by fault, with xbeat (two nodes, and two nodes
//! and a witness) and with other cluster software.

use std::process::ExitCode;
use std::time::Duration;

use agent_tests::lab::clock;
use anyhow::Result;
use bench::failover::stalls::Stalls;
use bench::failover::{Fault, Subject, report, rounds};
use bench::options::{self, Options};
use bench::progress::Progress;
use bench::report::Report;
use clap::Parser;

/// Failovers of each kind, unless another number is asked for.
const RUNS: usize = 30;
/// Most minutes of all rounds, unless another number is asked for.
const MINUTES: f64 = 27.0;
/// To start everything, once for each fault.
const START_SECONDS: f64 = 10.0;

/// Failover over veth, stage by stage.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Peers at 100/300 ms, too, where they can be set to it
    #[arg(long)]
    all_settings: bool,
    /// Which faults; all but kill-and-cut without it
    #[arg(long, value_enum, value_name = "FAULT")]
    fault: Vec<Fault>,
    /// Most minutes of all rounds: what is not done by then is left out, and the tables say how many runs there were
    #[arg(long, default_value_t = MINUTES)]
    minutes: f64,
    /// Only those whose name and setting contain this, such as "10/30"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    options::run(|| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut report = Report::new("failover", "how long a service is away when its node fails");
    let peers = arguments.options.peers(&mut report);
    let runs = arguments.options.runs.unwrap_or(RUNS);
    let faults = if arguments.fault.is_empty() { Fault::DEFAULT.to_vec() } else { arguments.fault.clone() };
    let mut subjects = Subject::all(&peers, arguments.all_settings);
    subjects.retain(|subject| arguments.only.as_ref().is_none_or(|text| subject.title().contains(text)));
    let plan: Vec<(Fault, Vec<Subject>)> = faults
        .into_iter()
        .map(|fault| {
            let part = subjects.iter().filter(|subject| subject.lacks(fault).is_none());
            (fault, part.copied().collect())
        })
        .collect();
    for subject in &subjects {
        for (fault, _) in &plan {
            let skipped =
                subject.lacks(*fault).map(|why| format!("{}, {}: {why}", subject.label(), fault.label()));
            report.skipped.extend(skipped);
        }
    }
    let rounds = |(fault, part): &(Fault, Vec<Subject>)| {
        rounds::round_seconds(part, *fault).mul_add(runs as f64, START_SECONDS)
    };
    let seconds: f64 = plan.iter().map(rounds).sum();
    eprintln!(
        "failover: {runs} rounds for each of {} faults, about {:.0} minutes (at most {:.0})",
        plan.len(),
        seconds / 60.0,
        arguments.minutes
    );
    let stalls = Stalls::start()?;
    let mut progress = Progress::new("failover", runs * plan.len());
    let end_ns = clock::now_ns() + clock::ns(Duration::from_secs_f64(arguments.minutes.max(0.0) * 60.0));
    let mut all = Vec::new();
    for (place, planned) in plan.iter().enumerate() {
        let (fault, part) = planned;
        // Each has a share as long as it takes; what it leaves of it, the next ones have.
        let left: f64 = plan.iter().skip(place).map(rounds).sum();
        let part_of_it = rounds(planned) / left;
        let until_ns = clock::now_ns() + (end_ns.saturating_sub(clock::now_ns()) as f64 * part_of_it) as u64;
        all.extend(rounds::measure_all(part, *fault, runs, until_ns, &stalls, &mut progress)?);
    }
    drop(progress);
    report::fill(&mut report, &all);
    report.publish(arguments.options.out.as_deref())
}
