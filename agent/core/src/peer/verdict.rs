//! When the silence of a peer makes it late or dead, as deadlines (invariants I2 and I3).

use core::time::Duration;

use crate::link::Link;
use crate::rules::Rules;
use crate::snapshot::PeerState;
use crate::time::Instant;

use super::Peer;

impl Peer {
    /// The newest moment at which it is known, or must be taken, to have been alive.
    pub(super) fn newest(&self) -> Option<Instant> {
        self.counts_at.max(self.reborn_at).max(self.spared)
    }

    /// The first moment at which a reading without a new stamp says dead.
    pub(super) fn dead_at(&self, rules: &Rules) -> Instant {
        match (self.state, self.newest()) {
            (PeerState::Dead, _) => Instant::NEVER,
            (PeerState::Unknown | PeerState::Up | PeerState::Late | PeerState::Leaving, None) => {
                rules.unknown_until
            }
            // Unknown with a stamp: it came and went while we slept.
            (PeerState::Unknown | PeerState::Up | PeerState::Late | PeerState::Leaving, Some(at)) => {
                just_after(at, self.deadtime)
            }
        }
    }

    /// The same for late.
    pub(super) fn late_at(&self, rules: &Rules) -> Instant {
        match (self.state, self.newest()) {
            (PeerState::Up, Some(at)) => just_after(at, rules.warntime),
            (PeerState::Up, None)
            | (PeerState::Unknown | PeerState::Late | PeerState::Dead | PeerState::Leaving, _) => {
                Instant::NEVER
            }
        }
    }

    pub(super) fn next_check(&self, rules: &Rules) -> Instant {
        let own = self.dead_at(rules).min(self.late_at(rules));
        let grace = if self.grace_over { Instant::NEVER } else { self.grace_until };
        let links = self.links.iter().take(rules.links);
        links.map(Link::deadline).fold(own.min(grace), Instant::min)
    }
}

/// The first moment that is later than `at + span`.
const fn just_after(at: Instant, span: Duration) -> Instant {
    Instant(at.after(span).0.saturating_add(1))
}
