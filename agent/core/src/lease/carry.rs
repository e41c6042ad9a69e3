//! What is handed over to the next process, and taken up again (design: Start with carried state): sent heartbeats, votes,
//! promises, peers. The new process goes on with the same incarnation and a higher sequence.

use core::time::Duration;

use agent_common::Claim;

use crate::carried::{Carried, CarriedPromise, CarriedSent};

use super::Leases;

impl Leases {
    /// Fills in what all groups have in common.
    pub(crate) fn carry_into(&self, carried: &mut Carried) {
        let micros = |span: Duration| u32::try_from(span.as_micros()).unwrap_or(u32::MAX);
        carried.number = self.voters.number();
        carried.held_off_until = self.hold_off.until();
        carried.sent.extend(self.log.iter().map(|sent| CarriedSent {
            seq: sent.seq,
            at: sent.at,
            deadtime_us: micros(sent.deadtime),
        }));
    }

    /// The promises behind a claim.
    pub(crate) fn carried_promises(
        &self,
        votes: agent_common::NodeSet,
        claim: Claim,
    ) -> impl Iterator<Item = CarriedPromise> {
        let votes = if claim.epoch != 0 && claim.candidate == self.me.raw() {
            votes
        } else {
            agent_common::NodeSet::EMPTY
        };
        votes.iter().map(|voter| CarriedPromise { voter, until: self.promises.of(voter) })
    }

    /// Takes up what was handed over. It ends as announced: with the longest deadtime, until this node announces another.
    pub(super) fn restore(&mut self, carried: &Carried) {
        for sent in &carried.sent {
            let deadtime = Duration::from_micros(u64::from(sent.deadtime_us));
            self.log.append(sent.seq, sent.at, deadtime, self.slew.margin_ppm(self.mutated));
            self.announced = deadtime;
        }
        for promise in carried.groups.iter().flat_map(|group| &group.promises) {
            self.promises.restore(promise.voter, promise.until.min(self.log.newest_until()));
        }
        self.moved = true;
    }
}
