//! `cargo xtask bench xdp`: what a packet costs in the XDP program, by `BPF_PROG_TEST_RUN`, for each verdict.
//!
//! A test-run repeats one packet, which suits refusals. Accepted heartbeats run in an object of their own, whose program
//! takes the sender's window back and then calls the product's handler: every repetition is a steady heartbeat.

use std::{path::PathBuf, process::ExitCode};

use agent_common::{
    Beat, Claim,
    maps::Counter,
    wire::{TAG_LEN, at},
};
use agent_tests::{
    frames::{PEER, Packet, beat, frame, resigned, screened},
    kernel::{Kernel, Outcome},
};
use anyhow::{Context as _, Result, ensure};
use bench::machine::Machine;
use clap::Parser;
use serde::Serialize;

/// Cost of the XDP program, packet by packet.
#[derive(Parser)]
struct Arguments {
    /// Test-runs of each packet; the minimum and the median are shown
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// Repetitions in each test-run
    #[arg(long, default_value_t = 30_000)]
    repeat: u32,
    /// Directory for xdp.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A packet to measure.
struct Probe {
    name: &'static str,
    packet: Vec<u8>,
    kind: Kind,
    goal_ns: Option<u64>,
}

/// How it is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By the product's program, which passes or refuses it each time.
    Refused(Outcome),
    /// By the program that takes the window back first.
    Accepted,
}

/// What was measured.
#[derive(Serialize)]
struct Row {
    packet: &'static str,
    minimum_ns: u64,
    median_ns: u64,
    goal_ns: Option<u64>,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    runs: usize,
    repeat: u32,
    rows: Vec<Row>,
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
    ensure!(
        arguments.runs > 0 && arguments.repeat > 0,
        "nothing to measure: --runs and --repeat are at least 1"
    );
    let mut product = Kernel::new()?;
    let mut accepting = Kernel::unconfigured("xbeat-bench.bpf.o", "bench_accepted")?;
    accepting.configure()?;
    let mut rows = Vec::new();
    for probe in probes()? {
        rows.push(measure(arguments, &mut product, &mut accepting, &probe)?);
    }
    let report = Report { machine: Machine::here(), runs: arguments.runs, repeat: arguments.repeat, rows };
    print(&report);
    if let Some(directory) = &arguments.out {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create the directory {}", directory.display()))?;
        let path = directory.join("xdp.json");
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The packets: the first is heard by the product, so that later ones are duplicates, too old or damaged.
fn probes() -> Result<Vec<Probe>> {
    let heard = || beat(PEER, 5, 1000);
    let refused = |reason| Kind::Refused(Outcome::Refused(reason));
    let mut foreign_tcp = Packet::on(0, vec![0; 20]);
    foreign_tcp.protocol = 6;
    let mut foreign_port = Packet::on(0, vec![0; 100]);
    foreign_port.port = 53;
    let mut forged = frame(&beat(PEER, 5, 1001), 0);
    forged[at::SENT] ^= 1;
    // What an attacker has who captured a heartbeat that was not heard: its header, and nothing that fits it.
    let mut captured = frame(&beat(PEER, 5, 1001), 0);
    captured[100] ^= 1;
    let mut captured_large = sized(&largest(1001), 1399)?;
    captured_large[100] ^= 1;
    let damaged = screened(captured.clone(), |_| ());
    let screen = refused(agent_common::Reject::Screen);
    let probe = |name, packet: Packet, kind, goal_ns| Probe { name, packet: packet.bytes(), kind, goal_ns };
    let on = |payload| Packet::on(0, payload);
    Ok(vec![
        probe("foreign: TCP", foreign_tcp, Kind::Refused(Outcome::Foreign), Some(20)),
        probe("foreign: UDP to another port", foreign_port, Kind::Refused(Outcome::Foreign), Some(20)),
        probe(
            "refused: another cluster",
            on(resigned(frame(&heard(), 0), |body| body[at::CLUSTER] ^= 1)),
            refused(agent_common::Reject::Cluster),
            None,
        ),
        probe(
            "refused: heard before",
            on(frame(&heard(), 0)),
            refused(agent_common::Reject::Duplicate),
            Some(30),
        ),
        probe(
            "refused: below the window",
            on(frame(&beat(PEER, 5, 900), 0)),
            refused(agent_common::Reject::TooOld),
            Some(30),
        ),
        probe("refused: the screen, made up", on(forged), screen, Some(100)),
        probe("refused: the screen, header captured", on(captured), screen, Some(100)),
        probe("refused: the screen, 1399 captured", on(captured_large), screen, None),
        probe("refused: the digest", on(damaged), refused(agent_common::Reject::Digest), None),
        probe("accepted: body of 119 bytes", on(sized(&heard(), 119)?), Kind::Accepted, Some(1300)),
        probe("accepted: body of 183 bytes", on(sized(&with_groups(5), 183)?), Kind::Accepted, None),
        probe("accepted: body of 247 bytes", on(sized(&with_groups(10), 247)?), Kind::Accepted, None),
        probe("accepted: body of 1399 bytes", on(sized(&largest(1000), 1399)?), Kind::Accepted, None),
    ])
}

/// The frame of a heartbeat whose body must have this length.
fn sized(beat: &Beat, body: usize) -> Result<Vec<u8>> {
    let frame = frame(beat, 0);
    ensure!(frame.len() == body + TAG_LEN, "a body of {} bytes instead of {body}", frame.len() - TAG_LEN);
    Ok(frame)
}

fn with_groups(groups: usize) -> Beat {
    let mut beat = beat(PEER, 5, 1000);
    beat.has_claims = true;
    beat.claims[..groups].fill(Claim { epoch: 1, candidate: 1, flags: Claim::HELD });
    beat
}

fn largest(seq: u64) -> Beat {
    let mut beat = with_groups(64);
    beat.seq = seq;
    for node in agent_common::NodeId::all().filter(|node| *node != beat.node) {
        beat.acked.insert(node);
    }
    beat
}

fn measure(
    arguments: &Arguments,
    product: &mut Kernel,
    accepting: &mut Kernel,
    probe: &Probe,
) -> Result<Row> {
    let mut times = Vec::with_capacity(arguments.runs);
    match probe.kind {
        Kind::Refused(expected) => {
            // Whoever refuses by sequence must have heard something.
            product.submit(&Packet::on(0, frame(&beat(PEER, 5, 1000), 0)).bytes())?;
            let outcome = product.submit(&probe.packet)?;
            ensure!(outcome == expected, "{}: {outcome:?} instead", probe.name);
            for _ in 0..arguments.runs {
                times.push(product.run(&probe.packet, arguments.repeat)?.1);
            }
        }
        Kind::Accepted => {
            // The first may be news; all others must be steady.
            accepting.run(&probe.packet, 1)?;
            let before = accepting.counters()?;
            for _ in 0..arguments.runs {
                times.push(accepting.run(&probe.packet, arguments.repeat)?.1);
            }
            let after = accepting.counters()?;
            let moved = |counter: Counter| after[counter.index()] - before[counter.index()];
            let expected = arguments.runs as u64 * u64::from(arguments.repeat);
            ensure!(moved(Counter::Accepted) == expected, "{}: not all were accepted", probe.name);
            ensure!(moved(Counter::News) + moved(Counter::NewsLost) == 0, "{}: not steady", probe.name);
        }
    }
    times.sort_unstable();
    let minimum_ns = times.first().copied().context("no runs")?;
    let median_ns = times.get(times.len() / 2).copied().context("no runs")?;
    Ok(Row { packet: probe.name, minimum_ns, median_ns, goal_ns: probe.goal_ns })
}

fn print(report: &Report) {
    println!("{}", report.machine.line());
    println!("{} runs of {} each, nanoseconds a packet\n", report.runs, report.repeat);
    println!("{:<38} {:>8} {:>8} {:>8}", "packet", "minimum", "median", "goal");
    for row in &report.rows {
        let goal = row.goal_ns.map_or_else(|| "-".to_owned(), |goal| format!("<= {goal}"));
        let verdict = match row.goal_ns {
            Some(goal) if row.minimum_ns > goal => "  missed",
            Some(_) | None => "",
        };
        println!("{:<38} {:>8} {:>8} {goal:>8}{verdict}", row.packet, row.minimum_ns, row.median_ns);
    }
}
