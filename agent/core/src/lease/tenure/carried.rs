//! What is handed over of a claim, and taken up again (design: Start with carried state).

use agent_common::NodeId;

use crate::carried::CarriedGroup;
use crate::lease::Leases;
use crate::lease::phase::Phase;
use crate::time::Instant;

use super::Tenure;

impl Tenure {
    /// What is handed over of it.
    pub(crate) fn carry(&self, leases: &Leases) -> CarriedGroup {
        let vote = self.row(leases.me());
        CarriedGroup {
            vote,
            asked: self.asked,
            seen: self.seen,
            voted: self.ballot.voted,
            promises: leases.carried_promises(self.votes, vote).collect(),
            standby: self.standby,
        }
    }

    /// Takes up what was handed over: a claim that was held comes back with the first promise that still stands.
    pub(crate) fn restore(&mut self, carried: &CarriedGroup, me: NodeId, now: Instant) {
        (self.seen, self.standby) = (carried.seen, carried.standby);
        self.ballot.voted = carried.voted;
        let vote = carried.vote;
        if vote.epoch == 0 {
            return;
        }
        if vote.candidate != me.raw() {
            (self.ballot.epoch, self.ballot.candidate) = (vote.epoch, NodeId::new(vote.candidate));
            return;
        }
        (self.epoch, self.asked, self.raised_at, self.since) = (vote.epoch, carried.asked, now, now);
        carried.promises.iter().for_each(|promise| self.votes.insert(promise.voter));
        (self.phase, self.resumed) = if vote.held() { (Phase::Lost, true) } else { (Phase::Asking, false) };
        self.granted = vote.held();
    }
}
