//! This node's vote for another (design: Voting). The vote for itself is a claim: see `tenure`.
//!
//! *Voting*: V votes for A's ask (G, e) if A is not dead to V, e is above every epoch for which V voted for another, and V's
//! vote is free: none, or A's already, or the one it names is dead to V *now*, or that one's newest table no longer
//! asks. An ask stands as long as frames carry it, and V reconsiders whenever a frame brought a change, at every release
//! and death, so no ask is lost. Death is judged from the reading that the next acks are made of.

use agent_common::{GroupId, NodeId};

use crate::mutation::Mutation;
use crate::peer::Peer;

use super::Leases;

/// The vote of one group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ballot {
    /// The epoch voted for, 0 for none.
    pub(crate) epoch: u64,
    /// Whom it names: another node.
    pub(crate) candidate: Option<NodeId>,
    /// The highest epoch ever voted for another.
    pub(crate) voted: u64,
    /// Tests only: the candidate was dead once.
    was_dead: bool,
}

impl Ballot {
    /// Whether it may be given to another than the one it names.
    pub(crate) fn is_free(&self, group: GroupId, peers: &[Peer], leases: &Leases) -> bool {
        let Some(candidate) = self.candidate else { return true };
        let Some(peer) = peers.iter().find(|peer| peer.id() == candidate) else { return true };
        let no_longer_asks = peer.is_counted() && peer.table_is_known() && !peer.asks(group);
        peer.is_dead_now(leases.slew())
            || no_longer_asks
            || (leases.mutated().is(Mutation::DeadKeptAsState) && self.was_dead)
    }

    /// Gives the vote to the best of `prefer` that asks, if it may; true when it changed.
    pub(crate) fn review(
        &mut self,
        group: GroupId,
        prefer: &[NodeId],
        peers: &[Peer],
        leases: &Leases,
    ) -> bool {
        self.note_death(peers, leases);
        let is_free = self.is_free(group, peers, leases);
        for node in prefer {
            let Some(peer) = peers.iter().find(|peer| peer.id() == *node) else { continue };
            let asks = peer.is_alive() && peer.table_is_known() && peer.asks(group);
            if !asks || !leases.voters().accepts_asker(peer.number()) || peer.is_dead_now(leases.slew()) {
                continue;
            }
            let epoch = peer.claim(group).epoch;
            let is_mine = self.candidate == Some(*node);
            if is_mine && epoch == self.epoch {
                return false;
            }
            if (is_mine && epoch > self.epoch) || (is_free && epoch > self.voted) {
                (self.epoch, self.candidate, self.was_dead) = (epoch, Some(*node), false);
                self.voted = self.voted.max(epoch);
                return true;
            }
        }
        false
    }

    /// Forgets whom it names: this node votes for itself now. The highest epoch stays.
    pub(crate) const fn clear(&mut self) {
        (self.epoch, self.candidate, self.was_dead) = (0, None, false);
    }

    fn note_death(&mut self, peers: &[Peer], leases: &Leases) {
        let named = peers.iter().find(|peer| Some(peer.id()) == self.candidate);
        self.was_dead |= named.is_some_and(|peer| peer.is_dead_now(leases.slew()));
    }
}
