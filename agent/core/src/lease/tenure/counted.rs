//! The votes that a claim has, and the lease that follows from the promises behind them (design: Promise, Lease).

use crate::groups::Scene;
use crate::lease::phase::Phase;
use crate::lease::two_node::{Other, TwoNode};
use crate::mutation::Mutation;
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
            self.grant(scene, two_node);
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

    /// Two nodes: whether votes or tie-break have spoken. That stands while the lease runs. Once it has run out, this node did not run
    /// or was not heard for a deadtime, and a peer that is heard may have taken the group with nothing but its silence to go by: only
    /// its vote, and an ack of a heartbeat that is not yet past its until, bring the lease back, and no heartbeat of this node alone.
    /// A silent peer is left to the tie-break; and who was fenced is not here to ask.
    fn grant(&mut self, scene: &Scene<'_>, two_node: &TwoNode) {
        let leases = scene.leases;
        // What was handed over runs as far as the process before had announced.
        self.resumed &= leases.log.newest_until() > scene.now;
        let runs = self.phase == Phase::Holding || self.resumed;
        if runs && self.granted {
            return;
        }
        let other = leases.other(scene.peers);
        let voted = other == Other::Heard && leases.lease(self.votes) > scene.now;
        if !runs && other == Other::Heard && !leases.mutated().is(Mutation::LapsedLeaseRestarts) {
            self.granted = voted;
        } else {
            self.granted |= voted || two_node.may_take(other, leases.deadtime(), scene.now);
        }
    }
}
