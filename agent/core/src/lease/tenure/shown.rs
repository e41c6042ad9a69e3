//! A claim as others see it: the row of the table, and whom this node votes for.

use agent_common::{Claim, NodeId};

use crate::lease::phase::Phase;
use crate::snapshot::Reason;

use super::Tenure;

impl Tenure {
    /// Whom this node votes for: another, or itself.
    pub(crate) fn candidate(&self, me: NodeId) -> Option<NodeId> {
        if self.is_active() { Some(me) } else { self.ballot.candidate }
    }

    /// Whether a fence is wanted: everything else lets this node take the group from a dead peer.
    pub(crate) fn lacks_tie_break(&self) -> bool {
        self.reason == Some(Reason::TieBreak)
    }

    /// The row of this node's table.
    pub(crate) fn row(&self, me: NodeId) -> Claim {
        let want = if self.wants { Claim::WANT } else { 0 };
        match self.phase {
            Phase::Asking | Phase::Lost => Claim { epoch: self.epoch, candidate: me.raw(), flags: 0 },
            Phase::Holding | Phase::Releasing => {
                Claim { epoch: self.epoch, candidate: me.raw(), flags: Claim::HELD }
            }
            Phase::Idle => match self.ballot.candidate {
                Some(other) => Claim { epoch: self.ballot.epoch, candidate: other.raw(), flags: want },
                None if self.wants => Claim { epoch: 0, candidate: me.raw(), flags: want },
                None => Claim::default(),
            },
        }
    }
}
