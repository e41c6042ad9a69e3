//! What becomes of an operator's command, and why it may be refused.

/// The result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done: the effect is there.
    Done,
    /// It is not done, and will not be.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such group.
    NoSuchGroup,
    /// This node is not in `prefer` of the group, or a witness.
    NotAnOwner,
    /// This node does not serve the group.
    NotServing,
    /// No other owner is there to take it.
    NobodyElse,
    /// This node is with a minority.
    NoQuorum,
    /// This node has not yet heard out everybody since it started.
    Joining,
    /// This node is on its way out.
    Leaving,
    /// Decisions are suspended.
    Maintenance,
    /// Another command took its place.
    Superseded,
    /// The resources could not be brought up here.
    Failed,
    /// It did not happen in time; it is given up.
    TimedOut,
}

impl Refusal {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoSuchGroup => "there is no such group",
            Self::NotAnOwner => "this node is not an owner of the group: it is not in its `prefer`",
            Self::NotServing => "this node does not serve the group",
            Self::NobodyElse => "no other owner of the group is there to take it",
            Self::NoQuorum => "this node is with a minority, so nothing can move",
            Self::Joining => "this node has only just started: it must first hear the others",
            Self::Leaving => "this node is on its way out",
            Self::Maintenance => "maintenance is on: decisions are suspended",
            Self::Superseded => "another command took its place",
            Self::Failed => "an address could not be brought up",
            Self::TimedOut => "it did not happen in time and was given up",
        }
    }
}
