//! The words that `status`, events, metrics and the log use for states: part of the interface, so one place.

use agent_core::config::GateKind;
use agent_core::{Failure, GateBy, GroupState, LinkState, PeerState, Reason};

/// A peer's state.
pub const fn peer(state: PeerState) -> &'static str {
    match state {
        PeerState::Unknown => "unknown",
        PeerState::Up => "up",
        PeerState::Late => "late",
        PeerState::Dead => "dead",
        PeerState::Leaving => "leaving",
    }
}

/// All states of a peer, in the order of [`PeerState`].
pub const PEER_STATES: [PeerState; 5] =
    [PeerState::Unknown, PeerState::Up, PeerState::Late, PeerState::Dead, PeerState::Leaving];

/// The state of a link to a peer.
pub const fn link(state: LinkState) -> &'static str {
    match state {
        LinkState::Unknown => "unknown",
        LinkState::Up => "up",
        LinkState::Late => "late",
        LinkState::Dead => "dead",
    }
}

/// All states of a link, in the order of [`LinkState`].
pub const LINK_STATES: [LinkState; 4] = [LinkState::Unknown, LinkState::Up, LinkState::Late, LinkState::Dead];

/// A group's state.
pub const fn group(state: GroupState) -> &'static str {
    match state {
        GroupState::Stopped => "stopped",
        GroupState::Starting => "starting",
        GroupState::Serving => "serving",
        GroupState::Stopping => "stopping",
        GroupState::Failed => "failed",
    }
}

/// All states of a group, in the order of [`GroupState`].
pub const GROUP_STATES: [GroupState; 5] = [
    GroupState::Stopped,
    GroupState::Starting,
    GroupState::Serving,
    GroupState::Stopping,
    GroupState::Failed,
];

/// Why a group is not served here.
pub const fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Joining => "this node does not know yet who is there",
        Reason::Leaving => "this node is leaving",
        Reason::NoQuorum => "no quorum",
        Reason::TieBreak => "the tie-break has not spoken",
        Reason::HeldElsewhere => "held by a living node",
        Reason::OtherPreferred => "a living node is preferred",
        Reason::TableUnknown => "a living owner's table is not known yet",
        Reason::Failed => "it failed here",
        Reason::Rival => "another node holds it at a higher epoch",
        Reason::Failback => "a more preferred node takes it back",
        Reason::Connectivity => "a node that reaches more ping groups takes it",
        Reason::Asking => "asking the holder to hand it over",
        Reason::NotAnOwner => "this node is not in `prefer`",
        Reason::HeldOff => "promises from before the start may still bind this node",
        Reason::VoteElsewhere => "this node's vote belongs to another",
        Reason::LeaseLost => "the lease ran out",
        Reason::Standby => "on standby by the operator",
        Reason::Maintenance => "decisions are suspended for maintenance",
        Reason::Waiting => "waiting for its turn",
        Reason::VotesChanging => "the change of the voters is not known to enough of them yet",
    }
}

/// Who moved a gate.
pub const fn gate_by(by: GateBy) -> &'static str {
    match by {
        GateBy::Agent => "agent",
        GateBy::Kernel => "kernel",
    }
}

/// Who shuts an address whose holder may not serve it.
pub const fn gate_kind(kind: GateKind) -> &'static str {
    match kind {
        GateKind::Kernel => "kernel",
        GateKind::Userspace => "userspace",
    }
}

/// Why an effect failed.
pub fn failure(failure: Failure) -> String {
    match failure {
        Failure::NoInterface => "the interface is not there".to_owned(),
        Failure::Unguarded => "the interface carries no gate: nothing is served on it".to_owned(),
        Failure::NotPermitted => "not permitted: the agent needs CAP_NET_ADMIN".to_owned(),
        Failure::Refused(errno) => {
            let errno = nix::errno::Errno::from_raw(errno);
            format!("the kernel refused: {}", errno.desc())
        }
        Failure::TimedOut => "no answer in time".to_owned(),
    }
}

/// The scheduling class by its number in [`crate::stats::Stats::scheduling`].
pub const fn scheduling(number: u32) -> &'static str {
    match number {
        1 => "fifo",
        2 => "deadline",
        _ => "other",
    }
}
