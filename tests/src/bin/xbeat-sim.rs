//! Simulates clusters by seed and checks the invariants in true time; `cargo xtask sim` runs it in a release build.
//! Its last line is the sum: runs, violations, share served, handovers.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_tests::cluster::campaign::{Caught, Sum, catch, run_all};
use agent_tests::cluster::{Broken, How, run};
use clap::Parser;

/// Simulates clusters under everything that can go wrong.
#[derive(Parser)]
#[command(name = "xbeat-sim")]
struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Replay this seed alone, with a trace
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Break one rule after the other and show which seed notices
    #[arg(long)]
    mutations: bool,
    /// Break this rule: its text in the table of mutations, or a part of it
    #[arg(long)]
    broken: Option<String>,
    /// Run a third of each seed's trouble
    #[arg(long)]
    short: bool,
    /// Threads; by default one for each processor
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let ok = match (args.seed, args.mutations) {
        (Some(seed), _) => replay(seed, &args),
        (None, true) => mutations(&args, threads),
        (None, false) => campaign(&args, threads),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first rule whose text holds `part`.
fn broken(part: &str) -> Option<Broken> {
    Broken::ALL.iter().map(|(broken, _)| *broken).find(|broken| broken.text().contains(part))
}

fn replay(seed: u64, args: &Args) -> bool {
    let part = args.broken.as_deref();
    let outcome =
        run(seed, How { broken: part.and_then(broken), traced: true, by_effect: false, short: args.short });
    // Whoever reads the trace may have seen enough.
    let _ = std::io::stdout().write_all(outcome.trace.as_bytes());
    let violations = u64::from(outcome.violation.is_some());
    if let Some(violation) = &outcome.violation {
        println!("seed {seed}: {}: {}", violation.invariant.text(), violation.text);
    }
    let share = outcome.served_ns as f64 * 100.0 / (outcome.possible_ns.max(1)) as f64;
    println!("{:?}", outcome.witness);
    println!(
        "runs 1, violations {violations}, share served {share:.1} %, handovers {}",
        outcome.witness.handovers
    );
    violations == 0
}

fn campaign(args: &Args, threads: usize) -> bool {
    let ran = AtomicU64::new(0);
    let sum =
        run_all(args.first, args.seeds, How { short: args.short, ..How::default() }, threads, |outcome| {
            if let Some(violation) = &outcome.violation {
                println!(
                    "seed {} ({:?}, {} nodes): {}: {}\n  replay: cargo xtask sim --seed {}",
                    outcome.seed,
                    outcome.plan.kind,
                    outcome.plan.nodes,
                    violation.invariant.text(),
                    violation.text,
                    outcome.seed
                );
            }
            let ran = ran.fetch_add(1, Ordering::Relaxed) + 1;
            if ran.is_multiple_of(100) {
                eprint!("\r{ran} of {} seeds", args.seeds);
                let _ = std::io::stderr().flush();
            }
        });
    eprintln!();
    report(&sum);
    sum.failed.is_empty()
}

fn report(sum: &Sum) {
    let witness = &sum.witness;
    println!("cluster hours {:.1}, events {}", sum.hours(), sum.events);
    println!(
        "epochs held {}, deaths {}, restarts inside a lease {}, asks refused and later won {}",
        witness.epochs, witness.deaths, witness.restarts_in_lease, witness.won_after_refusal
    );
    println!(
        "carried state taken {}, started over {}, gates shut by a bar {}, overlaps after a standstill {}",
        witness.carried, witness.outlived, witness.shut_by_bar, witness.standing_overlaps
    );
    println!(
        "commands done {}, refused {}, frames replayed {}, of these not refused {}, vote changes {}, incarnations used again {}",
        witness.done,
        witness.refused,
        witness.replayed,
        witness.replays_taken,
        witness.vote_changes,
        witness.went_back
    );
    println!(
        "groups handed over to who reaches more {}, leases ended for want of a ping {}, agents replaced in turn {}",
        witness.reach_moves, witness.pings_lost, witness.rolled
    );
    println!(
        "runs {}, violations {}, share served {:.1} %, handovers {}",
        sum.runs,
        sum.failed.len(),
        sum.share(),
        witness.handovers
    );
}

fn mutations(args: &Args, threads: usize) -> bool {
    let wanted =
        |broken: &Broken| args.broken.as_ref().is_none_or(|part| broken.text().contains(part.as_str()));
    let mut missed = 0;
    println!("| mutation | budget | seeds needed | violated | by its effect alone | violated |");
    println!("|---|---|---|---|---|---|");
    for (broken, budget) in Broken::ALL.iter().filter(|(broken, _)| wanted(broken)) {
        let how = How { broken: Some(*broken), ..How::default() };
        let any = catch(how, *budget, args.first, threads);
        let effect = catch(How { by_effect: true, ..how }, *budget, args.first, threads);
        missed += u64::from(any.is_none());
        println!("| {} | {budget} | {} | {} |", broken.text(), cells(any.as_ref()), cells(effect.as_ref()));
    }
    println!();
    println!(
        "mutations {}, missed {missed}",
        Broken::ALL.iter().filter(|(broken, _)| wanted(broken)).count()
    );
    missed == 0
}

/// Seeds needed and what was violated, as two cells.
fn cells(caught: Option<&Caught>) -> String {
    caught.map_or_else(
        || "not caught | ".to_owned(),
        |caught| format!("{} | {}", caught.seeds, caught.invariant.text()),
    )
}
