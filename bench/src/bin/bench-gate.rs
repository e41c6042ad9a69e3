//! `cargo xtask bench gate`: what the gate adds to a packet's cost, by `BPF_PROG_TEST_RUN`: for packets to an address
//! behind it and to others, in both directions, beside the same program without a gate.

use std::{net::Ipv4Addr, path::PathBuf, process::ExitCode};

use agent_common::maps::Gate;
use agent_tests::{
    gate::{GateKernel, arp, classify, ethernet, ipv4, ipv6, load_classifier},
    kernel::Kernel,
};
use anyhow::{Context as _, Result, ensure};
use bench::machine::Machine;
use clap::Parser;
use serde::Serialize;

const OBJECT: &str = "xbeat-bench.bpf.o";
/// A classifier that does nothing.
const NOTHING: &str = "bench_nothing";
const GROUP: u32 = 3;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
/// Most nanoseconds that the gate may add for an address that is not gated, and for one that is.
const OTHER_GOAL_NS: u64 = 15;
const GATED_GOAL_NS: u64 = 60;

/// Cost of the gate, packet by packet.
#[derive(Parser)]
struct Arguments {
    /// Test-runs of each packet; the minimum and the median are shown
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// Repetitions in each test-run
    #[arg(long, default_value_t = 30_000)]
    repeat: u32,
    /// Addresses behind gates, besides the one that is measured
    #[arg(long, default_value_t = 63)]
    addresses: u32,
    /// Directory for gate.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

struct Probe {
    name: &'static str,
    packet: Vec<u8>,
    way: Way,
    open: bool,
    goal_ns: u64,
}

/// What was measured: the gate's own part is the difference of the minima.
#[derive(Serialize)]
struct Row {
    packet: &'static str,
    without_ns: u64,
    minimum_ns: u64,
    median_ns: u64,
    added_ns: u64,
    goal_ns: u64,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    runs: usize,
    repeat: u32,
    addresses: u32,
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
    let mut gate = GateKernel::new()?;
    gate.guard(ADDRESS.into(), GROUP, 0)?;
    for place in 1..=arguments.addresses {
        let [_, _, high, low] = place.to_be_bytes();
        gate.guard(Ipv4Addr::new(192, 168, high, low).into(), place % 64, place)?;
    }
    let mut without_in = Kernel::unconfigured(OBJECT, "bench_ungated")?;
    without_in.configure()?;
    let mut without_out = Kernel::unconfigured(OBJECT, "bench_ungated")?;
    load_classifier(&mut without_out, NOTHING)?;
    let mut rows = Vec::new();
    for probe in probes() {
        rows.push(measure(arguments, &mut gate, &without_in, &mut without_out, &probe)?);
    }
    let Arguments { runs, repeat, addresses, .. } = *arguments;
    let report = Report { machine: Machine::here(), runs, repeat, addresses, rows };
    print(&report);
    if let Some(directory) = &arguments.out {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create the directory {}", directory.display()))?;
        let path = directory.join("gate.json");
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn probes() -> Vec<Probe> {
    let v4 = |from, to| ethernet(&[], 0x0800, &ipv4(from, to, 6, 0, &[0; 40]));
    let v6 = ethernet(&[], 0x86dd, &ipv6([0xfd; 16].into(), [0xfe; 16].into(), 6, &[0; 40]));
    let asked = ethernet(&[], 0x0806, &arp(1, OTHER, ADDRESS));
    let probe = |name, packet, way, open, goal_ns| Probe { name, packet, way, open, goal_ns };
    vec![
        probe("IPv4 to another address", v4(ADDRESS, OTHER), Way::In, true, OTHER_GOAL_NS),
        probe("IPv6 to another address", v6.clone(), Way::In, true, OTHER_GOAL_NS),
        probe("IPv4 to a gated one, open", v4(OTHER, ADDRESS), Way::In, true, GATED_GOAL_NS),
        probe("IPv4 to a gated one, shut", v4(OTHER, ADDRESS), Way::In, false, GATED_GOAL_NS),
        probe("ARP request for it, open", asked, Way::In, true, GATED_GOAL_NS),
        probe("IPv4 from another address", v4(OTHER, ADDRESS), Way::Out, true, OTHER_GOAL_NS),
        probe("IPv6 from another address", v6, Way::Out, true, OTHER_GOAL_NS),
        probe("IPv4 from a gated one, open", v4(ADDRESS, OTHER), Way::Out, true, GATED_GOAL_NS),
        probe("IPv4 from a gated one, shut", v4(ADDRESS, OTHER), Way::Out, false, GATED_GOAL_NS),
    ]
}

fn measure(
    arguments: &Arguments,
    gate: &mut GateKernel,
    without_in: &Kernel,
    without_out: &mut Kernel,
    probe: &Probe,
) -> Result<Row> {
    let expiry_ns = if probe.open { u64::MAX } else { 0 };
    gate.set(GROUP, Gate { epoch: 1, expiry_ns })?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    // In turns, so that a noisy moment meets both.
    for _ in 0..arguments.runs {
        match probe.way {
            Way::In => {
                with.push(gate.kernel.run(&probe.packet, arguments.repeat)?.1);
                without.push(without_in.run(&probe.packet, arguments.repeat)?.1);
            }
            Way::Out => {
                with.push(gate.leave_often(&probe.packet, arguments.repeat)?.1);
                without.push(classify(without_out, NOTHING, &probe.packet, arguments.repeat)?.1);
            }
        }
    }
    with.sort_unstable();
    let minimum_ns = with.first().copied().context("no runs")?;
    let median_ns = with.get(with.len() / 2).copied().context("no runs")?;
    let without_ns = without.iter().min().copied().context("no runs")?;
    Ok(Row {
        packet: probe.name,
        without_ns,
        minimum_ns,
        median_ns,
        added_ns: minimum_ns.saturating_sub(without_ns),
        goal_ns: probe.goal_ns,
    })
}

fn print(report: &Report) {
    println!("{}", report.machine.line());
    let Report { runs, repeat, addresses, .. } = report;
    println!("{runs} runs of {repeat} each, {addresses} more addresses, nanoseconds a packet\n");
    println!(
        "{:<30} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "packet", "without", "minimum", "median", "added", "goal"
    );
    for row in &report.rows {
        let missed = if row.added_ns > row.goal_ns { "  missed" } else { "" };
        let goal = format!("<= {}", row.goal_ns);
        println!(
            "{:<30} {:>8} {:>8} {:>8} {:>8} {goal:>8}{missed}",
            row.packet, row.without_ns, row.minimum_ns, row.median_ns, row.added_ns
        );
    }
}
