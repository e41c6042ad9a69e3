//! Who votes, and what a majority is (design: Changing the votes).
//!
//! *Changing the votes*: `number` counts changes, each of one vote, so adjacent majorities overlap. A voter at k votes for
//! askers at k and k+1, an asker at k counts voters at k and k-1, others count for nothing. A node goes from k to k+1,
//! and a new node asks at k+1, only after it has itself heard a majority of number k's voters at k or later for
//! `initdead`. A node that starts without state says its number at once, and neither votes nor asks until then.
//! A node without a vote (it joined, and the file does not list it) neither votes nor asks, and no promise of it counts.

use core::time::Duration;

use agent_common::{NodeId, NodeSet};

use crate::config::{Config, Start, VoteChange};
use crate::mutation::{Mutated, Mutation};
use crate::peer::Peer;
use crate::time::Instant;

/// The change that is not in force yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// Who votes at the number before.
    before: NodeSet,
    /// Who votes at the new number.
    after: NodeSet,
    /// The new number.
    number: u16,
    /// Since when a majority of `before` was heard at the number before or later.
    since: Option<Instant>,
}

/// The voters.
#[derive(Clone, Debug)]
pub(crate) struct Voters {
    me: NodeId,
    voters: NodeSet,
    /// Those without a vote at any number.
    joined: NodeSet,
    number: u16,
    /// Neither votes nor asks: it does not know yet who may.
    mute: bool,
    pending: Option<Pending>,
    initdead: Duration,
    mutated: Mutated,
}

impl Voters {
    /// The voters of `config`.
    pub(crate) fn new(config: &Config) -> Self {
        let quorum = &config.quorum;
        let (mut after, mut joined) = (NodeSet::EMPTY, NodeSet::EMPTY);
        for (id, node) in NodeId::all().zip(&config.nodes) {
            if node.vote {
                after.insert(id);
            } else {
                joined.insert(id);
            }
        }
        let mut before = after;
        match quorum.change {
            Some(VoteChange::Added(node)) => before.remove(node),
            Some(VoteChange::Removed(node)) => {
                after.remove(node);
                before.insert(node);
            }
            None => {}
        }
        let is_new = quorum.change.is_some()
            && quorum.number > 0
            && !config.mutated.is(Mutation::MajorityWithoutWaiting);
        let pending = Pending { before, after, number: quorum.number, since: None };
        let (voters, number, mute, pending) = match &config.start {
            Start::Carried(carried) if carried.number == quorum.number => (after, quorum.number, false, None),
            Start::Carried(carried) if is_new && carried.number == quorum.number - 1 => {
                (before, carried.number, false, Some(pending))
            }
            Start::Carried(_) | Start::Fresh if is_new => (after, quorum.number, true, Some(pending)),
            Start::Carried(_) | Start::Fresh => (after, quorum.number, false, None),
        };
        Self {
            me: config.me,
            voters,
            joined,
            number,
            mute,
            pending,
            initdead: config.timing.initdead,
            mutated: config.mutated,
        }
    }

    /// Who votes.
    pub(crate) const fn set(&self) -> NodeSet {
        self.voters
    }

    /// Whether `node` has no vote at any number.
    pub(crate) const fn is_joined(&self, node: NodeId) -> bool {
        self.joined.contains(node)
    }

    /// The number that this node's frames carry.
    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// Whether this node may vote and ask.
    pub(crate) fn may_take_part(&self) -> bool {
        let has_vote = self.voters.contains(self.me)
            || (self.is_joined(self.me) && self.mutated.is(Mutation::JoinedNodesVote));
        !self.mute && has_vote
    }

    /// Of `nodes`, those whose promises count.
    pub(crate) fn counted(&self, nodes: NodeSet) -> NodeSet {
        let more = if self.mutated.is(Mutation::JoinedNodesVote) { self.joined.0 } else { 0 };
        NodeSet(nodes.0 & (self.voters.0 | more))
    }

    /// Whether `present` are more than half of the votes.
    pub(crate) const fn is_majority(&self, present: NodeSet) -> bool {
        is_majority(present, self.voters)
    }

    /// How many votes besides this node's own make a majority.
    pub(crate) const fn needed(&self) -> usize {
        let majority = self.voters.len() / 2 + 1;
        if self.voters.contains(self.me) { majority - 1 } else { majority }
    }

    /// Whether the ask of a node at `number` may get this node's vote.
    pub(crate) fn accepts_asker(&self, number: u16) -> bool {
        number == self.number
            || Some(number) == self.number.checked_add(1)
            || self.mutated.is(Mutation::MajorityWithoutOverlap)
    }

    /// Whether the vote of a node at `number` counts for this node's ask.
    pub(crate) fn counts_voter(&self, number: u16) -> bool {
        number == self.number
            || number.checked_add(1) == Some(self.number)
            || self.mutated.is(Mutation::MajorityWithoutOverlap)
    }

    /// Looks whether the change may come into force; true when it did.
    pub(crate) fn review(&mut self, peers: &[Peer], now: Instant) -> bool {
        let Some(pending) = &mut self.pending else { return false };
        let at_least = pending.number.saturating_sub(1);
        let mut heard = NodeSet::EMPTY;
        heard.insert(self.me);
        let heard_peers = peers.iter().filter(|peer| peer.is_alive() && peer.number() >= at_least);
        heard_peers.for_each(|peer| heard.insert(peer.id()));
        if !is_majority(heard, pending.before) {
            pending.since = None;
            return false;
        }
        let since = *pending.since.get_or_insert(now);
        if now < since.after(self.initdead) {
            return false;
        }
        (self.voters, self.number, self.mute) = (pending.after, pending.number, false);
        self.pending = None;
        true
    }

    /// When time alone may bring the change into force.
    pub(crate) fn wake(&self) -> Instant {
        let since = self.pending.as_ref().and_then(|pending| pending.since);
        since.map_or(Instant::NEVER, |since| since.after(self.initdead))
    }
}

/// Whether `present` are more than half of `voters`.
const fn is_majority(present: NodeSet, voters: NodeSet) -> bool {
    NodeSet(present.0 & voters.0).len() * 2 > voters.len()
}

#[cfg(test)]
#[path = "quorum_tests.rs"]
mod tests;
