//! The state that one process hands over to the next (upgrade, re-exec): all that a node has promised and was promised.
//! Plain values, so that the shell can write and read them; boot id and completeness are its to check.

use alloc::vec::Vec;

use agent_common::{Claim, NodeId, NodeState};

use crate::snapshot::PeerState;
use crate::time::Instant;

/// Everything of a node that outlives its process. A shell that reads it back incompletely, in another boot, or after any
/// further heartbeat was sent, starts [`crate::config::Start::Fresh`] with a higher incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Carried {
    /// The incarnation that goes on.
    pub incarnation: u64,
    /// The last sequence number that was sent.
    pub seq: u64,
    /// Version of the table of claims.
    pub votes_version: u32,
    /// Number of the vote configuration that is in force.
    pub number: u16,
    /// Until then this node votes for nobody ([`Instant::ZERO`] when that is over).
    pub held_off_until: Instant,
    /// Whether maintenance is on.
    pub maintenance: bool,
    /// How many ping groups this node reaches.
    pub score: u8,
    /// How fast clocks were slewed.
    pub slew: CarriedSlew,
    /// Two nodes: what the tie-break has said.
    pub tie_break: CarriedTieBreak,
    /// Heartbeats sent, oldest first.
    pub sent: Vec<CarriedSent>,
    /// By group id.
    pub groups: Vec<CarriedGroup>,
    /// All other nodes.
    pub peers: Vec<CarriedPeer>,
}

/// The slew of CLOCK_MONOTONIC, parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CarriedSlew {
    /// As last told.
    pub ppm: u32,
    /// The worst of the time that a wait may have begun in.
    pub worst_ppm: u32,
    /// Until then that counts.
    pub worst_until: Instant,
}

/// What the tie-break of two nodes has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CarriedTieBreak {
    /// The peer was fenced, and not heard since.
    pub fenced: bool,
    /// When the request was sent that the ping group answered last.
    pub reached: Option<Instant>,
}

/// A heartbeat that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CarriedSent {
    /// Its number.
    pub seq: u64,
    /// The clock, read before its first copy was handed to the kernel.
    pub at: Instant,
    /// The deadtime that it announced, microseconds.
    pub deadtime_us: u32,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CarriedGroup {
    /// This node's vote, the row of its table.
    pub vote: Claim,
    /// The epoch with which this node asked, if it votes for itself; it may have been raised since.
    pub asked: u64,
    /// The highest epoch seen.
    pub seen: u64,
    /// The highest epoch for which this node voted for another.
    pub voted: u64,
    /// The promises that this node was given for its own claim.
    pub promises: Vec<CarriedPromise>,
    /// Whether the operator has put it on standby here.
    pub standby: bool,
}

/// A promise that this node was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CarriedPromise {
    /// By whom.
    pub voter: NodeId,
    /// How long it binds the voter.
    pub until: Instant,
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CarriedPeer {
    /// Who.
    pub node: NodeId,
    /// Its state.
    pub state: PeerState,
    /// What it said of its life.
    pub life: NodeState,
    /// Whether it said that decisions are suspended.
    pub maintenance: bool,
    /// How many ping groups it reaches.
    pub score: u8,
    /// Our newest heartbeat that it acknowledged is a promise until then, whatever it votes.
    pub heard_until: Instant,
    /// Its incarnation, 0 if it was never heard.
    pub incarnation: u64,
    /// Its newest sequence number.
    pub seq: u64,
    /// How many of its frames had been above everything heard before: a slot that knows of fewer is a new one.
    pub accepted: u64,
    /// Its newest stamp that counts.
    pub counts_at: Option<Instant>,
    /// Whether its present life has ever counted.
    pub is_counted: bool,
    /// Its announced deadtime, microseconds.
    pub deadtime_us: u32,
    /// Its number of the vote configuration.
    pub number: u16,
    /// Version of its table that is known, 0 for none.
    pub table: u32,
    /// Its table, by group id.
    pub claims: Vec<Claim>,
}
