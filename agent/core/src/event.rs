//! Everything that can happen *to* a node. Readings of the peers' slots, results of effects, the operator.

use agent_common::ids::MAX_LINKS;
use agent_common::{Beat, GroupId, LinkId, NodeId};

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
    /// The operator wants something. Answered by [`crate::Action::Answer`] when the result is there.
    Operator {
        /// Comes back with the answer.
        ticket: u32,
        /// What is wanted.
        what: Operator,
    },
    /// The kernel's bar of a group: fed at start and when it rose. It counts as an epoch that was seen, and a gate whose
    /// epoch is below it is shut.
    Bar {
        /// Which.
        group: GroupId,
        /// The bar.
        epoch: u64,
    },
    /// How fast CLOCK_MONOTONIC is being slewed (adjtimex); fed when it changed.
    Slew {
        /// The absolute value, in parts per million.
        ppm: u32,
    },
    /// An [`crate::Action::Fence`] ended.
    Fenced {
        /// Who was to be fenced.
        peer: NodeId,
        /// Whether it certainly is.
        done: bool,
    },
    /// How many ping groups this node reaches; fed when it changed.
    Reach {
        /// Groups, at most 15.
        score: u8,
    },
    /// What the ping group says (two nodes, tie-break `ping`); fed when it changed.
    Ping {
        /// When the request was sent that was answered last, `None` if none was.
        reached: Option<Instant>,
    },
}

/// What an operator can want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Stop in order: release everything, tell the peers, end.
    Leave,
    /// Hand the group (`None`: every group) over to another owner and do not take it again.
    Standby(Option<GroupId>),
    /// Take the group (`None`: every group that this node may own) from its holder; ends a standby.
    Takeover(Option<GroupId>),
    /// Suspend decisions, or take them up again. Leases go on.
    Maintenance(bool),
    /// Announce `initdead` as the deadtime, so that a majority bears a pause; answered once it has acknowledged that.
    /// [`crate::Node::carry`] then has the state to hand over. `Maintenance(false)` takes it back.
    Pause,
}

/// Why an effect failed; the shell logs the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The interface is not there.
    NoInterface,
    /// The kernel's gate, which this node relies on, cannot be put on the interface.
    Unguarded,
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
            links: [LinkReading { at: None, seq: 0, first_seq: 0, frames: 0, sent_ns: 0, keepalive_us: 0 };
                MAX_LINKS],
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
    /// When the newest of them was sent, ns of the *peer's* CLOCK_MONOTONIC, 0 for unknown: only for the round trip, in
    /// which the difference of the clocks cancels out.
    pub sent_ns: u64,
    /// The interval that the peer announces on this link, microseconds, 0 for unknown.
    pub keepalive_us: u32,
}
