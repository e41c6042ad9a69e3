//! Everything a node can ask *for*, and the transitions that it reports. `Copy`, so that queues between threads hold values.

use core::time::Duration;

use agent_common::{GroupId, LinkId, NodeId};

use crate::event::Failure;
use crate::snapshot::{GroupState, LinkState, PeerState};
use crate::time::Instant;

/// A resource of a group, by place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceRef {
    /// The group.
    pub group: GroupId,
    /// Its place in the group, from 0.
    pub index: u8,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the heartbeat that [`crate::Node::outgoing`] holds, on the links of the set (bit = link id).
    Send {
        /// Bit for each link that is due.
        links: u8,
    },
    /// Make the resource work here, announce it, then answer [`crate::Event::Acquired`].
    Acquire {
        /// Which.
        resource: ResourceRef,
        /// Comes back with the result.
        attempt: u32,
    },
    /// Remove the resource from here, then answer [`crate::Event::Released`]. It supersedes an acquisition that is still
    /// under way: the effects of one resource are carried out in the order in which they were asked for.
    Release {
        /// Which.
        resource: ResourceRef,
        /// Comes back with the result.
        attempt: u32,
    },
    /// Announce a held address again (a peer returned, a rival was seen).
    Announce {
        /// Which.
        resource: ResourceRef,
    },
    /// The watchdog may be petted: this node is sound.
    PetWatchdog,
    /// Something changed that people want to know.
    Transition(Transition),
    /// Everything is released and told: the agent may end.
    Finished,
}

/// A change, with the time at which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub at: Instant,
    /// What.
    pub what: Change,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A peer's state.
    Peer {
        /// Who.
        peer: NodeId,
        /// From.
        from: PeerState,
        /// To.
        to: PeerState,
        /// How long nothing that counts was heard.
        silent: Duration,
        /// Its deadtime at that moment.
        deadtime: Duration,
    },
    /// A link to a peer.
    Link {
        /// Who.
        peer: NodeId,
        /// Over which link.
        link: LinkId,
        /// From.
        from: LinkState,
        /// To.
        to: LinkState,
    },
    /// A peer started anew.
    Restarted {
        /// Who.
        peer: NodeId,
        /// Its incarnation.
        incarnation: u64,
    },
    /// A group's state on this node, or its owner.
    Group {
        /// Which.
        group: GroupId,
        /// From.
        from: GroupState,
        /// To.
        to: GroupState,
        /// Who owns it in this node's view.
        owner: Option<NodeId>,
        /// Its epoch, 0 for none.
        epoch: u64,
    },
    /// An effect failed.
    Failed {
        /// Which resource.
        resource: ResourceRef,
        /// Why.
        failure: Failure,
        /// Tries so far.
        attempts: u32,
    },
    /// Somebody else removed an address of ours; it is being put back.
    Vanished {
        /// Which resource.
        resource: ResourceRef,
    },
    /// Quorum was gained or lost.
    Quorum {
        /// Whether this node is with a majority (or the policy's equal).
        have: bool,
    },
    /// This node's own thread ran late.
    Late {
        /// By how much.
        by: Duration,
    },
}
