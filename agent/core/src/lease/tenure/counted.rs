//! The votes that a claim has, and the lease that follows from the promises behind them (design: Promise, Lease).

use agent_common::{NodeId, NodeSet};

use crate::groups::Scene;
use crate::lease::two_node::Other;
use crate::time::Instant;

use super::{Memo, Tenure};

impl Tenure {
    /// *Promise*: A counts a frame of V if it asks or holds (G, e). *Table*: a frame whose table is not known brings no vote and
    /// takes none away; it promises nothing either. The epochs between the first of this ask and the raised one are all its own.
    pub(super) fn count_votes(&mut self, scene: &Scene<'_>) {
        for peer in scene.peers.iter().filter(|peer| peer.table_is_known()) {
            let claim = peer.claim(self.group);
            let is_ours =
                claim.candidate == scene.me.raw() && (self.asked..=self.epoch).contains(&claim.epoch);
            if is_ours && scene.leases.voters().counts_voter(peer.number()) {
                self.votes.insert(peer.id());
            } else {
                self.votes.remove(peer.id());
            }
        }
    }

    /// The lease as the promises have it.
    pub(super) fn computed(&mut self, scene: &Scene<'_>, memo: &mut Memo) -> Instant {
        if let Some(two_node) = scene.leases.two_node() {
            let other = scene.leases.other(scene.peers);
            let voted =
                other == Other::Heard && scene.leases.voters().is_majority(with(self.votes, scene.me));
            self.granted |= voted || two_node.may_take(other, scene.leases.deadtime(), scene.now);
            return if self.granted { scene.leases.dead_mans_switch(two_node) } else { Instant::ZERO };
        }
        match *memo {
            Some((votes, lease)) if votes == self.votes => lease,
            Some(_) | None => {
                let lease = scene.leases.lease(self.votes);
                *memo = Some((self.votes, lease));
                lease
            }
        }
    }
}

fn with(mut set: NodeSet, node: NodeId) -> NodeSet {
    set.insert(node);
    set
}
