//! A peer as a voter and a candidate: what its newest frame that counts says, and what is handed over of it.

use core::time::Duration;

use agent_common::{GroupId, NodeSet, NodeState};

use crate::carried::CarriedPeer;
use crate::event::Reading;
use crate::lease::slew::Slew;
use crate::rules::Rules;
use crate::snapshot::PeerState;
use crate::time::Instant;

use super::Peer;

impl Peer {
    /// Takes up what was handed over of it; a reading will judge it, `now` at the earliest.
    pub(crate) fn restore(&mut self, carried: &CarriedPeer, rules: &Rules, now: Instant) {
        (self.heard, self.incarnation, self.seq) =
            (carried.incarnation != 0, carried.incarnation, carried.seq);
        (self.counts_at, self.number, self.accepted) = (carried.counts_at, carried.number, carried.accepted);
        self.is_counted = carried.is_counted;
        self.deadtime = Duration::from_micros(u64::from(carried.deadtime_us));
        (self.state, self.life) = (carried.state, carried.life);
        (self.maintenance, self.score) = (carried.maintenance, carried.score);
        let was_there = self.is_alive() || self.state == PeerState::Leaving;
        self.spared = was_there.then_some(now);
        (self.table.known, self.table.current) = (carried.table, carried.table);
        for (slot, claim) in self.table.claims.iter_mut().zip(&carried.claims) {
            *slot = *claim;
            self.epoch = self.epoch.max(claim.epoch);
        }
        self.check_at = self.next_check(rules);
    }

    /// Whether `reading` is of the slot that the process before had read, so that it holds all that came in between.
    pub(super) fn goes_on(&self, reading: &Reading) -> bool {
        reading.heard
            && reading.accepted >= self.accepted
            && (reading.beat.incarnation, reading.beat.seq) >= (self.incarnation, self.seq)
    }

    /// What is handed over of it; what was promised to it is added by who knows.
    pub(crate) fn carry(&self) -> CarriedPeer {
        CarriedPeer {
            node: self.id,
            state: self.state,
            life: self.life,
            maintenance: self.maintenance,
            score: self.score,
            heard_until: Instant::ZERO,
            incarnation: self.incarnation,
            seq: self.seq,
            accepted: self.accepted,
            counts_at: self.counts_at,
            is_counted: self.is_counted,
            deadtime_us: u32::try_from(self.deadtime.as_micros()).unwrap_or(u32::MAX),
            number: self.number,
            table: self.table.known,
            claims: self.table.claims.to_vec(),
        }
    }

    /// How many ping groups it reaches.
    pub(crate) const fn score(&self) -> u8 {
        self.score
    }

    /// Whether it votes for itself for `group`: asks or holds.
    pub(crate) fn asks(&self, group: GroupId) -> bool {
        let claim = self.claim(group);
        claim.epoch != 0 && claim.candidate == self.id.raw()
    }

    /// Whether it has just started, and is waited for.
    pub(crate) const fn is_joining(&self) -> bool {
        self.is_alive() && matches!(self.life, NodeState::Joining) && !self.grace_over
    }

    /// Whether its present life has ever counted.
    pub(crate) const fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// Whether its newest reading, which is also what the next acks are made of, finds it silent for longer than a voter waits.
    pub(crate) fn is_dead_now(&self, slew: Slew) -> bool {
        match self.newest() {
            Some(at) => self.read_at > at.after(slew.wait(self.deadtime)),
            None => self.state == PeerState::Dead,
        }
    }

    /// Whether its last words were that it goes, and it claims nothing.
    pub(crate) fn has_left(&self) -> bool {
        let claims = self.table.claims.iter();
        self.life == NodeState::Leaving
            && !self.is_alive()
            && self.table_is_known()
            && claims.clone().all(|claim| claim.epoch == 0 || claim.candidate != self.id.raw())
    }

    /// Our heartbeat that its newest frame that counts acked.
    pub(crate) const fn acked(&self) -> Option<u64> {
        self.acked
    }

    /// Its number of the vote configuration.
    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// Whether it is here and says that decisions are suspended.
    pub(crate) const fn is_in_maintenance(&self) -> bool {
        self.maintenance && self.is_alive()
    }

    /// Whom it holds dead, by its newest frame that counts.
    pub(crate) const fn holds_dead(&self) -> NodeSet {
        self.holds_dead
    }
}
