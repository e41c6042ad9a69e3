//! Who is here: the peers' states as sets, and whether this node is with enough of them to decide.

use agent_common::{NodeId, NodeSet};

use crate::config::{Policy, TieBreak};
use crate::peer::Peer;
use crate::snapshot::PeerState;

/// What the policy says about deciding now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// May take groups and keep them.
    With,
    /// One of two nodes, the other is silent and the tie-break has not spoken: may keep, not take.
    TieBreakMissing,
    /// With a minority: may neither take nor keep.
    #[default]
    Without,
}

/// All peers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Heard within their deadtime and not leaving; this node included.
    pub(crate) alive: NodeSet,
    /// Held dead.
    pub(crate) dead: NodeSet,
    /// Not heard since start.
    pub(crate) unknown: NodeSet,
    /// Alive and ready to be given a group; this node not included.
    pub(crate) eligible: NodeSet,
    /// Alive, with a table that is not known.
    pub(crate) unread: NodeSet,
    /// What the policy says.
    pub(crate) standing: Standing,
}

impl View {
    /// The view of node `me` of a cluster of `nodes`.
    pub(crate) fn of(me: NodeId, nodes: usize, peers: &[Peer], policy: Policy) -> Self {
        let mut view = Self::default();
        view.alive.insert(me);
        for peer in peers {
            match peer.state() {
                PeerState::Unknown => view.unknown.insert(peer.id()),
                PeerState::Up | PeerState::Late => view.alive.insert(peer.id()),
                PeerState::Dead => view.dead.insert(peer.id()),
                PeerState::Leaving => {}
            }
            if peer.is_eligible() {
                view.eligible.insert(peer.id());
            }
            if peer.is_alive() && !peer.table_is_known() {
                view.unread.insert(peer.id());
            }
        }
        view.standing = standing(view.alive.len(), nodes, policy);
        view
    }
}

/// What `policy` says to `alive` of `nodes` nodes, the judging one included.
const fn standing(alive: usize, nodes: usize, policy: Policy) -> Standing {
    match policy {
        Policy::Majority => {
            if alive * 2 > nodes {
                Standing::With
            } else {
                Standing::Without
            }
        }
        Policy::TwoNode(TieBreak::Always) => Standing::With,
        // The tie-break's result will come as an event; until then a silent peer leaves the group where it is.
        Policy::TwoNode(TieBreak::Fence | TieBreak::Ping) => {
            if alive >= nodes {
                Standing::With
            } else {
                Standing::TieBreakMissing
            }
        }
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
