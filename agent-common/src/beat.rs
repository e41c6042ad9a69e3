//! A heartbeat as values: what a node says of itself and of the others. `wire` writes it to bytes and reads it back.
//! Fixed arrays, no allocation: the largest heartbeat is known when the program starts.

use crate::ids::{GroupId, LinkId, MAX_GROUPS, MAX_NODES, NodeId, NodeSet};

/// What a node says of its own life.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
pub enum NodeState {
    /// Started, and not yet heard out everybody (initdead).
    #[default]
    Joining = 1,
    /// Running.
    Up = 2,
    /// Running, takes no groups (operator's standby).
    Standby = 3,
    /// These are its last frames: it counts as dead at once.
    Leaving = 4,
}

impl NodeState {
    /// `None` for a byte that no version of this protocol sends.
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Joining),
            2 => Some(Self::Up),
            3 => Some(Self::Standby),
            4 => Some(Self::Leaving),
            _ => None,
        }
    }
}

/// What a node acknowledges of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ack {
    /// The peer's newest incarnation heard.
    pub incarnation: u64,
    /// Its newest sequence number heard in that incarnation, over all links.
    pub seq: u64,
    /// The newest version of its table that is known, 0 for none.
    pub table: u32,
}

/// One row of a node's table: what it claims or votes for one group.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Claim {
    /// (milliseconds since 1970 or highest seen + 1) << 8 | node id; 0 for none.
    pub epoch: u64,
    /// The candidate voted for; the node itself when it asks or holds.
    pub candidate: u8,
    /// [`Claim::HELD`], [`Claim::WANT`].
    pub flags: u8,
}

impl Claim {
    /// The node holds the group.
    pub const HELD: u8 = 1;
    /// The node wants the group handed over.
    pub const WANT: u8 = 2;

    /// Whether this row says anything.
    pub const fn is_some(&self) -> bool {
        self.epoch != 0 || self.flags != 0
    }

    /// Whether the sender holds the group.
    pub const fn held(&self) -> bool {
        self.flags & Self::HELD != 0
    }
}

/// The whole content of a heartbeat except the link that carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beat {
    /// The sender.
    pub node: NodeId,
    /// What it says of its life.
    pub state: NodeState,
    /// [`Beat::MAINTENANCE`]. Four bits travel.
    pub flags: u8,
    /// Counts changes of the vote configuration.
    pub vote_number: u16,
    /// Rises whenever the sender lost its memory.
    pub incarnation: u64,
    /// One counter for the whole node, the same on every link.
    pub seq: u64,
    /// CLOCK_MONOTONIC of the sender in ns, read before the first copy was handed to the kernel.
    pub sent_ns: u64,
    /// Announced interval of the link that carries this frame, microseconds.
    pub keepalive_us: u32,
    /// Announced deadtime, microseconds.
    pub deadtime_us: u32,
    /// Version of the sender's table.
    pub votes_version: u32,
    /// Which peers `acks` speaks of.
    pub acked: NodeSet,
    /// By node id; only those in `acked` are sent.
    pub acks: [Ack; MAX_NODES],
    /// Whom the sender holds dead, if it says so.
    pub view: Option<NodeSet>,
    /// Whether the table is sent.
    pub has_claims: bool,
    /// By group id; the rows that say something are sent.
    pub claims: [Claim; MAX_GROUPS],
    /// How many ping groups the sender reaches, 0 to 15: the upper four bits of the flags on the wire.
    pub score: u8,
    /// What the sender measured of one link, if this heartbeat says so.
    pub echo: Option<Echo>,
    /// The sender's name, if this heartbeat says so.
    pub name: Name,
}

/// For the round trip over one link (RFC 5905, section 8, with the two differences taken from two heartbeats): for each peer
/// the receiver's stamp minus the send time of its newest heartbeat on the link, of two clocks, whose difference
/// cancels out when the other direction is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// The link.
    pub link: LinkId,
    /// Of whom it speaks.
    pub nodes: NodeSet,
    /// By node id, nanoseconds; only those in `nodes` are sent.
    pub delay_ns: [i64; MAX_NODES],
}

/// Longest name of a node on the wire, bytes (RFC 1035, section 2.3.4: a label of a host name).
pub const NAME_MAX: usize = 63;

/// A node's name, empty when it is not said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    len: u8,
    bytes: [u8; NAME_MAX],
}

impl Name {
    /// Nothing said.
    pub const NONE: Self = Self { len: 0, bytes: [0; NAME_MAX] };

    /// `None` for one that is empty or too long.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; NAME_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        let len = u8::try_from(name.len()).ok().filter(|len| *len > 0)?;
        Some(Self { len, bytes })
    }

    /// The text, `None` when nothing is said, or not in UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        let bytes = self.bytes.get(..usize::from(self.len)).filter(|bytes| !bytes.is_empty())?;
        core::str::from_utf8(bytes).ok()
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(self.as_str().unwrap_or(""))
    }
}

impl Beat {
    /// Flag: the sender's decisions are suspended.
    pub const MAINTENANCE: u8 = 1;

    /// A heartbeat of `node` with nothing in it yet.
    pub const fn empty(node: NodeId) -> Self {
        Self {
            node,
            state: NodeState::Joining,
            flags: 0,
            vote_number: 0,
            incarnation: 0,
            seq: 0,
            sent_ns: 0,
            keepalive_us: 0,
            deadtime_us: 0,
            votes_version: 0,
            acked: NodeSet::EMPTY,
            acks: [Ack { incarnation: 0, seq: 0, table: 0 }; MAX_NODES],
            view: None,
            has_claims: false,
            claims: [Claim { epoch: 0, candidate: 0, flags: 0 }; MAX_GROUPS],
            score: 0,
            echo: None,
            name: Name::NONE,
        }
    }

    /// What the sender acknowledges of `node`.
    pub fn ack_of(&self, node: NodeId) -> Option<&Ack> {
        self.acked.contains(node).then(|| self.acks.get(node.index())).flatten()
    }

    /// The row of `group`, if it says anything.
    pub fn claim_of(&self, group: GroupId) -> Option<&Claim> {
        self.claims.get(group.index()).filter(|claim| claim.is_some())
    }
}
