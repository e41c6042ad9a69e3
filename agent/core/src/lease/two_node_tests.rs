//! Tests of `two_node`: what each tie-break lets pass, and the dead-man's switch.

use core::time::Duration;

use super::{FENCE_PAUSE, Other, TwoNode};
use crate::config::Policy;
use crate::config::TieBreak::{Always, Fence, Ping};
use crate::event::Event;
use crate::snapshot::{LeaseReason, Reason};
use crate::test_config;
use crate::test_lab::{Lab, at};
use crate::time::Instant;

const D: Duration = Duration::from_millis(50);
const NOW: Instant = Instant(10_000_000_000);

#[test]
fn only_the_named_tie_break_lets_a_dead_peer_be_replaced() {
    for tie_break in [Always, Fence, Ping] {
        let silent = TwoNode::new(tie_break);
        assert!(!silent.may_take(Other::Heard, D, NOW), "{tie_break:?}: its vote decides");
        assert!(silent.may_take(Other::Left, D, NOW), "{tie_break:?}: it left in order");
        assert_eq!(silent.may_take(Other::Dead, D, NOW), tie_break == Always);
    }
}

#[test]
fn a_fence_is_ordered_once_and_holds_until_the_peer_is_heard() {
    let mut two = TwoNode::new(Fence);
    two.fenced(true, NOW);
    assert!(!two.may_take(Other::Dead, D, NOW), "none was ordered");
    let mut two = TwoNode::new(Fence);
    assert!(two.order_fence(NOW) && !two.order_fence(NOW));
    assert_eq!(two.wake(), Instant::NEVER, "its answer is waited for");
    two.fenced(false, NOW);
    assert!(!two.order_fence(NOW) && two.order_fence(NOW.after(FENCE_PAUSE)));
    two.fenced(true, NOW);
    assert!(two.may_take(Other::Dead, D, NOW) && !two.order_fence(NOW.after(FENCE_PAUSE)));
    two.heard();
    assert!(!two.may_take(Other::Dead, D, NOW));
    assert!(!TwoNode::new(Always).order_fence(NOW) && !TwoNode::new(Ping).order_fence(NOW));
}

#[test]
fn a_ping_counts_for_a_deadtime() {
    let mut two = TwoNode::new(Ping);
    two.pinged(Some(NOW));
    assert!(two.may_take(Other::Dead, D, Instant(NOW.after(D).0 - 1)));
    assert!(!two.may_take(Other::Dead, D, NOW.after(D)));
    two.pinged(None);
    assert!(!two.may_take(Other::Dead, D, NOW));
}

#[test]
fn the_lease_is_the_own_heartbeat_and_with_ping_the_lesser() {
    let sent = Instant(900);
    let span = Duration::from_nanos(100);
    for tie_break in [Always, Fence] {
        assert_eq!(TwoNode::new(tie_break).lease(sent, Instant::ZERO, span), sent);
    }
    let mut two = TwoNode::new(Ping);
    assert_eq!(two.lease(sent, Instant::ZERO, span), Instant::ZERO, "neither peer nor ping");
    assert_eq!(two.lease(sent, Instant(500), span), Instant(500), "the peer acks");
    two.pinged(Some(Instant(600)));
    assert_eq!(two.lease(sent, Instant(500), span), Instant(700));
    two.pinged(Some(Instant(850)));
    assert_eq!(two.lease(sent, Instant(500), span), sent);
}

/// Node 0 of two whose tie is broken by ping, with a peer that was never heard: dead at 2000 ms.
fn alone() -> Lab {
    let mut config = test_config(2);
    config.quorum.policy = Policy::TwoNode(Ping);
    let mut lab = Lab::new(&config);
    lab.run(2_050, &[]);
    lab
}

#[test]
fn a_group_is_asked_for_as_soon_as_the_ping_group_answers() {
    let mut lab = alone();
    assert_eq!((lab.reason(), lab.row().held()), (Some(Reason::TieBreak), false));
    lab.feed(Event::Ping { reached: Some(at(2_049)) });
    assert!(lab.node.poll_timeout() <= at(lab.now), "at once");
    lab.node.handle_timeout(at(lab.now));
    lab.drain();
    assert!(lab.row().held());
}

#[test]
fn the_lease_follows_the_last_reply_and_says_why_it_ended() {
    let mut lab = alone();
    lab.feed(Event::Ping { reached: Some(at(2_050)) });
    for ms in (2_055..2_500).step_by(5) {
        lab.round(ms, &[]);
        lab.feed(Event::Ping { reached: Some(at(ms - 5)) });
        assert!(lab.row().held() && lab.gate().unwrap().1 > at(ms));
    }
    let last = at(2_490).after(Duration::from_millis(50));
    lab.run(2_535, &[]);
    assert!(lab.row().held() && lab.gate().unwrap().1 < last, "no longer than a deadtime after the request");
    lab.run(2_545, &[]);
    assert_eq!((lab.lost().as_slice(), lab.row().held()), (&[LeaseReason::PingLost][..], false));
    lab.feed(Event::Ping { reached: Some(at(2_545)) });
    lab.run(2_555, &[]);
    assert!(lab.row().held(), "it is back before the holder gave up");
}

#[test]
fn a_node_that_joined_two_is_neither_the_other_nor_a_proof() {
    let mut config = test_config(3);
    config.quorum.policy = Policy::TwoNode(Ping);
    config.nodes[1].vote = false;
    config.groups[0].prefer.remove(1);
    let mut lab = Lab::new(&config);
    lab.run(2_100, &[1]);
    assert_eq!(lab.reason(), Some(Reason::TieBreak), "node 2 has the other vote, and was never heard");
    assert!(!lab.view().quorum);
    lab.feed(Event::Ping { reached: Some(at(2_100)) });
    lab.run(2_110, &[1]);
    assert!(lab.row().held());
}
