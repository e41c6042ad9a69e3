//! What a node is told at start: already validated, ids instead of names. The daemon makes it from the TOML file.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use agent_common::{LinkId, Name, NodeId};

pub use crate::carried::{
    Carried, CarriedGroup, CarriedPeer, CarriedPromise, CarriedSent, CarriedSlew, CarriedTieBreak,
};
pub use crate::mutation::{Mutated, Mutation};

/// The whole configuration of the core. Lists are in order of id: `nodes[i]` has node id `i`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Its name, said now and then, so that others can learn who joins; [`Name::NONE`] to say none.
    pub name: Name,
    /// This life of this node: above every earlier one.
    pub incarnation: u64,
    /// Milliseconds since 1970 at [`crate::Instant::ZERO`]; epochs start from it.
    pub wall_ms_at_zero: u64,
    /// Seed of the little randomness there is.
    pub seed: u64,
    /// Intervals.
    pub timing: Timing,
    /// By node id, this node included; 1 to 32.
    pub nodes: Vec<NodeConfig>,
    /// By link id; 1 to 8.
    pub links: Vec<LinkConfig>,
    /// Who may decide.
    pub quorum: Quorum,
    /// By group id; 0 to 64.
    pub groups: Vec<GroupConfig>,
    /// How long another must reach fewer ping groups before a group moves away from it, and the least time between two such
    /// moves of one group.
    pub reach_dampening: Duration,
    /// What this node remembers.
    pub start: Start,
    /// What shuts the addresses when a lease ends.
    pub gate: GateKind,
    /// A rule broken on purpose, for tests; nothing in a build without them.
    pub mutated: Mutated,
}

/// What a node remembers when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing: votes for nobody until what it may have promised before is over.
    Fresh,
    /// What the process before it handed over ([`crate::Node::carry`]); same incarnation, same boot.
    Carried(Box<Carried>),
}

/// What shuts the addresses of a group whose lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// The kernel, whatever the agent does.
    Kernel,
    /// The agent, by withdrawing the addresses: a lost lease that cannot be withdrawn fences this node itself.
    Userspace,
}

/// Intervals of the heartbeat. `keepalive * 2 < deadtime <= initdead`, `warntime < deadtime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats.
    pub keepalive: Duration,
    /// Announced: silent for longer is dead.
    pub deadtime: Duration,
    /// Silent for longer is late.
    pub warntime: Duration,
    /// The first deadtime after start, and the bound of every announced one.
    pub initdead: Duration,
}

/// One node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Votes, never serves.
    pub witness: bool,
    /// Whether it has a vote. One that joined without being listed has none, and never serves: it hears and is heard.
    pub vote: bool,
}

impl Default for NodeConfig {
    /// Votes and may serve.
    fn default() -> Self {
        Self { witness: false, vote: true }
    }
}

/// One link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Its id: the place in [`Config::links`].
    pub id: LinkId,
    /// Its own interval where it cannot carry the node's (a serial line); never shorter than the node's.
    pub keepalive: Duration,
}

/// Who may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The rule.
    pub policy: Policy,
    /// Counts changes of the voters.
    pub number: u16,
    /// The one vote by which they differ from those of the number before; `None` if there is none before.
    pub change: Option<VoteChange>,
}

/// One changed vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteChange {
    /// This node's vote is new.
    Added(NodeId),
    /// This node votes no more. It may still be listed, so that it is heard; if it is not, any id beyond the listed ones
    /// stands for it.
    Removed(NodeId),
}

/// The rule of quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// More than half of the configured votes.
    Majority,
    /// Two nodes without a witness: the tie-break decides.
    TwoNode(TieBreak),
}

/// What lets one of two nodes take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TieBreak {
    /// A successful fence.
    Fence,
    /// A reachable ping group.
    Ping,
    /// Nothing: the peer's silence is enough.
    Always,
}

/// One group of addresses that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Owners, most preferred first; never a witness.
    pub prefer: Vec<NodeId>,
    /// Whether the group moves back to a more preferred node that returns.
    pub auto_failback: bool,
    /// How many resources it has, started in order and stopped in reverse.
    pub resources: u8,
}
