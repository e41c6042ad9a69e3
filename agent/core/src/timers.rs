//! What can wake a node, and how late it woke. Every deadline is absolute; the earliest is the one that the shell arms.

use core::time::Duration;

use crate::time::Instant;

/// What a node waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Something was fed and not yet decided.
    Review,
    /// Back from a minority for long enough to have heard everybody.
    Settle,
    /// The next heartbeat, or news.
    Send,
    /// A peer or link would be late or dead.
    Peers,
    /// A group or resource is tried again.
    Groups,
    /// The bound of an orderly leave.
    Leave,
}

impl Timer {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Review, Self::Settle, Self::Send, Self::Peers, Self::Groups, Self::Leave];
}

/// Lateness below this is nobody's business (or below a keepalive, if that is more).
pub(crate) const LATE_MIN: Duration = Duration::from_millis(5);
/// Least time between two reports of lateness.
pub(crate) const LATE_PAUSE: Duration = Duration::from_secs(1);

/// Measures how late this node's own thread runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Punctuality {
    /// When the last round asked to be woken.
    asked: Instant,
    /// Lateness above this is reported.
    bound: Duration,
    quiet_until: Instant,
}

impl Punctuality {
    /// Starts with a round that is due at `now`.
    pub(crate) fn new(keepalive: Duration, now: Instant) -> Self {
        Self { asked: now, bound: LATE_MIN.max(keepalive), quiet_until: Instant::ZERO }
    }

    /// A round begins at `now`: the lateness, if it is to be reported.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<Duration> {
        let late = now.since(self.asked);
        if late <= self.bound || now < self.quiet_until {
            return None;
        }
        self.quiet_until = now.after(LATE_PAUSE);
        Some(late)
    }

    /// A round ends and asks to be woken at `at`.
    pub(crate) const fn end(&mut self, at: Instant) {
        self.asked = at;
    }
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
