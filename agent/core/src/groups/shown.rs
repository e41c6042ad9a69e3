//! A group for people.

use agent_common::{Claim, NodeId, NodeSet};

use crate::action::Change;
use crate::group::Phase;
use crate::lease::ask::Holder;
use crate::peer::Peer;
use crate::queue::Actions;
use crate::resource::Resource;
use crate::snapshot::{GroupView, Reason};
use crate::time::Instant;

use super::Entry;

impl Entry {
    /// Tells a change of what people see.
    pub(super) fn show(&mut self, me: NodeId, resources: &[Resource], now: Instant, out: &mut Actions) {
        let (owner, epoch) = self.owner(me);
        let to = self.group.state(resources);
        let (from, before) = core::mem::replace(&mut self.shown, (to, owner));
        if (from, before) != (to, owner) {
            out.tell(now, Change::Group { group: self.group.id, from, to, owner, epoch });
        }
    }

    /// The owner and the epoch in this node's view.
    fn owner(&self, me: NodeId) -> (Option<NodeId>, u64) {
        let mine = if self.tenure.lease().is_some() { self.tenure.epoch() } else { 0 };
        match self.facts.holder {
            Some(Holder { node, epoch }) if epoch > mine => (Some(node), epoch),
            Some(_) | None if mine != 0 => (Some(me), mine),
            Some(_) | None => (None, 0),
        }
    }

    pub(super) fn view(&self, me: NodeId, peers: &[Peer], now: Instant) -> GroupView {
        let (state, owner) = self.shown;
        let epoch = self.facts.holder.map_or(0, |holder| holder.epoch).max(self.tenure.epoch());
        let lease = self.tenure.lease().map(|until| until.since(now));
        let reason = match self.group.phase() {
            Phase::Failing | Phase::Failed => Some(Reason::Failed),
            Phase::Stopped | Phase::Starting | Phase::Serving | Phase::Stopping => self.tenure.reason(),
        };
        GroupView { state, owner, epoch, lease, votes: self.votes(me, peers), reason }
    }

    /// Who votes for the node that this node votes for.
    fn votes(&self, me: NodeId, peers: &[Peer]) -> NodeSet {
        let mut votes = NodeSet::EMPTY;
        let Some(candidate) = self.tenure.candidate(me) else { return votes };
        votes.insert(me);
        for peer in peers.iter().filter(|peer| peer.is_alive()) {
            let claim: Claim = peer.claim(self.group.id);
            if claim.epoch != 0 && claim.candidate == candidate.raw() {
                votes.insert(peer.id());
            }
        }
        votes
    }
}
