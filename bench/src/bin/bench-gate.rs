//! `cargo xtask bench gate`: what the gate adds to a packet's cost, by `BPF_PROG_TEST_RUN`: for packets to an address
//! behind it and to others, in both directions, beside the same program without a gate.

use std::{net::Ipv4Addr, path::PathBuf, process::ExitCode};

use agent_common::maps::Gate;
use agent_tests::{
    gate::{GateKernel, arp, classify, ethernet, ipv4, ipv6, load_classifier},
    kernel::Kernel,
};
use anyhow::{Result, ensure};
use bench::{
    report::{Cell, Goal, Report, Table},
    statistics::Summary,
};
use clap::Parser;

const OBJECT: &str = "xbeat-bench.bpf.o";
/// A classifier that does nothing.
const NOTHING: &str = "bench_nothing";
const GROUP: u32 = 3;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
/// Most nanoseconds that the gate may add for an address that is not gated, and for one that is.
const OTHER_GOAL_NS: f64 = 15.0;
const GATED_GOAL_NS: f64 = 60.0;

/// Cost of the gate, packet by packet.
#[derive(Parser)]
struct Arguments {
    /// Test-runs of each packet
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// Repetitions in each test-run
    #[arg(long, default_value_t = 30_000)]
    repeat: u32,
    /// Addresses behind gates, besides the one that is measured
    #[arg(long, default_value_t = 63)]
    addresses: u32,
    /// Directory for gate.json and gate.md
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
    goal_ns: f64,
}

fn main() -> ExitCode {
    bench::options::run(|| run(&Arguments::parse()))
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
    let mut report = Report::new("gate", "what the gate adds to a packet");
    report.notes.push(format!(
        "{} test-runs of {} each, {} more addresses behind gates. What the gate adds is the difference of the least with it and \
         without it, taken in turns.",
        arguments.runs, arguments.repeat, arguments.addresses
    ));
    let mut table = Table::new(
        "Nanoseconds a packet",
        &["packet", "without the gate", "with it: least", "median", "maximum", "added"],
    );
    for probe in probes() {
        let times = measure(arguments, &mut gate, &without_in, &mut without_out, &probe)?;
        let with = Summary::of(times.with.iter().copied());
        let (least, without) = (least(&times.with), least(&times.without));
        let added = (least - without).max(0.0);
        let mut row = vec![Cell::text(probe.name)];
        row.extend([without, least, with.median, with.max, added].map(|value| Cell::number(value, 0)));
        table.row(row);
        report.goals.push(Goal::new(format!("added to: {}", probe.name), added, probe.goal_ns, "ns"));
    }
    report.tables.push(table);
    report.publish(arguments.out.as_deref())
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

/// Nanoseconds of each test-run.
struct Times {
    with: Vec<f64>,
    without: Vec<f64>,
}

fn measure(
    arguments: &Arguments,
    gate: &mut GateKernel,
    without_in: &Kernel,
    without_out: &mut Kernel,
    probe: &Probe,
) -> Result<Times> {
    let expiry_ns = if probe.open { u64::MAX } else { 0 };
    gate.set(GROUP, Gate { epoch: 1, expiry_ns })?;
    let mut times = Times { with: Vec::new(), without: Vec::new() };
    // In turns, so that a noisy moment meets both.
    for _ in 0..arguments.runs {
        let (with, without) = match probe.way {
            Way::In => (
                gate.kernel.run(&probe.packet, arguments.repeat)?.1,
                without_in.run(&probe.packet, arguments.repeat)?.1,
            ),
            Way::Out => (
                gate.leave_often(&probe.packet, arguments.repeat)?.1,
                classify(without_out, NOTHING, &probe.packet, arguments.repeat)?.1,
            ),
        };
        times.with.push(with as f64);
        times.without.push(without as f64);
    }
    Ok(times)
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}
