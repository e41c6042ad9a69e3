//! The phases of a claim, as a table.
//!
//! ```text
//!         ask              won
//! Idle ---------> Asking ---------> Holding
//!  ^ ^              |                | |  ^
//!  | +-- give up ---+         ran out| |  | won
//!  |                                 v |  |
//!  | gone           close           Lost ---+
//!  +------ Releasing <--+-------------+ close, give up
//!                       +--- Holding -+
//! ```

/// Where a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No claim; the vote may be another's.
    Idle,
    /// Votes for itself, without a lease yet.
    Asking,
    /// Has the lease.
    Holding,
    /// The lease ran out and the gate is shut; a late ack may still bring it back.
    Lost,
    /// The gate is shut; the claim stands until nothing is here that it guards.
    Releasing,
}

/// What happens to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// This node asks.
    Ask,
    /// The lease is later than now.
    Won,
    /// The lease is over.
    RanOut,
    /// It took too long.
    GiveUp,
    /// This node wants no lease, or may have none.
    Close,
    /// Nothing is here any more that the claim guards.
    Gone,
}

/// The phase after `input`.
pub(crate) const fn next(phase: Phase, input: Input) -> Phase {
    use Phase::{Asking, Holding, Idle, Lost, Releasing};
    match (phase, input) {
        (Idle, Input::Ask) => Asking,
        (Asking | Holding | Lost | Releasing, Input::Ask) => phase,
        (Asking | Lost, Input::Won) => Holding,
        (Idle | Holding | Releasing, Input::Won) => phase,
        (Holding, Input::RanOut) => Lost,
        (Idle | Asking | Lost | Releasing, Input::RanOut) => phase,
        (Asking, Input::GiveUp | Input::Close) => Idle,
        (Lost, Input::GiveUp) | (Holding | Lost, Input::Close) => Releasing,
        (Idle | Holding | Releasing, Input::GiveUp) | (Idle | Releasing, Input::Close) => phase,
        (Releasing, Input::Gone) => Idle,
        (Idle | Asking | Holding | Lost, Input::Gone) => phase,
    }
}

#[cfg(test)]
#[path = "phase_tests.rs"]
mod tests;
