//! The states of a peer, as a table; the picture is in `peer`.

use crate::snapshot::PeerState;

/// What a peer's stamps or words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A frame that counts, younger than the deadtime.
    Heard,
    /// The same, saying that the peer goes.
    Left,
    /// Silent for longer than warntime.
    Overdue,
    /// Silent for longer than the deadtime, or never heard until initdead.
    Silent,
}

/// The state after `sign`.
pub(crate) const fn next(state: PeerState, sign: Sign) -> PeerState {
    use PeerState::{Dead, Late, Leaving, Unknown, Up};
    match (state, sign) {
        (Unknown | Up | Late | Dead | Leaving, Sign::Heard) => Up,
        (Unknown | Up | Late | Dead | Leaving, Sign::Left) => Leaving,
        (Unknown, Sign::Overdue) => Unknown,
        (Up | Late, Sign::Overdue) => Late,
        (Leaving, Sign::Overdue) => Leaving,
        (Dead, Sign::Overdue) => Dead,
        (Unknown | Up | Late | Dead | Leaving, Sign::Silent) => Dead,
    }
}
