//! What nodes take from the machine over a span of time: run time, wake-ups, memory, and what leaves their interface. Whoever
//! measures sleeps meanwhile, at a priority above everything measured, and notes how late it wakes.

use std::fs;
use std::time::Duration;

use agent_tests::lab::netns::Netns;
use agent_tests::lab::{clock, process, realtime};
use anyhow::{Context as _, Result};
use serde::Serialize;

/// Above everything measured.
const PRIORITY: i32 = 90;
/// Between two looks at the clock: seldom enough to keep no cache warm.
const LOOK_NS: u64 = 20_000_000;
/// Where heartbeats leave.
const INTERFACE: &str = "eth0:";

/// A node to measure.
pub struct Node<'a> {
    /// All its processes.
    pub pids: Vec<u32>,
    /// Where it is.
    pub host: &'a Netns,
}

/// What one node took.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Taken {
    /// Time that its threads ran, nanoseconds.
    pub run_ns: f64,
    /// Part of it in user mode, as the timer tick saw it.
    pub user: f64,
    /// Times that a thread slept until it was woken.
    pub wakeups: f64,
    /// Resident memory, MiB.
    pub resident_mib: f64,
    /// Frames that left its interface.
    pub frames: f64,
    /// Their bytes, with the Ethernet header and without checksum.
    pub bytes: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// How long.
    pub seconds: f64,
    /// In the order of the nodes.
    pub nodes: Vec<Taken>,
    /// Time of all processors in softirqs, nanoseconds, as the timer tick saw it.
    pub softirq_ns: f64,
    /// The latest waking of whoever measured, milliseconds.
    pub late_ms: f64,
}

#[derive(Clone, Copy)]
struct Counts {
    run_ns: u64,
    ticks: [u64; 2],
    sleeps: u64,
    frames: u64,
    bytes: u64,
}

/// Measures `nodes` for `span`.
///
/// # Errors
/// A process ended, or the user interrupted.
pub fn measure(nodes: &[Node<'_>], span: Duration) -> Result<Span> {
    let counts = || nodes.iter().map(Counts::of).collect::<Result<Vec<_>>>();
    let (before, softirq_before, from_ns) = (counts()?, softirq_ns()?, clock::now_ns());
    let late_ns = realtime::with_fifo(PRIORITY, || sleep(from_ns + clock::ns(span)))?;
    let (to_ns, softirq_after, after) = (clock::now_ns(), softirq_ns()?, counts()?);
    let mut taken = Vec::new();
    for ((before, after), node) in before.iter().zip(&after).zip(nodes) {
        let resident_kib = node.pids.iter().map(|pid| process::resident_kib(*pid)).sum::<Result<u64>>()?;
        taken.push(Taken { resident_mib: resident_kib as f64 / 1024.0, ..after.since(before) });
    }
    Ok(Span {
        seconds: (to_ns - from_ns) as f64 / 1e9,
        nodes: taken,
        softirq_ns: softirq_after - softirq_before,
        late_ms: clock::ms_between(0, late_ns),
    })
}

fn sleep(end_ns: u64) -> Result<u64> {
    let mut late_ns = 0;
    loop {
        clock::check_interrupt()?;
        let due_ns = end_ns.min(clock::now_ns() + LOOK_NS);
        clock::sleep_until(due_ns);
        let now_ns = clock::now_ns();
        late_ns = late_ns.max(now_ns.saturating_sub(due_ns));
        if now_ns >= end_ns {
            return Ok(late_ns);
        }
    }
}

impl Counts {
    fn of(node: &Node<'_>) -> Result<Self> {
        let mut counts = Self { run_ns: 0, ticks: [0; 2], sleeps: 0, frames: 0, bytes: 0 };
        for pid in &node.pids {
            counts.run_ns += process::run_time_ns(*pid)?;
            let [user, system] = process::ticks(*pid)?;
            counts.ticks = [counts.ticks[0] + user, counts.ticks[1] + system];
            counts.sleeps += process::sleeps(*pid)?;
        }
        [counts.frames, counts.bytes] = sent(node.host)?;
        Ok(counts)
    }

    fn since(&self, before: &Self) -> Taken {
        let of = |after: u64, before: u64| after.saturating_sub(before) as f64;
        let user = of(self.ticks[0], before.ticks[0]);
        let system = of(self.ticks[1], before.ticks[1]);
        Taken {
            run_ns: of(self.run_ns, before.run_ns),
            user: user / (user + system),
            wakeups: of(self.sleeps, before.sleeps),
            resident_mib: 0.0,
            frames: of(self.frames, before.frames),
            bytes: of(self.bytes, before.bytes),
        }
    }
}

/// Frames and bytes that left a host's first interface (`/proc/net/dev`).
fn sent(host: &Netns) -> Result<[u64; 2]> {
    // The thread's own: the process is in another namespace.
    let text = host.run(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let line =
        text.lines().find_map(|line| line.trim().strip_prefix(INTERFACE)).context("no such interface")?;
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let [_, _, _, _, _, _, _, _, bytes, frames, ..] = fields[..] else {
        anyhow::bail!("an odd /proc/net/dev: {line}")
    };
    Ok([frames, bytes])
}

/// Softirq time of all processors since the start of the machine.
fn softirq_ns() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: u64 = line.split_whitespace().nth(7).context("no softirqs in /proc/stat")?.parse()?;
    // Of a hundredth of a second each, whatever the kernel's own tick (proc(5), USER_HZ).
    Ok(ticks as f64 * 1e7)
}
