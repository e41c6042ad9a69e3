//! What the voters have promised this node (design: Promise, Lease).
//!
//! *Promise*: a frame of V that acks heartbeat s while V's vote is (e, me) promises: until `until(s)` I vote for nobody else.
//! The newest ack of V says the same of every group for which V votes for this node, so one moment for each voter
//! is enough; which voters vote for this node is kept with each group.

use core::time::Duration;

use agent_common::ids::MAX_NODES;
use agent_common::{NodeId, NodeSet};

use crate::time::Instant;

/// By voter.
#[derive(Clone, Debug)]
pub(crate) struct Promises {
    /// until of the newest heartbeat that it acked, vote or no vote.
    heard: [Instant; MAX_NODES],
    /// until of the newest heartbeat that it acked in a frame whose table is known.
    promised: [Instant; MAX_NODES],
}

impl Promises {
    /// None.
    pub(crate) const fn new() -> Self {
        Self { heard: [Instant::ZERO; MAX_NODES], promised: [Instant::ZERO; MAX_NODES] }
    }

    /// `voter` acked a heartbeat with this `until`. *Table*: who lacks the table of the frame takes the ack, and no vote. True
    /// when a promise moved.
    pub(crate) fn acked(&mut self, voter: NodeId, until: Instant, table_is_known: bool) -> bool {
        raise(self.heard.get_mut(voter.index()), until);
        table_is_known && raise(self.promised.get_mut(voter.index()), until)
    }

    /// *Incarnation*: on a voter's higher incarnation its promises are forgotten first.
    pub(crate) fn forget(&mut self, voter: NodeId) {
        for list in [&mut self.heard, &mut self.promised] {
            if let Some(slot) = list.get_mut(voter.index()) {
                *slot = Instant::ZERO;
            }
        }
    }

    /// Announcing less shortens what is already promised.
    pub(crate) fn cap(&mut self, bound: Instant) {
        let all = self.heard.iter_mut().chain(&mut self.promised);
        all.for_each(|until| *until = (*until).min(bound));
    }

    /// The margin has grown by `span` of the longest deadtime.
    pub(crate) fn shrink(&mut self, span: Duration) {
        self.heard.iter_mut().chain(&mut self.promised).for_each(|until| *until = until.before(span));
    }

    /// What `voter` has promised.
    pub(crate) fn of(&self, voter: NodeId) -> Instant {
        self.promised.get(voter.index()).copied().unwrap_or(Instant::ZERO)
    }

    /// Until when the newest heartbeat that `voter` acked holds, vote or no vote.
    pub(crate) fn heard_of(&self, voter: NodeId) -> Instant {
        self.heard.get(voter.index()).copied().unwrap_or(Instant::ZERO)
    }

    /// Puts back a promise that was carried over.
    pub(crate) fn restore(&mut self, voter: NodeId, until: Instant) {
        raise(self.promised.get_mut(voter.index()), until);
        self.restore_heard(voter, until);
    }

    /// Puts back an acknowledgement that was carried over.
    pub(crate) fn restore_heard(&mut self, voter: NodeId, until: Instant) {
        raise(self.heard.get_mut(voter.index()), until);
    }

    /// *Lease*: the `needed`-th largest promise of `voters`; without limit when none is needed, none when there are too few.
    pub(crate) fn lease(&self, voters: NodeSet, needed: usize) -> Instant {
        if needed == 0 {
            return Instant::NEVER;
        }
        let mut largest = [Instant::ZERO; MAX_NODES];
        let mut rest = voters.0;
        while rest != 0 {
            let voter = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let mut value = self.promised.get(voter).copied().unwrap_or(Instant::ZERO);
            for slot in largest.iter_mut().take(needed) {
                if value > *slot {
                    core::mem::swap(&mut value, slot);
                }
            }
        }
        largest.get(needed - 1).copied().unwrap_or(Instant::ZERO)
    }

    /// The peers that acked a heartbeat which is not yet past its until.
    pub(crate) fn heard_by(&self, now: Instant) -> NodeSet {
        let mut set = NodeSet::EMPTY;
        NodeId::all().zip(&self.heard).filter(|(_, until)| **until > now).for_each(|(id, _)| set.insert(id));
        set
    }

    /// When the `needed`-th newest of `voters` is past its until.
    pub(crate) fn heard_until(&self, voters: NodeSet, needed: usize) -> Instant {
        let by_ack = Self { heard: self.heard, promised: self.heard };
        by_ack.lease(voters, needed)
    }
}

fn raise(slot: Option<&mut Instant>, until: Instant) -> bool {
    match slot {
        Some(slot) if until > *slot => {
            *slot = until;
            true
        }
        Some(_) | None => false,
    }
}

#[cfg(test)]
#[path = "promise_tests.rs"]
mod tests;
