//! What must not have happened, said exactly; and what happened beside a stall of the whole machine, which is shown and does not
//! fail the soak.

use agent_tests::lab::clock;

use super::Soak;
use super::fault::{NODES, SPARED};
use super::outage::Outage;
use super::watch::Death;

/// Growth of an agent's resident memory over the second half of its life that is none, in KiB.
pub const GROWTH_KIB: f64 = 256.0;
/// Lives that are judged.
pub const LIFE_SECONDS: f64 = 60.0;
/// Descriptors and threads may differ by what a reader has open while it is looked at.
const MORE: f64 = 3.0;
/// An agent that went on without a gap has a few maps more than one that was started, however often it did.
const MAPS: usize = 4;
/// Around an outage.
const AROUND_NS: u64 = 20_000_000;

/// The verdict.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Each is a violation.
    pub violations: Vec<String>,
    /// Each would be one, had the machine not stood still at that time.
    pub stalls: Vec<String>,
    /// Deaths while busy loops had the processors: `bench starvation` is about these.
    pub hogged: Vec<String>,
    /// The longest outage outside of rounds, in milliseconds; 0 without.
    pub outage_outside_ms: f64,
}

impl Verdict {
    /// Nothing that must not happen did.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Judges a soak.
pub fn of(soak: &Soak) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.violations.extend(soak.wrong.iter().cloned());
    serving(soak, &mut verdict);
    deaths(soak, &mut verdict);
    outages(soak, &mut verdict);
    memory(soak, &mut verdict);
    verdict
}

/// Outages that no round has.
pub fn outside(soak: &Soak) -> impl Iterator<Item = &Outage> {
    soak.watch.found.iter().filter(|outage| {
        !soak.rounds.iter().any(|round| {
            round.whole_ns.is_none_or(|whole_ns| outage.from_ns <= whole_ns) && outage.to_ns >= round.from_ns
        })
    })
}

/// What was done at a time.
fn during(soak: &Soak, at_ns: u64) -> &str {
    let round = soak.rounds.iter().rev().find(|round| round.from_ns <= at_ns);
    match round {
        Some(round) if round.whole_ns.is_none_or(|whole_ns| at_ns <= whole_ns) => &round.what,
        Some(_) | None if at_ns >= soak.rounds.last().map_or(0, |round| round.whole_ns.unwrap_or(0)) => {
            &soak.now
        }
        Some(_) | None => "quiet",
    }
}

/// Whether busy loops had the processors, or had just given them back.
pub fn is_hogged(soak: &Soak, death: &Death) -> bool {
    let after_ns = clock::ns(soak.setting.deadtime * 2);
    soak.hogs.iter().any(|(from_ns, to_ns)| (*from_ns..=to_ns + after_ns).contains(&death.at_ns))
}

/// Whether the machine is as good a reason for a death: a processor stood still for so long during the silence that a
/// heartbeat more than those that may be lost is missing.
pub fn is_stall(soak: &Soak, death: &Death) -> bool {
    let enough = soak.setting.deadtime.saturating_sub(soak.setting.keepalive * 2);
    !is_hogged(soak, death) && stood_ms(soak, death) >= enough.as_secs_f64() * 1e3
}

fn stood_ms(soak: &Soak, death: &Death) -> f64 {
    let silence_ns = clock::ns(soak.setting.deadtime + soak.setting.keepalive);
    soak.watch.stalls.stood_ms(death.at_ns.saturating_sub(silence_ns), death.at_ns)
}

fn second(soak: &Soak, at_ns: u64) -> f64 {
    clock::ms_between(soak.from_ns, at_ns) / 1e3
}

fn serving(soak: &Soak, verdict: &mut Verdict) {
    for turn in soak.watch.turns.doubles() {
        verdict.violations.push(format!(
            "second {:.3}: node {} answered the observer for {:.1} ms without a lease of its own",
            second(soak, turn.first_ns),
            turn.node,
            clock::ms_between(turn.first_ns, turn.last_ns),
        ));
    }
    for (before, after) in soak.watch.epochs.wrong() {
        verdict.violations.push(format!("an epoch did not rise: {before:?}, then {after:?}"));
    }
    for node in 0..NODES {
        let asked = soak.asked.get(node).copied().unwrap_or(0);
        // Twice every two milliseconds; half of it is enough of a witness on a busy machine.
        let least = (soak.to_ns - soak.from_ns) / 2_000_000;
        if asked < least {
            verdict.violations.push(format!("no witness: node {node} was asked {asked} times, not {least}"));
        }
    }
    if soak.watch.observer.forgotten() > 0 {
        verdict.violations.push(format!("no witness: {} answers forgotten", soak.watch.observer.forgotten()));
    }
    let answers: u64 = soak.watch.turns.answers().iter().sum();
    if answers < (soak.to_ns - soak.from_ns) / 4_000_000 {
        verdict.violations.push(format!("no witness: the observer heard {answers} answers only"));
    }
}

fn deaths(soak: &Soak, verdict: &mut Verdict) {
    for death in &soak.watch.deaths {
        let text = format!(
            "second {:.3}: node {} called node {} dead after {:.1} ms of silence, without a reason; a processor stood \
             still for {:.1} ms of it; at that time: {}",
            second(soak, death.at_ns),
            death.observer,
            death.peer,
            death.silent_ms,
            stood_ms(soak, death),
            during(soak, death.at_ns),
        );
        let list = match (is_hogged(soak, death), is_stall(soak, death)) {
            (true, _) => &mut verdict.hogged,
            (false, true) => &mut verdict.stalls,
            (false, false) => &mut verdict.violations,
        };
        list.push(text);
    }
}

fn outages(soak: &Soak, verdict: &mut Verdict) {
    let deadtime_ms = soak.setting.deadtime.as_secs_f64() * 1e3;
    for outage in outside(soak) {
        verdict.outage_outside_ms = verdict.outage_outside_ms.max(outage.ms());
        let stall_ms = soak
            .watch
            .stalls
            .stood_ms(outage.from_ns.saturating_sub(AROUND_NS), outage.to_ns.saturating_add(AROUND_NS));
        let text = format!(
            "second {:.3}: no service for {:.1} ms while everything was whole; a processor stood still for {stall_ms:.1} ms of it",
            second(soak, outage.from_ns),
            outage.ms(),
        );
        if stall_ms * 2.0 >= outage.ms() {
            verdict.stalls.push(text);
        } else if outage.ms() >= deadtime_ms {
            verdict.violations.push(text);
        }
    }
}

fn memory(soak: &Soak, verdict: &mut Verdict) {
    for (node, lives) in soak.watch.lives.iter().enumerate() {
        for life in lives.iter().filter(|life| life.seconds() >= LIFE_SECONDS) {
            let of = |what: &str, more: f64| {
                format!("node {node}: {what} grew by {more:.0} in the second half of {:.0} s", life.seconds())
            };
            if life.growth_kib() > GROWTH_KIB {
                verdict.violations.push(of("resident memory (KiB)", life.growth_kib()));
            }
            for (what, more) in [
                ("open descriptors", life.more(|sample| sample.descriptors)),
                ("threads", life.more(|sample| sample.threads)),
            ] {
                if more > MORE {
                    verdict.violations.push(of(what, more));
                }
            }
        }
    }
    if soak.watch.lives.get(SPARED).is_none_or(|lives| lives.len() != 1) {
        verdict.violations.push(format!("no witness: node {SPARED} had more than one process"));
    }
    let own: Vec<_> = soak.watch.kept.iter().filter(|kept| !kept.is_shared).collect();
    if let (Some(first), Some(last)) = (own.first(), own.last())
        && (last.objects.programs > first.objects.programs
            || last.objects.maps > first.objects.maps + MAPS * NODES
            || last.objects.links > first.objects.links)
    {
        verdict
            .violations
            .push(format!("BPF objects: {:?} at first, {:?} at last", first.objects, last.objects));
    }
}
