//! Tests of moves for connectivity, through the node: a group goes to who reaches more, if that lasts, and never back and forth.

use core::time::Duration;

use agent_common::Claim;

use crate::action::{Action, Change};
use crate::config::Config;
use crate::event::{Event, Operator};
use crate::mutation::{Mutated, Mutation};
use crate::snapshot::{LeaseReason, Reason};
use crate::test_config;
use crate::test_lab::{HELD, Lab, WANT};

/// Three owners that prefer node 1; 200 ms of dampening.
fn config() -> Config {
    let mut config = test_config(3);
    config.groups[0].prefer.rotate_left(1);
    config.reach_dampening = Duration::from_millis(200);
    config
}

/// Node 1 holds the group, each node reaches `scores`.
fn held_by_peer(config: &Config, scores: [u8; 3]) -> Lab {
    let mut lab = Lab::new(config);
    lab.claim(1, 5 << 8 | 1, 1, HELD);
    set(&mut lab, scores);
    lab.run(20, &[1, 2]);
    lab
}

fn set(lab: &mut Lab, scores: [u8; 3]) {
    lab.feed(Event::Reach { score: scores[0] });
    lab.beat(1).score = scores[1];
    lab.beat(2).score = scores[2];
}

fn wants(lab: &Lab) -> bool {
    lab.row().flags & WANT != 0
}

#[test]
fn the_group_is_wanted_once_the_difference_has_lasted() {
    let mut lab = held_by_peer(&config(), [2, 2, 2]);
    assert_eq!(lab.node.outgoing().score, 2);
    set(&mut lab, [2, 1, 1]);
    lab.run(210, &[1, 2]);
    assert!(!wants(&lab) && lab.reason() == Some(Reason::HeldElsewhere));
    lab.run(230, &[1, 2]);
    assert!(wants(&lab) && lab.reason() == Some(Reason::Asking));
    lab.claim(1, 0, 0, 0);
    lab.run(240, &[1, 2]);
    assert!(lab.row().epoch > 5 << 8 && lab.row().candidate == 0, "the holder has let go: {:?}", lab.row());
}

#[test]
fn a_difference_that_comes_and_goes_moves_nothing() {
    let mut lab = held_by_peer(&config(), [2, 2, 2]);
    for turn in 1..20 {
        set(&mut lab, [2, 1, 2]);
        lab.run(20 + 200 * turn - 20, &[1, 2]);
        set(&mut lab, [2, 2, 2]);
        lab.run(20 + 200 * turn, &[1, 2]);
        assert!(!wants(&lab), "turn {turn}");
    }
    set(&mut lab, [1, 1, 1]);
    lab.run(6_000, &[1, 2]);
    assert!(!wants(&lab), "when all lose it, nothing moves");
    set(&mut lab, [0, 1, 1]);
    lab.run(7_000, &[1, 2]);
    assert!(!wants(&lab), "and least of all to who reaches less");
}

#[test]
fn the_broken_rule_wants_it_at_once() {
    let config = Config { mutated: Mutated::by(Mutation::MoveWithoutDampening), ..config() };
    let mut lab = held_by_peer(&config, [2, 2, 2]);
    set(&mut lab, [2, 1, 2]);
    lab.run(40, &[1, 2]);
    assert!(wants(&lab));
}

#[test]
fn the_best_begins_and_the_next_waits_once_more() {
    for (scores, waits) in [([2, 1, 3], 400), ([3, 1, 2], 200), ([2, 1, 2], 400), ([2, 1, 1], 200)] {
        let mut lab = held_by_peer(&config(), scores);
        lab.run(waits - 10, &[1, 2]);
        assert!(!wants(&lab), "{scores:?}");
        lab.run(20 + waits + 10, &[1, 2]);
        assert!(wants(&lab), "{scores:?}: of equals the first of `prefer` begins");
    }
}

#[test]
fn a_holder_that_changes_starts_the_wait_anew() {
    let mut lab = held_by_peer(&config(), [3, 1, 2]);
    lab.run(190, &[1, 2]);
    lab.claim(1, 0, 0, 0);
    lab.claim(2, 6 << 8 | 2, 2, HELD);
    lab.run(380, &[1, 2]);
    assert!(!wants(&lab));
    lab.run(410, &[1, 2]);
    assert!(wants(&lab));
}

#[test]
fn standby_and_maintenance_stand_above_connectivity() {
    let mut lab = held_by_peer(&config(), [3, 1, 1]);
    lab.order(1, Operator::Maintenance(true));
    lab.run(600, &[1, 2]);
    assert!(!wants(&lab));
    lab.order(2, Operator::Maintenance(false));
    lab.run(620, &[1, 2]);
    assert!(wants(&lab));
    lab.order(3, Operator::Standby(None));
    lab.run(660, &[1, 2]);
    assert!(!wants(&lab));
}

#[test]
fn a_group_does_not_come_back_to_who_reaches_less_nor_at_once() {
    let mut config = config();
    config.groups[0].prefer.rotate_right(1);
    config.groups[0].auto_failback = true;
    let mut plain = held_by_peer(&config, [0, 0, 0]);
    plain.run(40, &[1, 2]);
    assert!(wants(&plain), "without ping groups it comes back at once");
    let mut lab = held_by_peer(&config, [1, 2, 2]);
    lab.run(1_000, &[1, 2]);
    assert!(!wants(&lab));
    set(&mut lab, [2, 2, 2]);
    lab.run(1_195, &[1, 2]);
    assert!(!wants(&lab), "it has only just become as good");
    lab.run(1_220, &[1, 2]);
    assert!(wants(&lab));
}

#[test]
fn a_holder_says_that_it_handed_over_for_connectivity() {
    let mut quick = test_config(3);
    quick.reach_dampening = Duration::from_millis(200);
    for (scores, expected) in [
        ([0, 0, 0], LeaseReason::Handover),
        ([1, 2, 1], LeaseReason::Connectivity),
        ([2, 1, 1], LeaseReason::Handover),
    ] {
        let mut lab = Lab::asking(&quick);
        let ask = lab.row().epoch;
        lab.claim(1, ask, 0, 0);
        lab.claim(2, ask, 0, 0);
        lab.run(60, &[1, 2]);
        assert!(lab.row().held());
        lab.answer();
        set(&mut lab, scores);
        lab.run(300, &[1, 2]);
        lab.beat(1).claims[0] = Claim { flags: WANT, ..lab.beat(1).claims[0] };
        lab.beat(1).votes_version += 1;
        lab.run(310, &[1, 2]);
        assert_eq!(lab.lost(), [expected], "{scores:?}");
        assert!(!lab.row().held(), "gate first, then the release");
        if expected == LeaseReason::Connectivity {
            let told = lab.actions.iter().any(|action| {
                matches!(action, Action::Transition(told) if matches!(told.what, Change::Lease { held: false, .. }))
            });
            assert!(told);
        }
    }
}

#[test]
fn at_a_takeover_who_reaches_more_comes_first() {
    // This node comes last in `prefer`, and reaches most.
    let mut config = test_config(3);
    config.groups[0].prefer.rotate_left(1);
    for (scores, asks) in [([2, 0, 1], true), ([1, 1, 1], false)] {
        let mut lab = Lab::new(&config);
        lab.claim(1, 5 << 8 | 1, 1, HELD);
        set(&mut lab, scores);
        lab.run(20, &[1, 2]);
        lab.run(75, &[2]);
        assert_eq!(lab.row().candidate == 0 && lab.row().epoch > 5 << 8, asks, "{scores:?}: {:?}", lab.row());
    }
}

#[test]
fn more_than_a_heartbeat_can_say_is_the_most_that_it_can() {
    let mut lab = held_by_peer(&config(), [200, 0, 0]);
    lab.run(30, &[1, 2]);
    assert_eq!(lab.node.outgoing().score, 15);
}

#[test]
fn what_was_handed_over_for_connectivity_does_not_come_back_at_once() {
    let mut config = test_config(3);
    config.reach_dampening = Duration::from_millis(200);
    config.groups[0].auto_failback = true;
    let mut lab = Lab::asking(&config);
    let ask = lab.row().epoch;
    lab.claim(1, ask, 0, 0);
    lab.claim(2, ask, 0, 0);
    lab.run(60, &[1, 2]);
    assert!(lab.row().held());
    lab.answer();
    set(&mut lab, [1, 2, 1]);
    lab.run(300, &[1, 2]);
    lab.claim(1, ask, 0, WANT);
    lab.run(310, &[1, 2]);
    lab.answer();
    assert!(!lab.row().held(), "handed over");
    set(&mut lab, [2, 2, 1]);
    let later = lab.row().epoch.max(ask) + (1 << 16) + 1;
    lab.claim(1, later, 1, HELD);
    lab.run(500, &[1, 2]);
    assert!(!wants(&lab), "though this node is preferred, and reaches as much again");
    lab.run(540, &[1, 2]);
    assert!(wants(&lab));
}

#[test]
fn after_an_ask_that_was_not_won_the_group_is_wanted_again_without_any_news() {
    let mut lab = held_by_peer(&config(), [2, 1, 1]);
    lab.run(230, &[1, 2]);
    assert!(wants(&lab));
    lab.claim(1, 0, 0, 0);
    lab.run(240, &[1, 2]);
    let later = lab.row().epoch + (1 << 16) + 1;
    lab.claim(1, later, 1, HELD);
    let again = 240 + 10_000;
    lab.run(again - 20, &[1, 2]);
    assert!(!wants(&lab), "it leaves the winner in peace");
    assert!(lab.node.poll_timeout() <= crate::test_lab::at(again + 10));
    lab.run(again + 20, &[1, 2]);
    assert!(wants(&lab));
}
