//! What is handed over to the next process, and taken up again (design: Start with carried state): sent heartbeats, votes,
//! promises, peers. The new process goes on with the same incarnation and a higher sequence.

use core::time::Duration;

use agent_common::{Claim, NodeSet};

use crate::carried::{Carried, CarriedPromise, CarriedSent};
use crate::mutation::Mutation;
use crate::peer::Peer;
use crate::time::Instant;

use super::Leases;
use super::two_node::{Other, TwoNode};

impl Leases {
    /// Fills in what all groups have in common.
    pub(crate) fn carry_into(&self, carried: &mut Carried) {
        let micros = |span: Duration| u32::try_from(span.as_micros()).unwrap_or(u32::MAX);
        carried.number = self.voters.number();
        carried.held_off_until = self.hold_off.until();
        carried.slew = self.slew.carry();
        carried.tie_break = self.two_node.as_ref().map(TwoNode::carry).unwrap_or_default();
        for peer in &mut carried.peers {
            peer.heard_until = self.promises.heard_of(peer.node);
        }
        carried.sent.extend(self.log.iter().map(|sent| CarriedSent {
            seq: sent.seq,
            at: sent.at,
            deadtime_us: micros(sent.deadtime),
        }));
    }

    /// The promises behind a claim.
    pub(crate) fn carried_promises(
        &self,
        votes: NodeSet,
        claim: Claim,
    ) -> impl Iterator<Item = CarriedPromise> {
        let votes = if claim.epoch != 0 && claim.candidate == self.me.raw() { votes } else { NodeSet::EMPTY };
        votes.iter().map(|voter| CarriedPromise { voter, until: self.promises.of(voter) })
    }

    /// Takes up what was handed over. It goes on as announced: with the longest deadtime, until that is borne.
    pub(super) fn restore(&mut self, carried: &Carried, now: Instant) {
        if let Some(two_node) = &mut self.two_node {
            two_node.restore(carried.tie_break);
        }
        for sent in &carried.sent {
            let deadtime = Duration::from_micros(u64::from(sent.deadtime_us));
            self.log.append(sent.seq, sent.at, deadtime, self.slew.margin_ppm(self.mutated));
            self.announced = deadtime;
        }
        let newest = self.log.newest_until();
        for peer in &carried.peers {
            self.promises.restore_heard(peer.node, peer.heard_until.min(newest));
        }
        for promise in carried.groups.iter().flat_map(|group| &group.promises) {
            self.promises.restore(promise.voter, promise.until.min(newest));
        }
        self.moved = true;
        self.announced_from = carried.seq.saturating_add(1);
        let at_once = self.mutated.is(Mutation::ShortenBeforeAck) && !carried.maintenance;
        let longest = if at_once { self.deadtime } else { self.announced };
        self.announce(longest.max(self.deadtime).min(self.initdead), now);
        self.resumes = self.announced != self.deadtime;
    }

    /// Whether what the process before announced is still announced, since nobody is known to have heard this one.
    pub(crate) const fn resumes(&self) -> bool {
        self.resumes
    }

    /// It is over: what is announced is borne, or an order stands above it.
    pub(crate) const fn resumed(&mut self) {
        self.resumes = false;
    }

    /// Whether enough have acknowledged what is announced now, in a heartbeat of this process: a majority; of two nodes the
    /// other, if it is there.
    pub(crate) fn is_borne(&self, peers: &[Peer]) -> bool {
        let from = self.announced_from;
        if self.log.newest() < from {
            return false;
        }
        let has_acked = |peer: &&Peer| peer.acked() >= Some(from);
        if self.two_node.is_some() && self.voters.may_take_part() {
            return match self.other(peers) {
                Other::Left | Other::Dead => true,
                Other::Heard => self.other_voter(peers).as_ref().is_none_or(has_acked),
            };
        }
        let mut by = NodeSet::EMPTY;
        by.insert(self.me);
        peers.iter().filter(has_acked).for_each(|peer| by.insert(peer.id()));
        self.voters.is_majority(by)
    }

    /// The end of what is announced now, counted from the first heartbeat that said it: a lease that goes as far rests on it.
    pub(crate) fn borne_until(&self) -> Instant {
        self.log.until(self.announced_from).unwrap_or(Instant::ZERO)
    }
}
