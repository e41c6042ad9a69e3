//! Tests of `two_node`: what each tie-break lets pass, and the dead-man's switch.

use core::time::Duration;

use agent_common::Claim;

use super::{FENCE_PAUSE, Other, TwoNode};
use crate::config::Policy;
use crate::config::TieBreak::{Always, Fence, Ping};
use crate::event::Event;
use crate::lease::log::SentLog;
use crate::mutation::{Mutated, Mutation};
use crate::snapshot::{LeaseReason, Reason};
use crate::test_config;
use crate::test_lab::{HELD, Lab, at};
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
    let mut sent = SentLog::new(Mutated::default());
    [(1, 500), (2, 600), (3, 700)]
        .iter()
        .for_each(|(seq, at)| sent.append(*seq, Instant(*at), Duration::from_nanos(200), 0));
    for tie_break in [Always, Fence] {
        assert_eq!(TwoNode::new(tie_break).lease(&sent, Instant::ZERO), Instant(900));
    }
    let mut two = TwoNode::new(Ping);
    assert_eq!(two.lease(&sent, Instant::ZERO), Instant::ZERO, "neither peer nor ping");
    assert_eq!(two.lease(&sent, Instant(700)), Instant(700), "the peer acks");
    two.pinged(Some(Instant(699)));
    assert_eq!(
        two.lease(&sent, Instant(700)),
        Instant(800),
        "the reply is worth the heartbeat before its request"
    );
    two.pinged(Some(Instant(850)));
    assert_eq!(two.lease(&sent, Instant(700)), Instant(900));
}

#[test]
fn a_holder_that_loses_peer_and_ping_group_at_once_ends_no_later_than_the_peer_may_take_over() {
    let mut lab = holding(Ping, Mutated::default());
    let last_heard = at(lab.now);
    // The request was answered after the last heartbeat that the peer heard; then nothing comes through any more.
    lab.feed(Event::Ping { reached: Some(last_heard.after(Duration::from_millis(4))) });
    lab.round(lab.now + 5, &[]);
    assert!(lab.row().held());
    while lab.row().held() {
        lab.round(lab.now + 1, &[]);
        let expiry = lab.gate().map(|(_, expiry)| expiry).unwrap();
        assert!(expiry <= last_heard.after(D), "{expiry:?} is past the peer's deadtime after {last_heard:?}");
    }
    assert_eq!(lab.lost().as_slice(), [LeaseReason::PingLost]);
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

/// Node 0 of two holds the group with the other's vote until 100 ms, by `tie_break`.
fn holding(tie_break: crate::config::TieBreak, mutated: Mutated) -> Lab {
    let mut config = test_config(2);
    config.quorum.policy = Policy::TwoNode(tie_break);
    config.mutated = mutated;
    let mut lab = Lab::asking(&config);
    let epoch = lab.row().epoch;
    assert!(epoch != 0 && !lab.row().held(), "asks, without a vote");
    lab.claim(1, epoch, 0, 0);
    lab.run(55, &[1]);
    lab.answer();
    lab.run(100, &[1]);
    assert!(lab.row().held() && lab.gate().unwrap().1 > at(100));
    lab.actions.clear();
    lab
}

/// What this node's own gate and row say while it does not hold.
fn assert_shut(lab: &Lab, why: &str) {
    assert!(!lab.row().held(), "{why}: {:?}", lab.row());
    assert_eq!(lab.gate().map(|(_, expiry)| expiry), Some(Instant::ZERO), "{why}");
}

/// While node 0 stood still the other took over; its heartbeats without the table are all that the slot has of it.
fn stood_still(tie_break: crate::config::TieBreak, mutated: Mutated) -> Lab {
    let mut lab = holding(tie_break, mutated);
    let epoch = lab.row().epoch;
    lab.claim(1, epoch + 257, 1, HELD);
    lab.beat(1).has_claims = false;
    lab.now = 240;
    lab.hear(1);
    lab.round(250, &[]);
    lab
}

#[test]
fn who_stood_still_opens_nothing_before_it_knows_what_the_other_claims() {
    for tie_break in [Always, Fence, Ping] {
        let mut lab = stood_still(tie_break, Mutated::default());
        assert_shut(&lab, "its first round, in which it sends");
        lab.round(252, &[]);
        lab.round(260, &[1]);
        assert_shut(&lab, "the other hears it again, but its table is not there yet");
        lab.beat(1).has_claims = true;
        lab.round(265, &[1]);
        assert_shut(&lab, "the other holds it");
        assert_eq!(lab.lost(), [LeaseReason::Expired], "and never had it back");
        assert_eq!(lab.row(), Claim { epoch: lab.beat(1).claims[0].epoch, candidate: 1, flags: 0 });
    }
}

#[test]
fn the_broken_rule_opens_it_with_the_first_heartbeat() {
    for tie_break in [Always, Fence] {
        let lab = stood_still(tie_break, Mutated::by(Mutation::LapsedLeaseRestarts));
        assert!(lab.row().held() && lab.gate().unwrap().1 > at(250));
    }
}

#[test]
fn a_vote_from_before_the_lease_ran_out_does_not_bring_it_back() {
    for known in [true, false] {
        let mut lab = holding(Always, Mutated::default());
        // It still votes for node 0 in the newest heartbeat that has arrived, and may have stopped since.
        lab.now = 149;
        lab.hear(1);
        lab.round(150, &[]);
        assert_shut(&lab, "the deadtime is over");
        lab.beat(1).votes_version += u32::from(!known);
        lab.beat(1).has_claims = known;
        lab.round(155, &[1]);
        assert_eq!(lab.row().held(), known, "an ack of what was sent since, with a vote");
        assert_eq!(lab.gate().unwrap().1 > at(155), known);
    }
}

#[test]
fn who_stood_still_and_hears_nobody_goes_by_the_tie_break() {
    for (tie_break, held) in [(Always, true), (Ping, false)] {
        let mut lab = holding(tie_break, Mutated::default());
        lab.round(250, &[]);
        assert_eq!(lab.row().held(), held, "{tie_break:?}");
    }
    let mut lab = holding(Fence, Mutated::default());
    lab.round(250, &[]);
    assert!(lab.row().held(), "nobody has switched it off");
}
