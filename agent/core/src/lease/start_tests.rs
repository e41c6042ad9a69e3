//! Tests of `start`: how long an earlier life binds.

use core::time::Duration;

use agent_common::{NodeId, NodeSet};

use super::HoldOff;
use crate::lease::slew::Slew;
use crate::mutation::{Mutated, Mutation};
use crate::test_config;
use crate::time::Instant;

const START: Instant = Instant(1_000_000_000);
const OTHERS: NodeSet = NodeSet(0b110);

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

fn hold_off(mutated: Mutated) -> HoldOff {
    let mut config = test_config(3);
    config.mutated = mutated;
    HoldOff::new(&config, START, Slew::default())
}

#[test]
fn a_node_without_state_is_held_off_for_initdead() {
    let hold_off = hold_off(Mutated::default());
    let end = START.after(Duration::from_secs(2));
    assert!(!hold_off.is_over(OTHERS, Instant(end.0 - 1)));
    assert!(hold_off.is_over(OTHERS, end));
}

#[test]
fn it_is_over_once_every_other_owner_has_acked_this_incarnation() {
    let mut hold_off = hold_off(Mutated::default());
    assert!(hold_off.acked(id(1)));
    assert!(!hold_off.is_over(OTHERS, START), "one is missing");
    assert!(hold_off.acked(id(2)) && !hold_off.acked(id(2)));
    assert!(hold_off.is_over(OTHERS, START) && hold_off.is_over_for_me(OTHERS, START));
}

#[test]
fn the_broken_rules_end_it_early() {
    let early = START.after(Duration::from_millis(50));
    assert!(hold_off(Mutated::by(Mutation::NoHoldOff)).is_over(OTHERS, START));
    assert!(hold_off(Mutated::by(Mutation::HoldOffOwnDeadtimeOnly)).is_over(OTHERS, early));
    let own = hold_off(Mutated::by(Mutation::OwnVoteAlwaysAfterRestart));
    assert!(!own.is_over(OTHERS, START) && own.is_over_for_me(OTHERS, START));
}

#[test]
fn a_slewed_clock_waits_longer() {
    let mut hold_off = hold_off(Mutated::default());
    let mut slew = Slew::default();
    slew.set(50_000, START, Duration::from_secs(2));
    hold_off.slewed(slew, START);
    assert_eq!(hold_off.until(), START.after(Duration::from_millis(2_200)));
}
