//! Tests of `promise`: the majority-th largest, what raises and what lowers a promise.

use agent_common::{NodeId, NodeSet};
use core::time::Duration;

use super::Promises;
use crate::time::Instant;

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

fn promises(untils: &[(u8, u64)]) -> Promises {
    let mut promises = Promises::new();
    untils.iter().for_each(|(voter, until)| _ = promises.acked(id(*voter), Instant(*until), true));
    promises
}

#[test]
fn the_lease_is_the_majority_th_largest_promise() {
    let promises = promises(&[(1, 50), (2, 30), (3, 70), (4, 10)]);
    let table = [
        (0b11110, 0, Instant::NEVER),
        (0b11110, 1, Instant(70)),
        (0b11110, 2, Instant(50)),
        (0b11110, 3, Instant(30)),
        (0b11110, 4, Instant(10)),
        (0b11110, 5, Instant(0)),
        (0b00110, 1, Instant(50)),
        (0b00100, 2, Instant(0)),
        (0b00000, 1, Instant(0)),
    ];
    for (voters, needed, expected) in table {
        assert_eq!(promises.lease(NodeSet(voters), needed), expected, "{needed} of {voters:b}");
    }
}

#[test]
fn a_frame_without_its_table_is_heard_and_promises_nothing() {
    let mut promises = promises(&[(1, 50)]);
    assert!(!promises.acked(id(1), Instant(80), false));
    assert_eq!(promises.of(id(1)), Instant(50));
    assert!(promises.heard_by(Instant(60)).contains(id(1)));
    assert!(promises.acked(id(1), Instant(80), true));
    assert_eq!(promises.of(id(1)), Instant(80));
}

#[test]
fn a_promise_stays_good_whatever_arrives_later() {
    let mut promises = promises(&[(1, 50)]);
    assert!(!promises.acked(id(1), Instant(40), true), "a late ack of an older heartbeat");
    assert_eq!(promises.of(id(1)), Instant(50));
}

#[test]
fn only_a_new_life_a_shorter_deadtime_and_a_wider_margin_lower_it() {
    let mut some = promises(&[(1, 50), (2, 90)]);
    some.cap(Instant(60));
    assert_eq!((some.of(id(1)), some.of(id(2))), (Instant(50), Instant(60)));
    some.shrink(Duration::from_nanos(5));
    assert_eq!((some.of(id(1)), some.of(id(2))), (Instant(45), Instant(55)));
    some.forget(id(2));
    assert_eq!((some.of(id(1)), some.of(id(2))), (Instant(45), Instant::ZERO));
    assert!(some.heard_by(Instant(1)).contains(id(1)) && !some.heard_by(Instant(1)).contains(id(2)));
}
