//! Everything a node can ask *for*, and the transitions that it reports. `Copy`, so that queues between threads hold values.

use core::time::Duration;

use agent_common::{GroupId, LinkId, NodeId};

use crate::answer::Answer;
use crate::event::Failure;
use crate::snapshot::{GroupState, LeaseReason, LinkState, PeerState};
use crate::time::Instant;

/// A resource of a group, by place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceRef {
    /// The group.
    pub group: GroupId,
    /// Its place in the group, from 0.
    pub index: u8,
}

/// One thing to do. Actions are executed strictly in order: a gate that stands before a heartbeat is written before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write (epoch, expiry) to the gate of a group. Comes first whenever a lease shrinks, and last when it grows.
    Gate {
        /// Which.
        group: GroupId,
        /// The epoch of the lease, 0 for none.
        epoch: u64,
        /// From then on the group's addresses do not answer; [`Instant::ZERO`] shuts.
        expiry: Instant,
    },
    /// A lost lease cannot be withdrawn: a release failed and no gate in the kernel is there to shut. Pet no watchdog.
    SelfFence {
        /// The group that may still answer here.
        group: GroupId,
    },
    /// Cut `peer` off (two nodes, tie-break `fence`), then answer [`crate::Event::Fenced`].
    Fence {
        /// Who.
        peer: NodeId,
    },
    /// The result of an operator's command.
    Answer {
        /// The number that came with [`crate::Event::Operator`].
        ticket: u32,
        /// What became of it.
        answer: Answer,
    },
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

/// Who moved a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateBy {
    /// The agent wrote it.
    Agent,
    /// The kernel raised its bar, or the expiry passed.
    Kernel,
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
    /// The lease of a group was gained or lost here.
    Lease {
        /// Which.
        group: GroupId,
        /// Whether it is held now.
        held: bool,
        /// Why.
        reason: LeaseReason,
    },
    /// This node's vote for a group.
    Vote {
        /// Which.
        group: GroupId,
        /// The epoch voted for, 0 for none.
        epoch: u64,
        /// Who, `None` for nobody.
        candidate: Option<NodeId>,
    },
    /// The gate of a group.
    Gate {
        /// Which.
        group: GroupId,
        /// Whether it is open now.
        open: bool,
        /// Who moved it.
        by: GateBy,
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
