//! `cargo xtask bench peers`: the self check of the drivers of other cluster software. Each is started, watched, and struck by
//! each fault once; with `--probe` it is said which settings are quiet.

use std::process::ExitCode;
use std::time::Duration;

use agent_tests::lab::clock;
use anyhow::{Result, bail};
use bench::options::{self, Options};
use bench::peers::check::{self, Check, Fault, QUIET, Seen};
use bench::peers::{Name, Setting};
use bench::progress::Progress;
use bench::report::{Cell, Report, Table};
use bench::statistics::Summary;
use clap::Parser;

/// Tries the drivers of other cluster software.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Which; all without it
    #[arg(long, value_enum, value_name = "NAME")]
    name: Vec<Name>,
    /// Try a few settings, from fast to slow, and say which are quiet, instead
    #[arg(long)]
    probe: bool,
    /// How long each setting must be quiet
    #[arg(long, value_name = "S", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    options::run(|| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut report = Report::new("peers", "drivers of other cluster software");
    let asked = Options { peers: true, ..arguments.options.clone() };
    let mut names = asked.peers(&mut report);
    names.retain(|name| arguments.name.is_empty() || arguments.name.contains(name));
    for skipped in &report.skipped {
        println!("SKIP {skipped}");
    }
    let runs = asked.runs.unwrap_or(1);
    let mut failures = Vec::new();
    if arguments.probe {
        probe(&names, arguments.seconds, &mut report)?;
    } else {
        failures = check_all(&names, runs, &mut report)?;
    }
    report.publish(arguments.options.out.as_deref())?;
    let left = check::leftovers()?;
    if !left.is_empty() {
        failures.push(format!("left behind: {}", left.join(", ")));
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(())
}

/// Says what does not work.
fn check_all(names: &[Name], runs: usize, report: &mut Report) -> Result<Vec<String>> {
    let mut state = Table::new(
        format!("two pairs side by side, {} quiet seconds", QUIET.as_secs()),
        &[
            "peer",
            "setting",
            "start s",
            "verdicts",
            "late",
            "heartbeats/s",
            "CPU %",
            "KiB",
            "neighbour",
            "late",
        ],
    );
    let mut faults = Table::new(
        format!(
            "each fault {runs} times: from the last sign of life to the verdict, the client's outage, back to a whole pair"
        ),
        &["peer", "deadtime", "fault", "dead ms", "max", "outage ms", "max", "recovery s", "max"],
    );
    let mut failures = Vec::new();
    let mut progress = Progress::new("peers", names.len());
    for name in names {
        progress.at(name.label());
        let setting = name.software().fastest();
        let seen = match check::check(*name, setting, runs) {
            Ok(seen) => seen,
            Err(error) => {
                clock::check_interrupt()?;
                failures.push(format!("{error:#}"));
                continue;
            }
        };
        state.row(state_row(*name, setting, &seen));
        let deadtime_ms = name.software().deadtime(setting, 1).as_secs_f64() * 1e3;
        for fault in Fault::ALL {
            faults.row(fault_row(*name, deadtime_ms, fault, &seen.seen));
        }
        progress.step();
    }
    report.notes.push(format!(
        "verdicts: of both pairs in the quiet time; late: the client's worst delay in it in ms, which is the machine's own; \
         neighbour: verdicts of the second pair while the first was struck, and its client's worst delay; median and \
         maximum of {runs}.",
    ));
    report.tables.extend([state, faults]);
    Ok(failures)
}

fn state_row(name: Name, setting: Setting, check: &Check) -> Vec<Cell> {
    vec![
        Cell::text(format!("{} {}", name.label(), name.version())),
        Cell::text(setting.label()),
        Cell::number(check.start_s, 1),
        Cell::count(check.quiet_verdicts),
        Cell::number(check.late_ms, 1),
        Cell::number(check.heartbeats_per_s, 0),
        Cell::number(check.cpu_percent, 2),
        Cell::number(check.resident_kib as f64, 0),
        Cell::count(check.neighbour_verdicts),
        Cell::number(check.neighbour_late_ms, 1),
    ]
}

fn fault_row(name: Name, deadtime_ms: f64, fault: Fault, seen: &[Seen]) -> Vec<Cell> {
    let of = |value: fn(&Seen) -> f64| {
        let all = seen.iter().filter(|one| one.fault == fault).map(value);
        Summary::of(all.filter(|value| value.is_finite()))
    };
    let measures = [of(|one| one.dead_ms), of(|one| one.outage_ms), of(|one| one.recovery_s)];
    let mut cells = vec![Cell::text(name.label()), Cell::number(deadtime_ms, 1), Cell::text(fault.label())];
    cells.extend(measures.iter().flat_map(|of| [Cell::number(of.median, 1), Cell::number(of.max, 1)]));
    cells
}

fn probe(names: &[Name], seconds: u64, report: &mut Report) -> Result<()> {
    let time = Duration::from_secs(seconds);
    let steps: Vec<(Name, Setting)> = names
        .iter()
        .flat_map(|name| check::ladder(*name).into_iter().map(|setting| (*name, setting)))
        .collect();
    println!("{} settings, about {} s", steps.len(), steps.len() as u64 * (seconds + 4));
    let columns = ["peer", "setting", "deadtime ms", "verdicts", "late ms", "used"];
    let mut table = Table::new(format!("verdicts in {seconds} quiet seconds"), &columns);
    let mut progress = Progress::new("probe", steps.len());
    for (name, setting) in steps {
        progress.at(format!("{} {}", name.label(), setting.label()));
        let software = name.software();
        let found = if software.takes(setting) { Some(check::probe(name, setting, time)) } else { None };
        let (verdicts, late_ms) = match found {
            None => (Cell::text("refused"), f64::NAN),
            Some(Ok((verdicts, late_ms))) => (Cell::count(verdicts), late_ms),
            Some(Err(error)) => {
                clock::check_interrupt()?;
                (Cell::text(format!("{error:#}")), f64::NAN)
            }
        };
        let used = if setting == software.fastest() { "fastest" } else { "" };
        table.row(vec![
            Cell::text(name.label()),
            Cell::text(setting.label()),
            Cell::number(software.deadtime(setting, 1).as_secs_f64() * 1e3, 1),
            verdicts,
            Cell::number(late_ms, 1),
            Cell::text(used),
        ]);
        progress.step();
    }
    report.tables.push(table);
    Ok(())
}
