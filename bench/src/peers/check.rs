//! The self check of the drivers: two pairs of a peer side by side, quiet for a while, then each fault once at the serving node
//! of the first. The second is the witness that pairs do not disturb each other. And a ladder of settings, from fast to slow,
//! for which of them are quiet.

use std::fs;
use std::time::Duration;

use agent_tests::lab::clock;
use anyhow::{Context as _, Result, ensure};

use super::{Asks, Name, Options, Pair, Setting};

/// The pairs must be silent for so long.
pub const QUIET: Duration = Duration::from_secs(5);
/// Until a fault must have been answered.
const LIMIT: Duration = Duration::from_secs(15);
/// The client is watched from so long before a fault, and until so long after the takeover.
const AROUND: Duration = Duration::from_millis(300);

/// What happens to the node that serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// SIGKILL to all its processes, then its links: a machine without power.
    Kill,
    /// All its links.
    Cut,
    /// SIGSTOP to all its processes.
    Freeze,
    /// SIGTERM to the process that leads.
    Stop,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Cut, Self::Freeze, Self::Stop];

    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kill => "kill and cut",
            Self::Cut => "cut",
            Self::Freeze => "freeze",
            Self::Stop => "orderly stop",
        }
    }

    /// Lets it happen to `node`. Says when.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn strike(self, pair: &Pair, node: usize) -> Result<u64> {
        let fault_ns = clock::now_ns();
        match self {
            Self::Kill => {
                pair.kill(node);
                pair.cut(node)?;
            }
            Self::Cut => pair.cut(node)?,
            Self::Freeze => pair.freeze(node),
            Self::Stop => pair.stop_orderly(node)?,
        }
        Ok(fault_ns)
    }
}

/// What was seen of one fault; NaN for what was not.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Which.
    pub fault: Fault,
    /// From the last sign of life to the verdict, in ms.
    pub dead_ms: f64,
    /// The longest time that the client had no answer, in ms.
    pub outage_ms: f64,
    /// From the end of the fault to a whole pair, in seconds.
    pub recovery_s: f64,
}

/// What was seen of a peer.
#[derive(Clone, Debug)]
pub struct Check {
    /// From the start to a whole pair, in seconds; the slower of the two.
    pub start_s: f64,
    /// Verdicts of all nodes in [`QUIET`].
    pub quiet_verdicts: usize,
    /// How late the client was meanwhile, in ms: what the machine stood still.
    pub late_ms: f64,
    /// Heartbeats that came to a node in a second: that it was at work.
    pub heartbeats_per_s: f64,
    /// CPU of a node, in percent.
    pub cpu_percent: f64,
    /// Resident memory of a node.
    pub resident_kib: u64,
    /// Each fault.
    pub seen: Vec<Seen>,
    /// Verdicts of the other pair while the first was struck.
    pub neighbour_verdicts: usize,
    /// How late its client was at worst, in ms.
    pub neighbour_late_ms: f64,
}

/// Checks a peer at `setting`, with each fault `runs` times.
///
/// # Errors
/// It does not work, or leaves something behind.
pub fn check(name: Name, setting: Setting, runs: usize) -> Result<Check> {
    let check = run(name, setting, runs).with_context(|| format!("{} does not work", name.label()))?;
    let left = leftovers()?;
    ensure!(left.is_empty(), "{} leaves behind: {}", name.label(), left.join(", "));
    Ok(check)
}

fn run(name: Name, setting: Setting, runs: usize) -> Result<Check> {
    let begin_ns = clock::now_ns();
    let mut pair = Pair::start(name, setting)?;
    let neighbour = Pair::start_with(name, setting, Options { client: Asks::Seldom, ..Options::default() })?;
    pair.wait_whole()?;
    neighbour.wait_whole()?;
    let mut check = quiet(&pair, &neighbour)?;
    check.start_s = clock::ms_between(begin_ns, clock::now_ns()) / 1e3 - QUIET.as_secs_f64();
    let from_ns = clock::now_ns();
    neighbour.bed.client.forget_lateness();
    for fault in Fault::ALL.into_iter().cycle().take(Fault::ALL.len() * runs) {
        let seen = once(&mut pair, fault).inspect_err(|_| pair.print_logs());
        check.seen.push(seen.with_context(|| format!("after {}", fault.label()))?);
    }
    check.neighbour_verdicts = verdicts(&neighbour, from_ns);
    check.neighbour_late_ms = neighbour.bed.client.late_max_ms();
    Ok(check)
}

fn verdicts(pair: &Pair, from_ns: u64) -> usize {
    (0..2).map(|node| pair.verdicts(node, from_ns).len()).sum()
}

/// Watches both for a while.
fn quiet(pair: &Pair, neighbour: &Pair) -> Result<Check> {
    let backup = usize::from(pair.wait_whole()? == 0);
    let (from_ns, ran_ns, [_, came]) = (clock::now_ns(), pair.run_time_ns(backup), pair.heartbeats(backup)?);
    clock::pause(QUIET)?;
    let seconds = clock::ms_between(from_ns, clock::now_ns()) / 1e3;
    let frames = pair.heartbeats(backup)?[1].frames - came.frames;
    ensure!(frames > 0, "no sign of life came to n{backup}");
    Ok(Check {
        start_s: f64::NAN,
        quiet_verdicts: verdicts(pair, from_ns) + verdicts(neighbour, from_ns),
        late_ms: pair.bed.client.late_max_ms(),
        heartbeats_per_s: frames as f64 / seconds,
        cpu_percent: pair.run_time_ns(backup).saturating_sub(ran_ns) as f64 / 1e7 / seconds,
        resident_kib: pair.resident_kib(backup),
        seen: Vec::new(),
        neighbour_verdicts: 0,
        neighbour_late_ms: f64::NAN,
    })
}

/// One fault, and its end.
fn once(pair: &mut Pair, fault: Fault) -> Result<Seen> {
    let holder = pair.wait_whole()?;
    let survivor = usize::from(holder == 0);
    clock::pause(AROUND)?;
    let fault_ns = fault.strike(pair, holder)?;
    clock::wait_for("an answer of the other node", LIMIT, || {
        let answers = pair.bed.client.answers_since(fault_ns);
        Ok(answers.iter().any(|answer| usize::from(answer.node) == survivor).then_some(()))
    })?;
    clock::pause(AROUND)?;
    let gap = pair.bed.client.longest_gap(fault_ns.saturating_sub(clock::ns(AROUND)));
    let dead_ns = pair.verdicts(survivor, fault_ns).first().copied();
    // One that says goodbye is not found dead.
    ensure!(dead_ns.is_some() || fault == Fault::Stop, "n{survivor} did not find n{holder} dead");
    let dead_ms = dead_ns
        .and_then(|dead_ns| Some(clock::ms_between(pair.last_heard_ns(holder, survivor, dead_ns)?, dead_ns)));
    let end_ns = clock::now_ns();
    match fault {
        Fault::Kill | Fault::Cut => pair.heal(holder)?,
        Fault::Freeze | Fault::Stop => {}
    }
    pair.revive(holder)?;
    pair.wait_whole()?;
    Ok(Seen {
        fault,
        dead_ms: dead_ms.unwrap_or(f64::NAN),
        outage_ms: gap.map_or(f64::NAN, |gap| gap.ms()),
        recovery_s: clock::ms_between(end_ns, clock::now_ns()) / 1e3,
    })
}

/// What is left of pairs that are gone: processes and mounts.
///
/// # Errors
/// `/proc` cannot be read.
pub fn leftovers() -> Result<Vec<String>> {
    let mut left = Vec::new();
    for task in fs::read_dir("/proc/self/task").context("cannot list threads")? {
        // A thread may have ended.
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        left.extend(children.split_whitespace().map(|pid| format!("process {pid}")));
    }
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").context("cannot list mounts")?;
    left.extend(mounts.lines().filter(|line| line.contains("xbeat-lab")).map(|line| format!("mount {line}")));
    Ok(left)
}

/// From fast to slow, what [`probe`] tries.
pub fn ladder(name: Name) -> Vec<Setting> {
    let steps: &[(u64, u32)] = match name {
        Name::Keepalived | Name::Bfdd => &[(10, 2), (10, 3), (10, 5)],
        Name::Heartbeat => &[(10, 3), (10, 5), (20, 5)],
        Name::Corosync => &[(12, 3), (10, 4), (10, 6)],
    };
    steps.iter().map(|(interval, count)| Setting::new(*interval, *count)).collect()
}

/// Verdicts of a pair at `setting` that runs quietly for `time`, and how late the client was at worst, in ms.
///
/// # Errors
/// It does not come up.
pub fn probe(name: Name, setting: Setting, time: Duration) -> Result<(usize, f64)> {
    let options = Options { captures: false, ..Options::default() };
    let pair = Pair::start_with(name, setting, options)?;
    pair.wait_whole()?;
    let from_ns = clock::now_ns();
    clock::pause(time)?;
    Ok((verdicts(&pair, from_ns), pair.bed.client.late_max_ms()))
}
