//! What one process hands over to the next, and how that one goes on (design: Start with carried state).

use alloc::vec::Vec;

use crate::carried::{Carried, CarriedTieBreak};
use crate::peer::Peer;
use crate::time::Instant;

use super::Node;

impl Node {
    /// The state that the next process goes on with. `None` unless [`crate::Operator::Pause`] was answered with
    /// [`crate::Answer::Done`]; whoever takes it sends no further heartbeat of this node.
    pub fn carry(&self) -> Option<Carried> {
        if !self.commands.is_paused {
            return None;
        }
        let beat = self.outgoing.beat();
        let mut carried = Carried {
            incarnation: self.rules.incarnation,
            seq: beat.seq,
            votes_version: beat.votes_version,
            number: 0,
            held_off_until: Instant::ZERO,
            maintenance: self.maintenance,
            score: self.score,
            slew: self.leases.slew().carry(),
            tie_break: CarriedTieBreak::default(),
            sent: Vec::new(),
            groups: self.groups.entries.iter().map(|entry| entry.tenure.carry(&self.leases)).collect(),
            peers: self.peers.iter().map(Peer::carry).collect(),
        };
        self.leases.carry_into(&mut carried);
        Some(carried)
    }

    /// *Start with carried state*: the longest deadtime is announced until enough have acknowledged this process. A pause or
    /// maintenance has its own reasons for it.
    pub(super) fn shorten(&mut self, now: Instant) {
        if self.leases.resumes()
            && !self.maintenance
            && !self.commands.wants_pause()
            && self.leases.is_borne(&self.peers)
        {
            self.leases.resumed();
            let deadtime = self.leases.deadtime();
            self.announce(deadtime, now);
        }
    }
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
