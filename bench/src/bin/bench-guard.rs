//! `cargo xtask bench guard`: what the programs and the core cost, beside `bench/budgets.toml`. Fails when something costs more
//! than its budget and tolerance, or has no budget; `--update` writes what was measured into the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::privileged;
use anyhow::{Context as _, Result, bail};
use bench::guard::budgets::{Budgets, Home, updated};
use bench::guard::judge::{Finding, Verdict, judge};
use bench::guard::{Class, Measured, callgrind, programs, ratios::Ratios};
use bench::progress::Progress;
use bench::report::{Cell, Report, Table};
use clap::Parser;

/// Times are taken again so often when they are above: a stall of the machine goes by, a slower program does not.
const ATTEMPTS: usize = 4;
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(2);

/// Instruction counts and ratios against bench/budgets.toml.
#[derive(Parser)]
struct Arguments {
    /// Write what is measured into the file; tolerances and remarks stay
    #[arg(long)]
    update: bool,
    /// Say only what is wrong, and one line
    #[arg(long)]
    brief: bool,
    /// The budgets
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/budgets.toml"))]
    budgets: PathBuf,
    /// The program with the core
    #[arg(
        long,
        value_name = "FILE",
        default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/bench-subject")
    )]
    subject: PathBuf,
    /// Directory for guard.json and guard.md
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    bench::options::run(|| run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let file = arguments.budgets.display();
    let text = std::fs::read_to_string(&arguments.budgets).with_context(|| format!("cannot read {file}"))?;
    let budgets = Budgets::parse(&text).with_context(|| format!("{file}"))?;
    let here = Home::here();
    let (measured, reference_ns) = measure(arguments, &budgets, &here)?;
    for (class, reason) in &measured.skipped {
        println!("SKIP: {}: {reason}", class.label());
    }
    if arguments.update {
        if here.arch != budgets.home.arch && !measured.skipped.is_empty() {
            bail!("the budgets are of {}: on {} write all of them or none", budgets.home.arch, here.arch);
        }
        let new = updated(&text, &budgets, &measured, &here)?;
        std::fs::write(&arguments.budgets, new).with_context(|| format!("cannot write {file}"))?;
        println!("{file}: written; say why in the commit message");
    }
    let findings = judge(&budgets, &measured, &here)?;
    if !arguments.brief {
        report(&measured, &findings, reference_ns).publish(arguments.out.as_deref())?;
    }
    let failures = findings.iter().filter(|finding| finding.verdict.fails()).count();
    if arguments.update {
        return Ok(());
    }
    for advice in findings.iter().filter_map(Finding::advice) {
        println!("{advice}");
    }
    if failures > 0 {
        bail!("{failures} of {} figures are not within bench/budgets.toml", findings.len());
    }
    println!("guard: {} figures within bench/budgets.toml", findings.len());
    Ok(())
}

/// Measures all that this machine can; skipped on another architecture is what depends on it, unless it is to be written.
fn measure(arguments: &Arguments, budgets: &Budgets, here: &Home) -> Result<(Measured, Option<u64>)> {
    let mut measured = Measured::default();
    let mut progress = Progress::new("guard", 3);
    let mut reference_ns = None;
    if privileged::privileged("programs and ratios") {
        progress.at("programs");
        programs::measure(&mut measured)?;
        progress.step();
        progress.at("frames");
        reference_ns = Some(time(&mut measured, budgets, here)?);
        progress.step();
    } else {
        for class in [Class::Verified, Class::Translated, Class::Jited, Class::Ratio] {
            measured.skip(class, "needs root, and a kernel that loads XDP programs");
        }
    }
    if callgrind::is_installed() {
        callgrind::measure(&mut measured, &arguments.subject, |item| progress.at(item))?;
        progress.step();
    } else {
        measured.skip(Class::Callgrind, "valgrind is not installed (cargo xtask setup valgrind)");
    }
    if here.arch != budgets.home.arch && !arguments.update {
        for class in [Class::Jited, Class::Ratio, Class::Callgrind] {
            measured.skip(class, &format!("the budgets are of {}, this is {}", budgets.home.arch, here.arch));
        }
    }
    Ok((measured, reference_ns))
}

/// Times frames until nothing is above any more, or it has been tried often enough.
fn time(measured: &mut Measured, budgets: &Budgets, here: &Home) -> Result<u64> {
    let mut ratios = Ratios::new()?;
    for attempt in 1..=ATTEMPTS {
        ratios.measure(measured)?;
        let is_above = judge(budgets, measured, here)?
            .iter()
            .any(|finding| finding.class == Class::Ratio && finding.verdict == Verdict::Above);
        if !is_above || attempt == ATTEMPTS {
            break;
        }
        clock::pause(BETWEEN_ATTEMPTS)?;
    }
    Ok(ratios.reference_ns())
}

fn report(measured: &Measured, findings: &[Finding], reference_ns: Option<u64>) -> Report {
    let mut report = Report::new("guard", "what programs and core cost, beside bench/budgets.toml");
    if let Some(ns) = reference_ns {
        report.notes.push(format!("The reference program took {ns} ns."));
    }
    let mut tables: BTreeMap<Class, Table> = BTreeMap::new();
    for finding in findings {
        let table = tables.entry(finding.class).or_insert_with(|| {
            Table::new(
                finding.class.label(),
                &["item", "budget", "measured", "change %", "at most", "verdict"],
            )
        });
        let number = |value: Option<f64>| Cell::number(value.unwrap_or(f64::NAN), finding.class.digits());
        table.row(vec![
            Cell::text(&finding.item),
            number(finding.budget),
            number(finding.measured),
            Cell::number(finding.change_percent().unwrap_or(f64::NAN), 1),
            number(finding.limit),
            Cell::text(finding.verdict.label()),
        ]);
    }
    report.tables.extend(tables.into_values());
    let skipped = measured.skipped.iter().map(|(class, reason)| format!("{}: {reason}", class.label()));
    report.skipped.extend(skipped);
    report
}
