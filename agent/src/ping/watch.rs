//! Which targets are due, which requests are open, and which groups are reached: values in, values out, time is an argument.
//!
//! ```text
//!            an answer                       an answer, and one to a request sent after it
//!  Unknown ─────────────▶ Up ◀──────────────────────────────────────────┐
//!     │                    │ requests not answered for deadtime         │
//!     └────────────────────┴──────────────────────────────────────▶ Dead
//! ```
//! Silence runs from the first request that went unanswered, not from the last answer: a thread that slept, and asked
//! nothing, calls nobody dead.

use std::time::Duration;

use agent_core::Instant;

use super::PingState;
use crate::settings::PingSettings;

/// Requests to one target that can be open at once; answers to older ones do not count.
const OPEN_MAX: usize = 64;

/// All ping groups.
pub struct Watch {
    groups: Vec<Group>,
    changes: Vec<Changed>,
}

/// A target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Place of its group.
    pub group: usize,
    /// Its place in the group.
    pub target: usize,
}

/// An answer that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When its request was sent.
    pub sent: Instant,
    /// From the request to the answer.
    pub rtt: Duration,
}

/// A group's state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// When.
    pub at: Instant,
    /// Its place.
    pub group: usize,
    /// State before.
    pub from: PingState,
    /// State after.
    pub to: PingState,
}

struct Group {
    interval: Duration,
    deadtime: Duration,
    state: PingState,
    /// The first request since the last answer.
    unanswered: Option<Instant>,
    /// While dead: the first answer.
    rising: Option<Instant>,
    targets: Vec<Target>,
}

struct Target {
    due: Instant,
    /// Number of the next request.
    next: u64,
    /// When each open request was sent, by its number modulo the length.
    open: [Option<Instant>; OPEN_MAX],
    state: PingState,
    unanswered: Option<Instant>,
}

impl Watch {
    /// Nothing is known yet. The first requests to the targets of a group are spread over its interval.
    pub fn new(pings: &[PingSettings], now: Instant) -> Self {
        let group = |ping: &PingSettings| {
            let count = u32::try_from(ping.targets.len()).unwrap_or(u32::MAX).max(1);
            let target = |place: u32| Target {
                due: now.after(ping.interval / count * place),
                next: 0,
                open: [None; OPEN_MAX],
                state: PingState::Unknown,
                unanswered: None,
            };
            Group {
                interval: ping.interval,
                deadtime: ping.deadtime,
                state: PingState::Unknown,
                unanswered: None,
                rising: None,
                targets: (0..count).map(target).collect(),
            }
        };
        Self { groups: pings.iter().map(group).collect(), changes: Vec::with_capacity(pings.len()) }
    }

    /// A target that is to be asked now.
    pub fn due(&self, now: Instant) -> Option<Place> {
        self.groups.iter().enumerate().find_map(|(group, entry)| {
            let target = entry.targets.iter().position(|target| target.due <= now)?;
            Some(Place { group, target })
        })
    }

    /// A request to the target is sent now. Returns its number. After a pause the schedule goes on from now: there is no
    /// burst of late requests.
    pub fn ask(&mut self, place: Place, now: Instant) -> u64 {
        let Some(group) = self.groups.get_mut(place.group) else { return 0 };
        let Some(target) = group.targets.get_mut(place.target) else { return 0 };
        let sequence = target.next;
        target.next += 1;
        if let Some(slot) = target.open.get_mut(slot(sequence)) {
            *slot = Some(now);
        }
        let next = target.due.after(group.interval);
        target.due = if next <= now { now.after(group.interval) } else { next };
        target.unanswered.get_or_insert(now);
        group.unanswered.get_or_insert(now);
        sequence
    }

    /// The target answered the request with this number; `None` if that does not count: it is not open, or too old.
    pub fn answer(&mut self, place: Place, sequence: u64, now: Instant) -> Option<Answer> {
        let group = self.groups.get_mut(place.group)?;
        let target = group.targets.get_mut(place.target)?;
        let is_recent = sequence < target.next && target.next - sequence <= OPEN_MAX as u64;
        let sent = target.open.get_mut(slot(sequence)).filter(|_| is_recent)?.take()?;
        let rtt = now.since(sent);
        if rtt > group.deadtime {
            return None;
        }
        target.unanswered = None;
        target.state = PingState::Up;
        group.unanswered = None;
        let from = group.state;
        match from {
            PingState::Up => {}
            PingState::Unknown => group.state = PingState::Up,
            PingState::Dead => match group.rising {
                Some(first) if sent > first => {
                    group.state = PingState::Up;
                    group.rising = None;
                }
                Some(_) => {}
                None => group.rising = Some(now),
            },
        }
        if group.state != from {
            self.changes.push(Changed { at: now, group: place.group, from, to: group.state });
        }
        Some(Answer { sent, rtt })
    }

    /// Judges everything by what had arrived at `now`.
    pub fn judge(&mut self, now: Instant) {
        for (place, group) in self.groups.iter_mut().enumerate() {
            let deadtime = group.deadtime;
            let silent = |since: Option<Instant>| since.is_some_and(|since| since.after(deadtime) <= now);
            for target in group.targets.iter_mut().filter(|target| silent(target.unanswered)) {
                target.state = PingState::Dead;
            }
            if silent(group.rising) {
                group.rising = None;
            }
            if group.state != PingState::Dead && silent(group.unanswered) {
                let from = group.state;
                group.state = PingState::Dead;
                self.changes.push(Changed { at: now, group: place, from, to: PingState::Dead });
            }
        }
    }

    /// The changes since this was last asked, in order.
    pub fn take_changes(&mut self) -> impl Iterator<Item = Changed> {
        self.changes.drain(..)
    }

    /// How many groups are reached, `None` while that is not yet known of all of them.
    pub fn score(&self) -> Option<u8> {
        let count = |state| self.groups.iter().filter(|group| group.state == state).count();
        (count(PingState::Unknown) == 0).then(|| u8::try_from(count(PingState::Up)).unwrap_or(u8::MAX))
    }

    /// A target's state.
    pub fn target_state(&self, place: Place) -> PingState {
        let target = self.groups.get(place.group).and_then(|group| group.targets.get(place.target));
        target.map_or(PingState::Unknown, |target| target.state)
    }

    /// When something is to be done next: a request, or a verdict.
    pub fn next(&self) -> Instant {
        let group = |group: &Group| {
            let verdict = |state: PingState, since: Option<Instant>| match state {
                PingState::Unknown | PingState::Up => since.map(|since| since.after(group.deadtime)),
                PingState::Dead => None,
            };
            let targets = group.targets.iter().flat_map(|target| {
                [Some(target.due), verdict(target.state, target.unanswered)].into_iter().flatten()
            });
            targets.chain(verdict(group.state, group.unanswered)).min()
        };
        self.groups.iter().filter_map(group).min().unwrap_or(Instant::NEVER)
    }
}

const fn slot(sequence: u64) -> usize {
    (sequence % OPEN_MAX as u64) as usize
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
