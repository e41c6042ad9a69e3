//! What a node thinks at one moment, for `status` and metrics. Filled in place, so that nothing is allocated.

use alloc::vec::Vec;
use core::time::Duration;

use agent_common::ids::MAX_LINKS;
use agent_common::{NodeId, NodeSet};

use crate::time::Instant;

/// A peer's state. `Late` is `Up` that has been silent for longer than warntime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PeerState {
    /// Not heard since start, and initdead is not over.
    #[default]
    Unknown,
    /// Heard within its deadtime.
    Up,
    /// Silent for longer than warntime.
    Late,
    /// Silent for longer than its announced deadtime.
    Dead,
    /// Said that it goes.
    Leaving,
}

/// The state of one link to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LinkState {
    /// Nothing heard on it yet.
    #[default]
    Unknown,
    /// Heard.
    Up,
    /// Silent for longer than warntime.
    Late,
    /// Silent for longer than the announced deadtime.
    Dead,
}

/// A group's state on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GroupState {
    /// Not served here.
    #[default]
    Stopped,
    /// Some resources are held, some are being acquired.
    Starting,
    /// All resources are held.
    Serving,
    /// Resources are being released.
    Stopping,
    /// A resource could not be acquired or released.
    Failed,
}

/// Why a group is not served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This node does not yet know who is there.
    Joining,
    /// This node is on its way out.
    Leaving,
    /// This node is with a minority.
    NoQuorum,
    /// One of two nodes, and the tie-break has not spoken.
    TieBreak,
    /// A living peer holds the group.
    HeldElsewhere,
    /// A living peer comes before this node in `prefer`.
    OtherPreferred,
    /// A living owner has published a table that is not known here yet.
    TableUnknown,
    /// It failed here; another owner may take it.
    Failed,
    /// Another node holds the group at a higher epoch.
    Rival,
    /// A more preferred node has asked for it back.
    Failback,
    /// A node that reaches more ping groups has asked for it.
    Connectivity,
    /// This node asks the holder to hand it over.
    Asking,
    /// This node is not in `prefer`.
    NotAnOwner,
    /// It may still be bound by promises that it made before it started: it votes for nobody yet.
    HeldOff,
    /// Its vote belongs to another node.
    VoteElsewhere,
    /// Its lease ran out; it waits for late votes, then releases.
    LeaseLost,
    /// The operator has put it on standby here.
    Standby,
    /// Decisions are suspended.
    Maintenance,
    /// It waits for its turn, so that a better candidate comes first.
    Waiting,
    /// The change of the voters is not known to enough of them yet.
    VotesChanging,
}

/// Why a lease was gained or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseReason {
    /// A majority promised its votes.
    Majority,
    /// The tie-break of two nodes spoke for this one.
    TieBreak,
    /// The state that was handed over holds it.
    Resumed,
    /// The promises ran out: a majority has not acknowledged in time.
    Expired,
    /// Handed over to a node that wants it.
    Handover,
    /// Handed over to a node that reaches more ping groups.
    Connectivity,
    /// The operator put it on standby here.
    Standby,
    /// This node leaves.
    Leaving,
    /// A resource could not be acquired here.
    Failed,
    /// Another node holds it at a higher epoch.
    Rival,
    /// The ping group stopped answering.
    PingLost,
    /// This node is no owner of it, or no voter any more.
    NotOurs,
}

impl LeaseReason {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Majority => "a majority promised its votes",
            Self::TieBreak => "the tie-break spoke for this node",
            Self::Resumed => "resumed from the state that was handed over",
            Self::Expired => "a majority has not acknowledged in time",
            Self::Handover => "handed over to the node that wants it",
            Self::Connectivity => "handed over to a node that reaches more ping groups",
            Self::Standby => "the operator put it on standby here",
            Self::Leaving => "this node leaves",
            Self::Failed => "an address could not be brought up here",
            Self::Rival => "another node holds it at a higher epoch",
            Self::PingLost => "the ping group stopped answering",
            Self::NotOurs => "this node may not serve it any more",
        }
    }
}

/// The whole view.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Instant,
    /// This node's own incarnation.
    pub incarnation: u64,
    /// Whether this node is with a majority (or the policy's equal).
    pub quorum: bool,
    /// Whether decisions are suspended.
    pub maintenance: bool,
    /// Whether this node is on its way out.
    pub leaving: bool,
    /// By node id; this node's own entry is always up.
    pub nodes: Vec<NodeView>,
    /// By group id.
    pub groups: Vec<GroupView>,
}

/// One node of the view.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeView {
    /// Its state.
    pub state: PeerState,
    /// Its incarnation, 0 when never heard.
    pub incarnation: u64,
    /// Newest stamp that counts.
    pub counts_at: Option<Instant>,
    /// Its announced deadtime.
    pub deadtime: Duration,
    /// Heartbeats above everything heard before.
    pub accepted: u64,
    /// How many ping groups it reaches, as it said last.
    pub score: u8,
    /// By link id.
    pub links: [LinkView; MAX_LINKS],
}

/// One link of a node of the view.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkView {
    /// Its state.
    pub state: LinkState,
    /// Newest stamp on it.
    pub at: Option<Instant>,
    /// Frames heard.
    pub frames: u64,
    /// Frames missed out of a million sent, in the peer's present incarnation.
    pub loss_ppm: u32,
    /// Round trip, once measured.
    pub rtt: Option<Duration>,
}

/// One group of the view.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupView {
    /// Its state on this node.
    pub state: GroupState,
    /// Who owns it in this node's view.
    pub owner: Option<NodeId>,
    /// Its epoch, 0 for none.
    pub epoch: u64,
    /// How long this node's lease still runs, `None` without one.
    pub lease: Option<Duration>,
    /// Who votes for the node that this node votes for, as far as it knows; this node included.
    pub votes: NodeSet,
    /// Why this node does not serve it, `None` while it does.
    pub reason: Option<Reason>,
}
