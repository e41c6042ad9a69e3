//! Tests of `two_node`: what each tie-break lets pass, and the dead-man's switch.

use core::time::Duration;

use super::{FENCE_PAUSE, Other, TwoNode};
use crate::config::TieBreak::{Always, Fence, Ping};
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
