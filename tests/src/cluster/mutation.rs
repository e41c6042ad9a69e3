//! Rules broken on purpose: those of the core, and those of kernel and shell, which are broken here. Each has the number
//! of seeds within which it must be caught.

use agent_core::config::{Mutated, Mutation};

/// One broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// One of the core's.
    Core(Mutation),
    /// A gate does not close by itself once the agent was killed.
    GateOpenAfterCrash,
    /// A starting agent leaves the gates open that it finds.
    InheritedGateNotCapped,
    /// A frame counts that is above everything heard on its own link.
    OrderPerLink,
    /// An agent that lost its memory speaks with the incarnation that it had.
    SameIncarnationAgain,
    /// A state that was handed over is taken although frames were sent after it.
    StaleStateTaken,
}

impl Broken {
    /// All that a seed can notice, with the budget of seeds of each. Acks without incarnation have a directed test in the core;
    /// a lapsed lease that restarts is for two nodes, of which I1 is not asked, and is noticed in the simulator of two.
    pub const ALL: &'static [(Self, u64)] = &[
        (Self::GateOpenAfterCrash, 50),
        (Self::InheritedGateNotCapped, 200),
        (Self::OrderPerLink, 500),
        (Self::SameIncarnationAgain, 500),
        (Self::StaleStateTaken, 500),
        (Self::Core(Mutation::AcksAfterShortenedDeadtime), 1000),
        (Self::Core(Mutation::MixedSequences), 1000),
        (Self::Core(Mutation::ReadTimeAfterSending), 500),
        (Self::Core(Mutation::MajorityWithoutOverlap), 2000),
        (Self::Core(Mutation::MajorityWithoutWaiting), 2000),
        (Self::Core(Mutation::NoHoldOff), 500),
        (Self::Core(Mutation::HoldOffOwnDeadtimeOnly), 2000),
        (Self::Core(Mutation::OwnVoteAlwaysAfterRestart), 1000),
        (Self::Core(Mutation::DeadKeptAsState), 1000),
        (Self::Core(Mutation::MarginTooSmall), 500),
        (Self::Core(Mutation::PromisesNotForgotten), 1000),
        (Self::Core(Mutation::TwoCandidatesOneEpoch), 500),
        (Self::Core(Mutation::AskShutsHolderGate), 500),
        (Self::Core(Mutation::VersionsWithoutIncarnation), 2000),
        (Self::Core(Mutation::JoinedNodesVote), 500),
        (Self::Core(Mutation::MoveWithoutDampening), 500),
        (Self::Core(Mutation::ShortenBeforeAck), 500),
    ];

    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::GateOpenAfterCrash => "gate left open after an agent crash",
            Self::InheritedGateNotCapped => "inherited gate not capped",
            Self::OrderPerLink | Self::Core(Mutation::OrderPerLink) => "order judged per link",
            Self::SameIncarnationAgain | Self::Core(Mutation::SameIncarnationAgain) => {
                "same incarnation again"
            }
            Self::StaleStateTaken => "stale carried state taken",
            Self::Core(Mutation::AcksAfterShortenedDeadtime) => {
                "acks of older heartbeats after a shortened deadtime"
            }
            Self::Core(Mutation::MixedSequences) => "sequence numbers per link mixed in acks",
            Self::Core(Mutation::ReadTimeAfterSending) => "t read after sending",
            Self::Core(Mutation::MajorityWithoutOverlap) => "majority of changing votes without overlap",
            Self::Core(Mutation::MajorityWithoutWaiting) => "majority of changing votes without waiting",
            Self::Core(Mutation::NoHoldOff) => "no hold-off",
            Self::Core(Mutation::HoldOffOwnDeadtimeOnly) => "hold-off of the own deadtime only",
            Self::Core(Mutation::OwnVoteAlwaysAfterRestart) => "own vote always counted after a restart",
            Self::Core(Mutation::DeadKeptAsState) => "\"dead\" kept as a state",
            Self::Core(Mutation::MarginTooSmall) => "margin 1/1000",
            Self::Core(Mutation::PromisesNotForgotten) => "promises not forgotten on a higher incarnation",
            Self::Core(Mutation::TwoCandidatesOneEpoch) => "two candidates with one epoch",
            Self::Core(Mutation::AskShutsHolderGate) => "an ask that shuts the holder's gate",
            Self::Core(Mutation::AcksWithoutIncarnation) => "acks without incarnation",
            Self::Core(Mutation::VersionsWithoutIncarnation) => "versions without incarnation",
            Self::Core(Mutation::JoinedNodesVote) => "the vote of a node that only joined counts",
            Self::Core(Mutation::MoveWithoutDampening) => "a move for connectivity without dampening",
            Self::Core(Mutation::ShortenBeforeAck) => "deadtime shortened before an acknowledgement",
            Self::Core(Mutation::LapsedLeaseRestarts) => {
                "a lease that ran out restarted by the own heartbeat"
            }
        }
    }

    /// What the core is told.
    pub(super) fn core(self) -> Mutated {
        match self {
            Self::Core(mutation) => Mutated::by(mutation),
            Self::OrderPerLink => Mutated::by(Mutation::OrderPerLink),
            Self::SameIncarnationAgain => Mutated::by(Mutation::SameIncarnationAgain),
            Self::GateOpenAfterCrash | Self::InheritedGateNotCapped | Self::StaleStateTaken => {
                Mutated::default()
            }
        }
    }

    pub(super) fn orders_per_link(self) -> bool {
        self == Self::OrderPerLink
    }

    pub(super) fn inherits_gates(self) -> bool {
        self == Self::InheritedGateNotCapped
    }

    pub(super) fn leaves_gates_open(self) -> bool {
        self == Self::GateOpenAfterCrash
    }

    pub(super) fn repeats_incarnations(self) -> bool {
        self == Self::SameIncarnationAgain
    }

    pub(super) fn takes_stale_states(self) -> bool {
        self == Self::StaleStateTaken
    }
}
