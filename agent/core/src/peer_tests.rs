//! Tests of `peer`: the table of states, and what a reading may and may not say.

use std::vec::Vec;

use agent_common::{Ack, Claim, GroupId, LinkId, NodeId, NodeState};
use core::time::Duration;

use super::{News, Peer, REREAD, Sign, next};
use crate::action::{Action, Change};
use crate::config::{self, Config};
use crate::event::{LinkReading, Reading};
use crate::queue::Actions;
use crate::rules::Rules;
use crate::snapshot::LinkState;
use crate::snapshot::PeerState::{self, Dead, Late, Leaving, Unknown, Up};
use crate::test_config;
use crate::time::Instant;

const START: Instant = Instant(1_000_000_000);

const fn at(ms: u64) -> Instant {
    Instant(START.0 + ms * 1_000_000)
}

#[test]
fn every_state_and_sign_has_its_successor() {
    let signs = [Sign::Heard, Sign::Left, Sign::Overdue, Sign::Silent];
    let table: [(PeerState, [PeerState; 4]); 5] = [
        (Unknown, [Up, Leaving, Unknown, Dead]),
        (Up, [Up, Leaving, Late, Dead]),
        (Late, [Up, Leaving, Late, Dead]),
        (Dead, [Up, Leaving, Dead, Dead]),
        (Leaving, [Up, Leaving, Leaving, Dead]),
    ];
    for (state, row) in table {
        for (sign, expected) in signs.into_iter().zip(row) {
            assert_eq!(next(state, sign), expected, "{state:?} {sign:?}");
        }
    }
}

struct Lab {
    peer: Peer,
    rules: Rules,
    out: Actions,
    beat: Reading,
}

impl Lab {
    fn new() -> Self {
        let config = test_config(2);
        let rules = Rules::new(&config, START);
        let id = NodeId::new(1).unwrap();
        let mut beat = Reading::silent(id, START);
        beat.beat.incarnation = 7;
        beat.beat.deadtime_us = 50_000;
        beat.beat.state = NodeState::Up;
        beat.beat.votes_version = 1;
        Self { peer: Peer::new(id, &rules), rules, out: Actions::new(&config), beat }
    }

    /// A reading at `read_ms` of a frame that was stamped at `heard_ms`.
    fn hears(&mut self, heard_ms: u64, read_ms: u64, counts: bool) -> News {
        self.beat.read_at = at(read_ms);
        self.beat.heard = true;
        self.beat.heard_at = at(heard_ms);
        self.beat.counts_at = counts.then_some(at(heard_ms));
        self.beat.beat.seq += 1;
        self.beat.accepted += 1;
        self.peer.read(&self.beat, &self.rules, at(read_ms), &mut self.out)
    }

    /// A reading at `read_ms` that finds nothing newer.
    fn finds_nothing(&mut self, read_ms: u64) {
        self.beat.read_at = at(read_ms);
        self.peer.read(&self.beat, &self.rules, at(read_ms), &mut self.out);
    }

    fn judge(&mut self, ms: u64) -> PeerState {
        self.peer.judge(&self.rules, at(ms), &mut self.out);
        self.peer.state()
    }

    fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(Action::Transition(transition)) = self.out.pop() {
            changes.push(transition.what);
        }
        changes
    }
}

#[test]
fn silence_is_late_then_dead_and_being_heard_ends_it() {
    let mut lab = Lab::new();
    assert!(lab.hears(0, 0, true).changed);
    assert_eq!(lab.peer.state(), Up);
    assert_eq!(lab.peer.check_at(), Instant(at(25).0 + 1));
    lab.finds_nothing(26);
    assert_eq!(lab.judge(26), Late);
    assert_eq!(lab.peer.check_at(), Instant(at(50).0 + 1));
    lab.finds_nothing(50);
    assert_eq!(lab.judge(50), Late, "exactly the deadtime is not longer than it");
    lab.finds_nothing(51);
    assert_eq!(lab.judge(51), Dead);
    assert!(lab.hears(60, 60, true).returned);
    assert_eq!(lab.peer.state(), Up);
}

#[test]
fn a_stale_reading_judges_nobody_and_asks_again_soon() {
    let mut lab = Lab::new();
    lab.hears(0, 40, true);
    assert_eq!(lab.judge(500), Late, "the reading of 40 ms shows lateness, and no more");
    assert_eq!(lab.peer.check_at(), at(500).after(REREAD));
    lab.hears(490, 501, true);
    assert_eq!(lab.judge(501), Up);
}

#[test]
fn the_announced_deadtime_is_used_and_bounded_by_initdead() {
    let mut lab = Lab::new();
    lab.beat.beat.deadtime_us = 500_000;
    lab.hears(0, 0, true);
    lab.finds_nothing(500);
    assert_eq!(lab.judge(500), Late);
    lab.finds_nothing(501);
    assert_eq!(lab.judge(501), Dead);
    lab.beat.beat.deadtime_us = u32::MAX;
    lab.hears(600, 600, true);
    lab.finds_nothing(2601);
    assert_eq!(lab.judge(2601), Dead);
}

#[test]
fn nobody_is_dead_before_initdead_if_never_heard() {
    let mut lab = Lab::new();
    lab.finds_nothing(1999);
    assert_eq!(lab.judge(1999), Unknown);
    assert_eq!(lab.judge(2500), Unknown, "the reading is too old for a verdict");
    lab.finds_nothing(2501);
    assert_eq!(lab.judge(2501), Dead);
}

#[test]
fn a_peer_that_came_and_went_before_the_first_reading_is_dead_by_its_stamp() {
    let mut lab = Lab::new();
    lab.hears(10, 200, true);
    assert_eq!(lab.peer.state(), Unknown);
    assert_eq!(lab.judge(200), Dead);
}

#[test]
fn a_stamp_from_before_our_start_does_not_count() {
    let mut lab = Lab::new();
    lab.hears(0, 10, true);
    let mut later = Lab::new();
    later.rules.started_at = at(1);
    later.hears(0, 10, true);
    assert_eq!((lab.peer.state(), later.peer.state()), (Up, Unknown));
    later.finds_nothing(200);
    assert_eq!(later.judge(200), Unknown, "a slot left by an earlier life of ours kills nobody");
}

#[test]
fn an_acknowledgement_of_an_earlier_life_of_ours_says_nothing_of_our_table() {
    let mut lab = Lab::new();
    lab.beat.beat.acked.insert(NodeId::new(0).unwrap());
    lab.beat.beat.acks[0] = Ack { incarnation: lab.rules.incarnation - 1, seq: 9, table: 4 };
    lab.hears(0, 0, true);
    assert_eq!(lab.peer.knows_mine(), 0);
    lab.beat.beat.acks[0].incarnation += 1;
    lab.hears(10, 10, true);
    assert_eq!(lab.peer.knows_mine(), 4);
}

#[test]
fn frames_that_do_not_count_keep_no_peer_alive() {
    let mut lab = Lab::new();
    assert!(lab.hears(0, 0, false).greet, "it waits for our acknowledgement");
    assert_eq!(lab.peer.state(), Unknown);
    assert!(lab.peer.ack().is_some());
    lab.hears(10, 10, true);
    assert_eq!(lab.peer.state(), Up);
    // It starts anew and never hears us: its first sign decides, since the last frame of the earlier life may be gone.
    lab.beat.beat.incarnation += 1;
    for ms in (20..=70).step_by(10) {
        lab.hears(ms, ms, false);
        assert_ne!(lab.judge(ms), Dead, "its first sign of the new life was at 20 ms");
    }
    lab.hears(71, 71, false);
    assert_eq!(lab.judge(71), Dead);
    assert!(lab.changes().contains(&Change::Restarted { peer: NodeId::new(1).unwrap(), incarnation: 8 }));
}

#[test]
fn a_restart_voids_the_claims_of_the_earlier_life() {
    let group = GroupId::new(0).unwrap();
    let mut lab = Lab::new();
    lab.beat.beat.has_claims = true;
    lab.beat.beat.claims[0] = Claim { epoch: 9 << 8, candidate: 1, flags: Claim::HELD };
    lab.hears(0, 0, true);
    assert!(lab.peer.claim(group).held());
    lab.beat.beat.incarnation += 1;
    lab.hears(10, 10, false);
    assert!(!lab.peer.claim(group).is_some());
    assert!(!lab.peer.table_is_known(), "the table of a frame that does not count is not taken");
    assert_eq!(lab.peer.state(), Up, "within its deadtime");
    assert_eq!(lab.peer.highest_epoch(), 9 << 8, "epochs are never used twice");
    lab.hears(20, 20, true);
    assert!(lab.peer.table_is_known());
}

#[test]
fn an_earlier_incarnation_says_nothing() {
    let mut lab = Lab::new();
    lab.hears(0, 0, true);
    lab.beat.beat.incarnation -= 1;
    lab.hears(40, 40, true);
    lab.finds_nothing(51);
    assert_eq!(lab.judge(51), Dead);
    assert_eq!(lab.peer.ack().unwrap().incarnation, 7);
}

#[test]
fn a_leaving_peer_counts_as_gone_until_it_is_heard_otherwise() {
    let mut lab = Lab::new();
    lab.hears(0, 0, true);
    lab.beat.beat.state = NodeState::Leaving;
    assert!(lab.hears(10, 10, true).changed);
    assert_eq!(lab.peer.state(), Leaving);
    assert!(!lab.peer.is_alive() && !lab.peer.is_eligible());
    lab.beat.beat.state = NodeState::Joining;
    lab.hears(20, 20, true);
    assert_eq!(lab.peer.state(), Up);
    lab.beat.beat.state = NodeState::Leaving;
    lab.hears(30, 30, true);
    lab.finds_nothing(81);
    assert_eq!(lab.judge(81), Dead);
}

#[test]
fn a_joining_peer_is_waited_for_but_not_for_ever() {
    let mut lab = Lab::new();
    lab.beat.beat.state = NodeState::Joining;
    let mut eligible = Vec::new();
    for ms in (0..=80).step_by(10) {
        lab.hears(ms, ms, true);
        lab.judge(ms);
        eligible.push(lab.peer.is_eligible());
    }
    assert_eq!(eligible, [true, true, true, true, true, false, false, false, false]);
    lab.beat.beat.state = NodeState::Up;
    lab.hears(90, 90, true);
    assert!(lab.peer.is_eligible());
    lab.beat.beat.state = NodeState::Standby;
    lab.hears(100, 100, true);
    assert!(lab.peer.is_alive() && !lab.peer.is_eligible());
}

#[test]
fn a_peer_that_came_and_went_while_the_observer_slept_stays_dead() {
    let mut lab = Lab::new();
    lab.hears(0, 0, true);
    lab.finds_nothing(60);
    lab.judge(60);
    lab.hears(100, 400, true);
    assert_eq!(lab.judge(400), Dead);
    let silent = Duration::from_millis(60);
    let told = |change: &Change| matches!(change, Change::Peer { to: Dead, silent: s, .. } if *s == silent);
    assert_eq!(lab.changes().iter().filter(|change| told(change)).count(), 1);
}

/// Two links, of which the second is configured for 100 ms; the node beats every 10 ms.
fn with_slow_link() -> Config {
    let mut config = test_config(2);
    let slow = config::LinkConfig { id: LinkId::new(1).unwrap(), keepalive: Duration::from_millis(100) };
    config.links.push(slow);
    config
}

#[test]
fn each_link_is_judged_by_the_pace_that_the_peer_announces() {
    // What the peer announces on the fast and on the slow link, and when (ms) the slow one is late and dead.
    let table = [
        (0, 0, 250, 500),
        (10_000, 100_000, 250, 500),
        (10_000, 200_000, 500, 1_000),
        (10_000, 10_000, 25, 50),
        (0, 2_000_000, 5_000, 10_000),
        // A peer that beats every 20 ms: its slow line is five times slower than it.
        (20_000, 100_000, 250, 250),
    ];
    let config = with_slow_link();
    for (fast_us, slow_us, late_ms, dead_ms) in table {
        let rules = Rules::new(&config, START);
        let mut peer = Peer::new(NodeId::new(1).unwrap(), &rules);
        let mut out = Actions::new(&config);
        let mut reading = Reading::silent(NodeId::new(1).unwrap(), START);
        (reading.heard, reading.heard_at, reading.counts_at) = (true, START, Some(START));
        (reading.beat.incarnation, reading.beat.seq, reading.beat.deadtime_us) = (9, 5, 50_000);
        for (link, us) in reading.links.iter_mut().zip([fast_us, slow_us]) {
            *link = LinkReading {
                at: Some(START),
                frames: 1,
                seq: 5,
                keepalive_us: us,
                ..LinkReading::default()
            };
        }
        let mut first = |state: LinkState| {
            for ms in 0..12_000 {
                let now = START.after(Duration::from_millis(ms));
                reading.read_at = now;
                peer.read(&reading, &rules, now, &mut out);
                while out.pop().is_some() {}
                if peer.view(&rules).links[1].state == state {
                    return ms;
                }
            }
            u64::MAX
        };
        if late_ms < dead_ms {
            assert_eq!(first(LinkState::Late), late_ms + 1, "late: {fast_us} {slow_us}");
        }
        assert_eq!(first(LinkState::Dead), dead_ms + 1, "dead: {fast_us} {slow_us}");
    }
}

#[test]
fn an_echo_counts_from_who_knows_this_life_and_is_forgotten_with_the_link() {
    let config = test_config(2);
    let rules = Rules::new(&config, START);
    let mut peer = Peer::new(NodeId::new(1).unwrap(), &rules);
    let mut out = Actions::new(&config);
    let mut reading = Reading::silent(NodeId::new(1).unwrap(), START);
    reading.beat.incarnation = 9;
    reading.beat.deadtime_us = 50_000;
    let mut delay_ns = [0; agent_common::ids::MAX_NODES];
    delay_ns[0] = 700_000 - 1_000_000_000;
    reading.beat.echo =
        Some(agent_common::Echo { link: LinkId::FIRST, nodes: agent_common::NodeSet(1), delay_ns });
    let mut rtt = |reading: &mut Reading, ms: u64, incarnation| {
        let now = START.after(Duration::from_millis(ms));
        (reading.heard, reading.heard_at, reading.counts_at) = (true, now, Some(now));
        (reading.read_at, reading.beat.seq) = (now, reading.beat.seq + 1);
        reading.beat.acked.insert(rules.me);
        reading.beat.acks[0] = Ack { incarnation, seq: 1, table: 1 };
        let link = &mut reading.links[0];
        // The peer's clock is a second behind, and its heartbeats take 300 us.
        (link.at, link.sent_ns, link.frames) = (Some(now), now.0 - 1_000_000_000 - 300_000, reading.beat.seq);
        peer.read(reading, &rules, now, &mut out);
        while out.pop().is_some() {}
        peer.view(&rules).links[0].rtt
    };
    assert_eq!(rtt(&mut reading, 10, config.incarnation - 1), None, "it speaks to an earlier life");
    assert_eq!(rtt(&mut reading, 20, config.incarnation), Some(Duration::from_millis(1)));
    let later = START.after(Duration::from_millis(500));
    reading.read_at = later;
    peer.read(&reading, &rules, later, &mut out);
    let link = peer.view(&rules).links[0];
    assert_eq!((link.state, link.rtt), (LinkState::Dead, None));
    assert_eq!(peer.delay(LinkId::FIRST), None, "and is told no more");
}

/// A whole session sent again after our restart: authentic, new to us, and of nobody who hears us.
#[test]
fn frames_that_do_not_count_say_nothing_of_a_link() {
    let mut lab = Lab::new();
    let link = |at_ms: u64, frames: u64| LinkReading {
        at: Some(at(at_ms)),
        seq: frames,
        first_seq: 1,
        frames,
        ..LinkReading::default()
    };
    for frames in 1..=5 {
        let now = at(10 * frames);
        (lab.beat.heard, lab.beat.heard_at, lab.beat.read_at) = (true, now, now);
        lab.beat.links[0] = link(10 * frames, frames);
        lab.peer.read(&lab.beat.clone(), &lab.rules, now, &mut lab.out);
        assert_eq!(lab.peer.view(&lab.rules).links[0].state, LinkState::Unknown);
    }
    (lab.beat.counts_at, lab.beat.heard_at, lab.beat.read_at) = (Some(at(60)), at(60), at(60));
    lab.beat.links[0] = link(60, 6);
    lab.peer.read(&lab.beat.clone(), &lab.rules, at(60), &mut lab.out);
    assert_eq!(lab.peer.view(&lab.rules).links[0].state, LinkState::Up);
}
