//! Who should own a group, and what this node does about it. The choice is a pure function behind [`OwnerPolicy`]:
//! leases and votes are another implementation of it.

use agent_common::{NodeId, NodeSet};

use crate::membership::Standing;
use crate::snapshot::Reason;

/// All that a choice may depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// This node.
    pub(crate) me: NodeId,
    /// Owners, most preferred first.
    pub(crate) prefer: &'a [NodeId],
    /// Whether the group moves back to a more preferred node.
    pub(crate) auto_failback: bool,
    /// How this node stands to the group.
    pub(crate) mine: Mine,
    /// Whether this node may decide.
    pub(crate) standing: Standing,
    /// Peers that can be given a group (alive, ready, not failed on this one).
    pub(crate) eligible: NodeSet,
    /// Owners among the living peers whose newest table is not known.
    pub(crate) unread: NodeSet,
    /// Living peers that want the group handed over.
    pub(crate) wanting: NodeSet,
    /// The living peer that holds the group at the highest epoch.
    pub(crate) holder: Option<Holder>,
}

/// A peer that holds a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Who.
    pub(crate) node: NodeId,
    /// At which epoch.
    pub(crate) epoch: u64,
}

/// How this node stands to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mine {
    /// Holds it (from the first effect on, until the last is undone).
    Holds {
        /// At which epoch.
        epoch: u64,
    },
    /// Could take it. `failed_here`: it failed here before, so it is not asked back.
    Free {
        /// Whether the last try failed.
        failed_here: bool,
    },
    /// Has just failed to run it, and pauses.
    Failed,
    /// Does not yet know who is there.
    Joining,
    /// Is on its way out.
    Leaving,
}

/// What to do about a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Hold it: acquire, or keep.
    Serve,
    /// Ask the holder to hand it over.
    Ask,
    /// Do not hold it, or let go of it.
    Rest(Reason),
}

/// The rule of ownership.
pub(crate) trait OwnerPolicy {
    /// What this node does about the group of `facts`.
    fn decide(&self, facts: &Facts<'_>) -> Decision;
}

/// The owner is the present holder, else the first living node of `prefer`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FirstLiving;

impl OwnerPolicy for FirstLiving {
    fn decide(&self, facts: &Facts<'_>) -> Decision {
        match facts.mine {
            Mine::Leaving => Decision::Rest(Reason::Leaving),
            Mine::Holds { epoch } => keep(facts, epoch),
            Mine::Failed => Decision::Rest(Reason::Failed),
            Mine::Joining => Decision::Rest(Reason::Joining),
            Mine::Free { failed_here } => take(facts, failed_here),
        }
    }
}

/// A holder goes on unless one of the rules ends it.
fn keep(facts: &Facts<'_>, epoch: u64) -> Decision {
    if facts.standing == Standing::Without {
        return Decision::Rest(Reason::NoQuorum);
    }
    // Two holders after a partition: the higher epoch keeps the group.
    if facts.holder.is_some_and(|rival| rival.epoch > epoch) {
        return Decision::Rest(Reason::Rival);
    }
    let preferred = || facts.prefer.iter().take_while(|node| **node != facts.me);
    if facts.auto_failback
        && preferred().any(|node| facts.wanting.contains(*node) && facts.eligible.contains(*node))
    {
        return Decision::Rest(Reason::Failback);
    }
    Decision::Serve
}

/// A node that does not hold the group takes it only if all agree that it is free and this node's.
fn take(facts: &Facts<'_>, failed_here: bool) -> Decision {
    let mut candidates = facts.eligible;
    candidates.insert(facts.me);
    let chosen = facts.prefer.iter().find(|node| candidates.contains(**node));
    let is_mine = chosen == Some(&facts.me);
    if !facts.prefer.contains(&facts.me) {
        return Decision::Rest(Reason::NotAnOwner);
    }
    if let Some(holder) = facts.holder {
        let before = |node: NodeId| facts.prefer.iter().position(|other| *other == node);
        let moves_back = facts.auto_failback && before(facts.me) < before(holder.node);
        return if moves_back && is_mine && !failed_here && facts.standing == Standing::With {
            Decision::Ask
        } else {
            Decision::Rest(Reason::HeldElsewhere)
        };
    }
    if !is_mine {
        return Decision::Rest(Reason::OtherPreferred);
    }
    if !facts.unread.is_empty() {
        return Decision::Rest(Reason::TableUnknown);
    }
    match facts.standing {
        Standing::With => Decision::Serve,
        Standing::TieBreakMissing => Decision::Rest(Reason::TieBreak),
        Standing::Without => Decision::Rest(Reason::NoQuorum),
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
