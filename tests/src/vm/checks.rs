//! The checks of one kernel, in order: what it makes of the object, how the agent attaches, and what a cluster of two of
//! its machines does when one of them fails. Times that are judged are the guests' own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::config::{Node, Spec};
use super::faults;
use super::initramfs::OBJECTS;
use super::load;
use super::machine::until;
use super::pair::{Pair, Parts};
use super::protocol::{Order, Program, Tested};
use super::table::{Check, Row};
use crate::lab::clock;
use crate::privileged;

/// What the tests of the verdicts may take in a machine.
const TEST_LIMIT: Duration = Duration::from_secs(480);
/// TCX came with 6.6.
const TCX_SINCE: (u32, u32) = (6, 6);
/// The cluster of the checks that follow.
const CLUSTER: Spec = Spec { xdp: "native", watchdog: false, serial: true };

/// Makes all checks of a kernel.
pub fn kernel(series: &str, parts: Parts<'_>, directory: &Path) -> Row {
    let mut row = Row::new(series);
    let mut booted = None;
    let started = clock::now_ns();
    row.make(Check::Boot, || {
        let pair = booted.insert(Pair::boot(parts, directory)?);
        let release = pair.on(Node::Alpha).release();
        let seconds = (clock::now_ns() - started) as f64 / 1e9;
        Ok(format!("{release}: two machines in {seconds:.1} s"))
    });
    if let Some(mut pair) = booted {
        row.release = pair.on(Node::Alpha).release().to_owned();
        guests(&mut row, &mut pair);
        if row.has_failed() {
            show_consoles(&mut pair);
        }
    }
    row.skip_the_rest("after a failure");
    row
}

/// The ordinary tests run on this machine's own kernel; here it is a row like the others, as far as no machine is needed.
pub fn host(parts: Parts<'_>) -> Row {
    let mut row = Row::new("host");
    row.release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    if privileged::privileged("the host's row") {
        row.make(Check::Load, || loaded(load::programs(&parts.objects.join(OBJECTS[0]))?));
        for (check, test) in [(Check::Frames, "xdp_verdict"), (Check::Gates, "gate_verdict")] {
            row.make(check, || verdicts(&run_here(parts, test)?));
        }
        row.skip_the_rest("the tests in network namespaces show it: cargo xtask test");
    } else {
        row.skip_the_rest("not root, or the kernel does not load XDP programs");
    }
    row
}

fn run_here(parts: Parts<'_>, test: &str) -> Result<Tested> {
    let output = Command::new(parts.programs.join(test))
        .arg("--test-threads=1")
        .env("XBEAT_EBPF_OBJECT", parts.objects.join(OBJECTS[0]))
        .env(privileged::REQUIRE, "1")
        .output()
        .with_context(|| format!("cannot run {test}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Tested { passed: output.status.success(), tail: text.lines().map(str::to_owned).collect() })
}

fn guests(row: &mut Row, pair: &mut Pair) {
    row.make(Check::Load, || loaded(pair.on(Node::Alpha).ask(Order::Load)?));
    // One in each machine, at once.
    let test = |pair: &mut Pair, node: Node, name: &str| {
        pair.on(node).begin(Order::Test { name: name.to_owned(), limit_s: TEST_LIMIT.as_secs() })
    };
    let frames = test(pair, Node::Alpha, "xdp_verdict");
    let gates = test(pair, Node::Beta, "gate_verdict");
    let limit = TEST_LIMIT + Duration::from_secs(10);
    row.make(Check::Frames, || {
        verdicts(&pair.on(Node::Alpha).collect(frames?, "the test of XDP's verdicts", limit)?)
    });
    row.make(Check::Gates, || {
        verdicts(&pair.on(Node::Beta).collect(gates?, "the test of the gate's verdicts", limit)?)
    });
    for node in Node::BOTH {
        pair.on(node).prioritise();
    }
    row.make(Check::Classifier, || classifier(pair));
    if !row.make(Check::Cluster, || cluster(pair)) {
        return;
    }
    row.make(Check::Receive, || receive(pair));
    row.make(Check::Egress, || egress(pair));
    if !row.make(Check::Killed, || faults::killed(pair, CLUSTER)) {
        return;
    }
    row.make(Check::Serial, || faults::network_cut(pair));
    if !row.make(Check::Panic, || faults::panic(pair, Spec { watchdog: true, ..CLUSTER })) {
        return;
    }
    row.make(Check::Watchdog, || faults::watchdog(pair, Spec { watchdog: true, ..CLUSTER }));
    row.make(Check::Stop, || faults::stop(pair));
}

fn loaded(programs: Vec<Program>) -> Result<String> {
    let mut parts = Vec::new();
    for Program { name, verified, refused } in programs {
        let short = name.strip_prefix("xbeat_").map_or_else(|| "xdp".to_owned(), str::to_owned);
        match (refused, verified) {
            (Some(why), _) => anyhow::bail!("{name}: {why}"),
            (None, Some(count)) => parts.push(format!("{short} {count}")),
            // The kernel does not tell before 5.16.
            (None, None) => parts.push(short),
        }
    }
    Ok(parts.join(", "))
}

fn verdicts(tested: &Tested) -> Result<String> {
    ensure!(tested.passed, "{}", failure(&tested.tail));
    let count = tested.count();
    ensure!(count > 0, "no test ran: {}", tested.tail.join(" / "));
    Ok(format!("{count} tests"))
}

/// From the first panic on: before it are the tests that passed.
fn failure(lines: &[String]) -> String {
    let start = lines.iter().position(|line| line.contains("panicked at")).unwrap_or(0);
    lines.get(start..).unwrap_or_default().join(" / ")
}

/// Both nodes receive by a classifier, and hear each other by it.
fn classifier(pair: &mut Pair) -> Result<String> {
    let spec = Spec { xdp: "tcx", watchdog: false, serial: false };
    for node in Node::BOTH {
        pair.start(node, spec)?;
    }
    pair.agreed()?;
    let receives = pair.status(Node::Alpha)?.receives().to_owned();
    let way: String = pair.on(Node::Alpha).ask(Order::Classifier { egress: false })?;
    for node in Node::BOTH {
        pair.on(node).order(Order::Stop)?;
    }
    ensure!(receives == "tcx", "the agent receives by {receives:?}, the interface has {way}");
    expect_way(pair, &way)
}

fn cluster(pair: &mut Pair) -> Result<String> {
    for node in Node::BOTH {
        pair.start(node, CLUSTER)?;
    }
    let holder = pair.agreed()?;
    Ok(format!("{} serves", holder.name()))
}

fn receive(pair: &mut Pair) -> Result<String> {
    let status = pair.status(Node::Alpha)?;
    let (receives, gate) = (status.receives(), status.gate());
    ensure!(receives == "native" && gate == "kernel", "receives by {receives}, gate in {gate}");
    Ok(format!("{receives} XDP, gate in the {gate}"))
}

fn egress(pair: &mut Pair) -> Result<String> {
    let way: String = pair.on(Node::Alpha).ask(Order::Classifier { egress: true })?;
    expect_way(pair, &way)
}

fn expect_way(pair: &mut Pair, way: &str) -> Result<String> {
    let release = pair.on(Node::Alpha).release();
    let expected = if version(release) >= TCX_SINCE { "tcx" } else { "clsact" };
    ensure!(way == expected, "by {way}, and not by {expected}");
    Ok(way.to_owned())
}

/// `6.12.117+deb12-amd64` is 6.12.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn show_consoles(pair: &mut Pair) {
    for node in Node::BOTH {
        eprintln!("the end of {}'s console:", node.name());
        for line in pair.on(node).tail() {
            eprintln!("  {line}");
        }
    }
    eprintln!("(the whole logs stay with --keep)");
}

/// Waits until a node serves.
///
/// # Errors
/// It does not in time.
pub(super) fn serves(pair: &mut Pair, node: Node, limit: Duration) -> Result<()> {
    until("a takeover", limit, || Ok(pair.status(node)?.serves().then_some(())))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn releases_are_told_apart() {
        assert_eq!(version("5.10.0-46-amd64"), (5, 10));
        assert_eq!(version("6.12.117+deb12-amd64"), (6, 12));
        assert!(version("6.1.0-56-amd64") < super::TCX_SINCE);
        assert!(version("6.6-rc1") >= super::TCX_SINCE);
    }
}
