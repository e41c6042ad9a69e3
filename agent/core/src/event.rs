//! Everything that can happen *to* a node. Readings of the peers' slots, results of effects, the operator.

use agent_common::ids::MAX_LINKS;
use agent_common::{Beat, LinkId, NodeId};

use crate::action::ResourceRef;
use crate::time::Instant;

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// What a peer's slot held. Fed when the slot changed or when a deadline of the peer passed.
    Reading(&'a Reading),
    /// A frame could not be handed to the kernel on this link; heartbeats go on.
    SendFailed {
        /// The link.
        link: LinkId,
    },
    /// The interface of a link came up or went down.
    Carrier {
        /// The link.
        link: LinkId,
        /// Whether it can carry.
        up: bool,
    },
    /// An [`crate::Action::Acquire`] ended.
    Acquired {
        /// Which resource.
        resource: ResourceRef,
        /// The attempt of the action.
        attempt: u32,
        /// What became of it.
        result: Result<(), Failure>,
    },
    /// An [`crate::Action::Release`] ended. An address that was not there is released.
    Released {
        /// Which resource.
        resource: ResourceRef,
        /// The attempt of the action.
        attempt: u32,
        /// What became of it.
        result: Result<(), Failure>,
    },
    /// Somebody else removed an address that we hold.
    Vanished {
        /// Which resource.
        resource: ResourceRef,
    },
    /// An address that we do not hold was found on us (leftover of a killed agent, or added by somebody).
    Found {
        /// Which resource.
        resource: ResourceRef,
    },
    /// The operator wants something.
    Operator(Operator),
}

/// What an operator can want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Stop in order: release everything, tell the peers, end.
    Leave,
}

/// Why an effect failed; the shell logs the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The interface is not there.
    NoInterface,
    /// Not permitted.
    NotPermitted,
    /// The kernel refused with this errno.
    Refused(i32),
    /// No answer in time.
    TimedOut,
}

/// A consistent copy of one peer's slot.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The clock, read *before* the slot (or the socket) was: everything that arrived before it is in here.
    pub read_at: Instant,
    /// Whether anything was ever heard; if not, the rest says nothing.
    pub heard: bool,
    /// Stamp of the newest frame, whether it counts or not.
    pub heard_at: Instant,
    /// Newest stamp that counts (design: what counts), `None` in an incarnation that has not acked ours.
    pub counts_at: Option<Instant>,
    /// Frames above everything heard before, ever.
    pub accepted: u64,
    /// By link id.
    pub links: [LinkReading; MAX_LINKS],
    /// The newest heartbeat; `beat.node` is the peer.
    pub beat: Beat,
}

impl Reading {
    /// A reading of `peer` that heard nothing.
    pub const fn silent(peer: NodeId, read_at: Instant) -> Self {
        Self {
            read_at,
            heard: false,
            heard_at: Instant::ZERO,
            counts_at: None,
            accepted: 0,
            links: [LinkReading { at: None, seq: 0, first_seq: 0, frames: 0 }; MAX_LINKS],
            beat: Beat::empty(peer),
        }
    }
}

/// One link of a reading; in the peer's present incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LinkReading {
    /// Stamp of the newest frame on this link.
    pub at: Option<Instant>,
    /// Highest sequence number on this link.
    pub seq: u64,
    /// First sequence number on this link.
    pub first_seq: u64,
    /// Frames on this link, without duplicates.
    pub frames: u64,
}
