//! One phase: a load on some CPUs for a while, first without a fault, then with the holder's link cut a few times. All subjects
//! are under the same load at once.

use std::path::Path;
use std::time::Duration;

use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result};

use super::lateness::Lateness;
use super::load::{self, Load};
use super::probe::Probes;
use super::subject::Subject;
use super::witness::{Noise, Witness};
use super::{Place, Rung};

/// The benchmark itself must get at its faults, whatever runs. It sleeps nearly always.
pub(super) const PRIORITY: i32 = 98;
/// From a cut to the link's return: more than a starved observer may need.
const CUT: Duration = Duration::from_millis(1_500);
/// From there to the next cut.
const REST: Duration = Duration::from_millis(2_000);
/// After the link's return nobody is false who still thinks it is cut.
const GRACE: Duration = Duration::from_millis(1_000);
/// The cuts of two subjects are so far apart: their takeovers do not meet.
const APART: Duration = Duration::from_millis(37);
/// The load lasts longer than the phase by this.
const MARGIN: Duration = Duration::from_secs(2);
/// More of all CPUs than this part of a phase is much.
const STOLEN_PART: f64 = 0.02;
/// After the load, until the last event was told.
const DRAIN: Duration = Duration::from_millis(800);

/// What is done in a phase.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What load.
    pub rung: Rung,
    /// Where.
    pub place: Place,
    /// How long.
    pub span: Duration,
}

/// What a node was seen to do in a phase.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// It declared the other dead, without a fault.
    pub false_deaths: usize,
    /// Of these, while the machine itself stood still.
    pub stalled: usize,
    /// Of these, within the deadtime after a heartbeat that had reached its port.
    pub unheard: usize,
    /// Worst time between two of its own signs of life on the wire.
    pub gap_ms: f64,
    /// Worst lateness of its realtime thread, NaN for a peer.
    pub late_ms: f64,
    /// Verdicts behind the deadtime, of the cuts that it found.
    pub overshoots_ms: Vec<f64>,
    /// Cuts.
    pub cuts: usize,
}

/// What a subject did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Node 0, on the first CPU, and node 1, on the second.
    pub nodes: [Seen; 2],
    /// The longest time without service while there was no fault.
    pub lost_ms: f64,
    /// The longest time without service after each cut of the holder, at most until its link was back.
    pub away_ms: Vec<f64>,
}

/// What came of a phase.
pub struct Finding {
    /// The plan.
    pub plan: Plan,
    /// By subject; `None` for one that was not whole at the beginning.
    pub outcomes: Vec<Option<Outcome>>,
    /// The machine's own.
    pub noise: Noise,
    /// Time that the hypervisor took of all CPUs, milliseconds.
    pub stolen_ms: f64,
    /// How often the phase was run, since the hypervisor took much; this is the time when it took least.
    pub attempts: usize,
}

impl Finding {
    /// Whether the hypervisor took so much of all CPUs that the phase is about the hypervisor.
    pub fn is_stolen(&self, cpus: usize) -> bool {
        self.stolen_ms > self.plan.span.as_secs_f64() * 1e3 * cpus as f64 * STOLEN_PART
    }
}

/// When what was done.
#[derive(Debug, Default)]
struct Times {
    begin_ns: u64,
    quiet_ns: u64,
    end_ns: u64,
    /// By subject: when a node was cut off, which, and when it had its link again.
    cuts: Vec<Vec<(u64, usize, u64)>>,
}

impl Plan {
    /// How often each holder is cut off: an even number in a long phase, so that the service ends where it was.
    pub fn cuts(&self) -> u32 {
        match self.span.as_secs() {
            30.. => 4,
            15.. => 2,
            _ => 1,
        }
    }

    fn quiet(&self, cuts: u32) -> Duration {
        self.span.saturating_sub((CUT + REST) * cuts)
    }
}

/// Runs a phase.
///
/// # Errors
/// The load cannot be had, a subject cannot be made whole, or the user interrupted.
pub fn run(
    plan: Plan,
    subjects: &mut [Subject],
    cpus: &[usize],
    witness: &Witness,
    scratch: &Path,
) -> Result<Finding> {
    for subject in subjects.iter_mut() {
        subject.prepare(cpus)?;
    }
    for subject in subjects.iter_mut() {
        let name = subject.name.clone();
        subject.settle().with_context(|| format!("{name} did not become whole"))?;
    }
    let probes = Probes::start(subjects.iter().map(Subject::asker).collect::<Result<_>>()?)?;
    let before = lateness(subjects)?;
    subjects.iter().for_each(Subject::clear);
    let stolen_ms = load::stolen_ms()?;
    witness.take();
    let loaded = plan.place.cpus(cpus);
    let times = realtime::with_fifo(PRIORITY, || -> Result<Times> {
        let mut load = Load::start(plan.rung, loaded, plan.span + MARGIN, scratch)?;
        let times = strike(plan, subjects)?;
        load.check()?;
        Ok(times)
    })?;
    let (noise, stolen_ms) = (witness.take(), load::stolen_ms()? - stolen_ms);
    clock::pause(DRAIN)?;
    let after = lateness(subjects)?;
    let mut outcomes = Vec::new();
    for (place, subject) in subjects.iter().enumerate() {
        let cuts = times.cuts.get(place).map_or(&[][..], Vec::as_slice);
        let late = |node: usize| {
            let (Some(Some(after)), Some(Some(before))) = (after.get(place), before.get(place)) else {
                return f64::NAN;
            };
            after[node].worst_since_ms(&before[node])
        };
        let outcome = Outcome {
            nodes: [0, 1].map(|node| seen(subject, node, &times, cuts, &noise, late(node))),
            lost_ms: probes.lost_ms(place, times.begin_ns, times.quiet_ns),
            away_ms: cuts.iter().map(|(cut, _, healed)| probes.lost_ms(place, *cut, *healed)).collect(),
        };
        outcomes.push(subject.is_whole.then_some(outcome));
    }
    Ok(Finding { plan, outcomes, noise, stolen_ms, attempts: 1 })
}

fn lateness(subjects: &[Subject]) -> Result<Vec<Option<[Lateness; 2]>>> {
    subjects.iter().map(Subject::lateness).collect()
}

/// First nothing but the load, then the cuts.
fn strike(plan: Plan, subjects: &[Subject]) -> Result<Times> {
    let cuts = plan.cuts();
    let mut times = Times { begin_ns: clock::now_ns(), ..Times::default() };
    times.cuts = vec![Vec::new(); subjects.len()];
    clock::pause(plan.quiet(cuts))?;
    times.quiet_ns = clock::now_ns();
    for number in 0..cuts as usize {
        let from_ns = clock::now_ns();
        let at = |place: usize| from_ns + clock::ns(APART) * place as u64;
        // Each cut moves the service to the other node.
        let node = |subject: &Subject| (subject.holder + number) % 2;
        for (place, subject) in subjects.iter().enumerate() {
            clock::sleep_until(at(place));
            times.cuts[place].push((clock::now_ns(), node(subject), 0));
            subject.plug(node(subject), false)?;
        }
        for (place, subject) in subjects.iter().enumerate() {
            clock::sleep_until(at(place) + clock::ns(CUT));
            if let Some(cut) = times.cuts[place].last_mut() {
                cut.2 = clock::now_ns();
            }
            subject.plug(node(subject), true)?;
        }
        clock::pause(Duration::from_nanos(
            (from_ns + clock::ns(CUT + REST)).saturating_sub(clock::now_ns()),
        ))?;
    }
    times.end_ns = clock::now_ns();
    Ok(times)
}

fn seen(
    subject: &Subject,
    node: usize,
    times: &Times,
    cuts: &[(u64, usize, u64)],
    noise: &Noise,
    late_ms: f64,
) -> Seen {
    let deadtime_ns = clock::ns(subject.deadtime(node));
    let heard = subject.signs(1 - node, node, 0);
    let last_heard = |at_ns: u64| heard.iter().rev().find(|heard_ns| **heard_ns <= at_ns).copied();
    let verdicts = subject.verdicts(node, times.begin_ns);
    let is_fault = |at_ns: u64| {
        cuts.iter().any(|(cut_ns, _, healed_ns)| (*cut_ns..healed_ns + clock::ns(GRACE)).contains(&at_ns))
    };
    // Who need not send has no gap.
    let must_send = !subject.is_one_sided() || subject.holder == node;
    let sent = subject.signs(node, node, 0);
    let mut seen = Seen {
        gap_ms: if must_send { worst_gap_ms(&sent, times.begin_ns, times.quiet_ns) } else { f64::NAN },
        late_ms,
        ..Seen::default()
    };
    for at_ns in verdicts.iter().copied().filter(|at_ns| *at_ns < times.end_ns && !is_fault(*at_ns)) {
        seen.false_deaths += 1;
        seen.stalled += usize::from(noise.is_stalled(at_ns.saturating_sub(2 * deadtime_ns), at_ns));
        // A millisecond between the port and the program behind it is none of anybody's.
        let is_heard = last_heard(at_ns).is_some_and(|heard_ns| at_ns - heard_ns + 1_000_000 < deadtime_ns);
        seen.unheard += usize::from(is_heard);
    }
    for (cut_ns, cut_node, healed_ns) in cuts {
        // Of keepalived only the one that does not serve watches the other.
        if subject.is_one_sided() && *cut_node == node {
            continue;
        }
        seen.cuts += 1;
        let found = verdicts.iter().find(|at_ns| (*cut_ns..*healed_ns).contains(at_ns));
        let silence = found.and_then(|at_ns| Some(clock::ms_between(last_heard(*at_ns)?, *at_ns)));
        seen.overshoots_ms.extend(silence.map(|silence| silence - deadtime_ns as f64 / 1e6));
    }
    seen
}

/// The worst time between two of `times_ns`, also to both ends.
fn worst_gap_ms(times_ns: &[u64], begin_ns: u64, end_ns: u64) -> f64 {
    let within = times_ns.iter().copied().filter(|at_ns| (begin_ns..end_ns).contains(at_ns));
    let (mut last_ns, mut worst_ns) = (begin_ns, 0);
    for at_ns in within.chain([end_ns]) {
        // Two processors' stamps may be a little out of order.
        worst_ns = worst_ns.max(at_ns.saturating_sub(last_ns));
        last_ns = last_ns.max(at_ns);
    }
    worst_ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::worst_gap_ms;

    #[test]
    fn the_gap_to_the_end_counts_too() {
        let ms = |times: &[u64]| {
            let times: Vec<u64> = times.iter().map(|ms| ms * 1_000_000).collect();
            worst_gap_ms(&times, 10_000_000, 100_000_000)
        };
        assert!((ms(&[5, 20, 30, 60, 90, 200]) - 30.0).abs() < 1e-9);
        assert!((ms(&[20, 30]) - 70.0).abs() < 1e-9);
        assert!((ms(&[5, 200]) - 90.0).abs() < 1e-9);
        assert!((ms(&[20, 30, 29, 40, 70]) - 30.0).abs() < 1e-9, "out of order");
    }
}
