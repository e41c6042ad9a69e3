//! What a node may do that has just started (design: Start without carried state, Start with carried state).
//!
//! *Start without carried state*: it votes for nobody, itself included, until `initdead` has passed since the start, or until
//! every *other owner* of the group has acked this incarnation: it has then forgotten the promises of the one
//! before. The first start is no exception. *Start with carried state*: no hold-off, since nothing was forgotten.

use agent_common::NodeSet;

use crate::config::{Config, Start};
use crate::mutation::{Mutated, Mutation};
use crate::time::Instant;

use super::slew::Slew;

/// How long this node's earlier life may still bind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoldOff {
    /// No promise of an earlier life lasts longer.
    until: Instant,
    /// Peers that acked this incarnation; what they forgot stays forgotten.
    acked: NodeSet,
    mutated: Mutated,
}

impl HoldOff {
    /// For a node that starts at `now`.
    pub(crate) fn new(config: &Config, now: Instant, slew: Slew) -> Self {
        let mutated = config.mutated;
        let until = match &config.start {
            Start::Carried(carried) => carried.held_off_until,
            Start::Fresh if mutated.is(Mutation::NoHoldOff) => now,
            Start::Fresh if mutated.is(Mutation::HoldOffOwnDeadtimeOnly) => now.after(config.timing.deadtime),
            Start::Fresh => now.after(slew.wait(config.timing.initdead)),
        };
        Self { until, acked: NodeSet::EMPTY, mutated }
    }

    /// The clock is slewed: what is left to wait grows.
    pub(crate) fn slewed(&mut self, slew: Slew, now: Instant) {
        if self.until > now {
            self.until = now.after(slew.wait(self.until.since(now)));
        }
    }

    /// A peer acked this incarnation. True when it had not before.
    pub(crate) const fn acked(&mut self, peer: agent_common::NodeId) -> bool {
        let is_new = !self.acked.contains(peer);
        self.acked.insert(peer);
        is_new
    }

    /// Whether this node may vote for a group with these owners besides itself.
    pub(crate) fn is_over(&self, other_owners: NodeSet, now: Instant) -> bool {
        now >= self.until || other_owners.0 & !self.acked.0 == 0
    }

    /// The same for the vote for itself.
    pub(crate) fn is_over_for_me(&self, other_owners: NodeSet, now: Instant) -> bool {
        self.is_over(other_owners, now) || self.mutated.is(Mutation::OwnVoteAlwaysAfterRestart)
    }

    /// When it is over at the latest.
    pub(crate) const fn until(&self) -> Instant {
        self.until
    }
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
