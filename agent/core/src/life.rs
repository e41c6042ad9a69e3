//! The life of this node, from the first heartbeat to the last.
//!
//! ```text
//!          all peers known, or initdead          operator: leave
//! Joining --------------------------------> Up ------------------> Yielding
//!    |                                                               ^  |
//!    +--------------------- operator: leave -------------------------+  | all groups at rest,
//!                                                                       | or LEAVE_MAX is over
//!                                        Gone <------------ Telling <---+
//!                                              LEAVING_SENDS sent
//! ```

use core::time::Duration;

use agent_common::NodeState;

use crate::time::Instant;

/// How long a leaving node waits for its resources to be released before it goes all the same.
pub(crate) const LEAVE_MAX: Duration = Duration::from_secs(5);
/// How many heartbeats say that the node goes: one of them arrives.
pub(crate) const LEAVING_SENDS: u8 = 3;

/// Where this node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Does not yet know who is there.
    Joining,
    /// Takes part.
    Up,
    /// Releases all it holds, and goes on without at `until`.
    Yielding {
        /// The bound.
        until: Instant,
    },
    /// Says that it goes.
    Telling {
        /// Heartbeats left to send.
        left: u8,
    },
    /// Silent for good.
    Gone,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Every peer was heard or given up.
    AllKnown,
    /// The operator wants it to leave.
    Leave,
    /// Nothing is held any more.
    AtRest,
    /// It is now this late.
    Tick,
    /// A heartbeat was sent.
    Sent,
}

/// The life after `input` at `now`.
pub(crate) fn next(life: Life, input: Input, now: Instant) -> Life {
    use Life::{Gone, Joining, Telling, Up, Yielding};
    match (life, input) {
        (Joining, Input::AllKnown) => Up,
        (Up | Yielding { .. } | Telling { .. } | Gone, Input::AllKnown) => life,
        (Joining | Up, Input::Leave) => Yielding { until: now.after(LEAVE_MAX) },
        (Yielding { .. } | Telling { .. } | Gone, Input::Leave) => life,
        (Yielding { .. }, Input::AtRest) => Telling { left: LEAVING_SENDS },
        (Joining | Up | Telling { .. } | Gone, Input::AtRest) => life,
        (Yielding { until }, Input::Tick) => {
            if now >= until {
                Telling { left: LEAVING_SENDS }
            } else {
                life
            }
        }
        (Joining | Up | Telling { .. } | Gone, Input::Tick) => life,
        (Telling { left }, Input::Sent) => {
            if left > 1 {
                Telling { left: left - 1 }
            } else {
                Gone
            }
        }
        (Joining | Up | Yielding { .. } | Gone, Input::Sent) => life,
    }
}

impl Life {
    /// What the heartbeats say. A node that yields is on standby: alive, and given no group.
    pub(crate) const fn state(self) -> NodeState {
        match self {
            Self::Joining => NodeState::Joining,
            Self::Up => NodeState::Up,
            Self::Yielding { .. } => NodeState::Standby,
            Self::Telling { .. } | Self::Gone => NodeState::Leaving,
        }
    }

    /// Whether the node is on its way out.
    pub(crate) const fn is_leaving(self) -> bool {
        match self {
            Self::Joining | Self::Up => false,
            Self::Yielding { .. } | Self::Telling { .. } | Self::Gone => true,
        }
    }

    /// When time alone changes it.
    pub(crate) const fn wake(self) -> Instant {
        match self {
            Self::Yielding { until } => until,
            Self::Joining | Self::Up | Self::Telling { .. } | Self::Gone => Instant::NEVER,
        }
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
