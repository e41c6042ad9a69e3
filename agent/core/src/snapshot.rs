//! What a node thinks at one moment, for `status` and metrics. Filled in place, so that nothing is allocated.

use alloc::vec::Vec;
use core::time::Duration;

use agent_common::NodeId;
use agent_common::ids::MAX_LINKS;

use crate::time::Instant;

/// A peer's state. `Late` is `Up` that has been silent for longer than warntime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
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
    /// This node asks the holder to hand it over.
    Asking,
    /// This node is not in `prefer`.
    NotAnOwner,
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
    /// Why this node does not serve it, `None` while it does.
    pub reason: Option<Reason>,
}
