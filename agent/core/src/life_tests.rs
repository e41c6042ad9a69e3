//! Tests of `life`: the table.

use agent_common::NodeState;

use super::Input::{AllKnown, AtRest, Leave, Sent, Tick};
use super::Life::{self, Gone, Joining, Telling, Up, Yielding};
use super::{LEAVE_MAX, LEAVING_SENDS, next};
use crate::time::Instant;

const NOW: Instant = Instant(1_000_000_000);

#[test]
fn every_life_and_input_has_its_successor() {
    let until = NOW.after(LEAVE_MAX);
    let yielding = Yielding { until };
    let overdue = Yielding { until: NOW };
    let telling = Telling { left: LEAVING_SENDS };
    let last = Telling { left: 1 };
    let inputs = [AllKnown, Leave, AtRest, Tick, Sent];
    let table: [(Life, [Life; 5]); 7] = [
        (Joining, [Up, yielding, Joining, Joining, Joining]),
        (Up, [Up, yielding, Up, Up, Up]),
        (yielding, [yielding, yielding, telling, yielding, yielding]),
        (overdue, [overdue, overdue, telling, telling, overdue]),
        (telling, [telling, telling, telling, telling, Telling { left: LEAVING_SENDS - 1 }]),
        (last, [last, last, last, last, Gone]),
        (Gone, [Gone; 5]),
    ];
    for (life, row) in table {
        for (input, expected) in inputs.into_iter().zip(row) {
            assert_eq!(next(life, input, NOW), expected, "{life:?} {input:?}");
        }
    }
}

#[test]
fn a_node_that_yields_is_alive_and_given_no_group() {
    let table = [
        (Joining, NodeState::Joining, false),
        (Up, NodeState::Up, false),
        (Yielding { until: NOW }, NodeState::Standby, true),
        (Telling { left: 1 }, NodeState::Leaving, true),
        (Gone, NodeState::Leaving, true),
    ];
    for (life, state, leaving) in table {
        assert_eq!((life.state(), life.is_leaving()), (state, leaving), "{life:?}");
    }
}
