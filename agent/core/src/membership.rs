//! Who is here: the peers' states as sets, and whether this node is with enough of them to decide.

use agent_common::ids::MAX_NODES;
use agent_common::{NodeId, NodeSet};

use crate::lease::Leases;
use crate::peer::Peer;
use crate::snapshot::PeerState;
use crate::time::Instant;

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
    /// Not heard since start, and waited for: whoever has no vote is not.
    pub(crate) unknown: NodeSet,
    /// Alive and ready to be given a group; this node not included.
    pub(crate) eligible: NodeSet,
    /// Alive, with a table that is not known.
    pub(crate) unread: NodeSet,
    /// By node id: how many ping groups each reaches, this node included.
    scores: [u8; MAX_NODES],
    /// What the policy says.
    pub(crate) standing: Standing,
}

impl View {
    /// The view of node `me`.
    pub(crate) fn of(me: NodeId, score: u8, peers: &[Peer], leases: &Leases, now: Instant) -> Self {
        let mut view = Self::default();
        view.alive.insert(me);
        view.set_score(me, score);
        for peer in peers {
            view.set_score(peer.id(), peer.score());
            match peer.state() {
                PeerState::Unknown if leases.voters().is_joined(peer.id()) => {}
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
        view.standing = standing(view.alive, peers, leases, now);
        view
    }

    /// How many ping groups `node` reaches, as it last said.
    pub(crate) fn score(&self, node: NodeId) -> u8 {
        self.scores.get(node.index()).copied().unwrap_or(0)
    }

    fn set_score(&mut self, node: NodeId, score: u8) {
        if let Some(slot) = self.scores.get_mut(node.index()) {
            *slot = score;
        }
    }
}

/// What the policy says while `alive` are here.
fn standing(alive: NodeSet, peers: &[Peer], leases: &Leases, now: Instant) -> Standing {
    match leases.two_node() {
        None if leases.voters().is_majority(alive) => Standing::With,
        None => Standing::Without,
        Some(_) if leases.other_voter(peers).is_none_or(|other| alive.contains(other.id())) => Standing::With,
        Some(two_node) if two_node.may_take(leases.other(peers), leases.deadtime(), now) => Standing::With,
        Some(_) => Standing::TieBreakMissing,
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
