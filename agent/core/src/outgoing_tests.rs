//! Tests of `outgoing`: numbers, acknowledgements, and when the table goes along.

use core::time::Duration;
use std::vec::Vec;

use agent_common::{Ack, Claim, GroupId, NodeId, NodeSet, NodeState};

use super::{Carriers, NAME_EVERY, Outgoing, TABLE_EVERY, Words};
use crate::config::{self, Config};
use crate::event::Reading;
use crate::membership::View;
use crate::peer::Peer;
use crate::queue::Actions;
use crate::rules::Rules;
use crate::test_config;
use crate::time::Instant;

const NOW: Instant = Instant(1_000_000_000);
const ALL: Carriers = Carriers { all: 1, slow: 0 };

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

fn words() -> Words {
    Words {
        state: NodeState::Up,
        maintenance: false,
        vote_number: 3,
        deadtime: core::time::Duration::from_millis(50),
        score: 2,
    }
}

/// Peer 1, heard with number 5, knowing `table` of ours.
fn peer(table: u32) -> Peer {
    let config = test_config(2);
    let rules = Rules::new(&config, NOW);
    let mut peer = Peer::new(id(1), &rules);
    let mut reading = Reading::silent(id(1), NOW);
    reading.heard = true;
    reading.heard_at = NOW;
    reading.counts_at = Some(NOW);
    reading.beat.incarnation = 9;
    reading.beat.seq = 5;
    reading.beat.deadtime_us = 50_000;
    reading.beat.votes_version = 3;
    reading.beat.has_claims = true;
    reading.beat.acked.insert(id(0));
    reading.beat.acks[0] = Ack { incarnation: config.incarnation, seq: 1, table };
    peer.read(&reading, &rules, NOW, &mut Actions::new(&config));
    peer
}

#[test]
fn each_heartbeat_has_the_next_number_and_the_acknowledgements() {
    let mut outgoing = Outgoing::new(&test_config(2));
    let view = View::default();
    for seq in 1..10 {
        let now = Instant(NOW.0 + seq);
        outgoing.build(words(), &view, &[peer(1)], ALL, now);
        let beat = outgoing.beat();
        assert_eq!((beat.seq, beat.sent_ns, beat.state), (seq, now.0, NodeState::Up));
        assert_eq!((beat.vote_number, beat.deadtime_us, beat.flags), (3, 50_000, 0));
        assert_eq!(beat.ack_of(id(1)), Some(&Ack { incarnation: 9, seq: 5, table: 3 }));
        assert_eq!(beat.view, Some(view.dead));
    }
}

#[test]
fn the_table_goes_along_until_it_is_known() {
    let mut outgoing = Outgoing::new(&test_config(2));
    let group = GroupId::new(0).unwrap();
    let claim = Claim { epoch: 7, candidate: 0, flags: Claim::HELD };
    assert!(outgoing.claim(group, claim));
    assert!(!outgoing.claim(group, claim), "the same row is no change");
    let version = outgoing.beat().votes_version;
    assert_eq!(version, 2);
    outgoing.build(words(), &View::default(), &[peer(version)], ALL, NOW);
    assert!(outgoing.beat().has_claims, "the first carries it in any case");
    outgoing.build(words(), &View::default(), &[peer(version - 1)], ALL, NOW);
    assert!(outgoing.beat().has_claims);
    assert_eq!(outgoing.beat().claim_of(group), Some(&claim));
    outgoing.build(words(), &View::default(), &[peer(version)], ALL, NOW);
    assert!(!outgoing.beat().has_claims);
}

#[test]
fn who_is_not_heard_is_sent_the_table_now_and_then() {
    let mut outgoing = Outgoing::new(&test_config(2));
    let unheard = Peer::new(id(1), &Rules::new(&test_config(2), NOW));
    let mut sent = 0;
    outgoing.build(words(), &View::default(), &[], ALL, NOW);
    for _ in 0..10 * TABLE_EVERY {
        outgoing.build(words(), &View::default(), core::slice::from_ref(&unheard), ALL, NOW);
        sent += u32::from(outgoing.beat().has_claims);
    }
    assert_eq!(sent, 10);
}

#[test]
fn a_changed_table_goes_along_at_once_with_what_is_sent_to_who_is_not_heard() {
    let mut outgoing = Outgoing::new(&test_config(2));
    let unheard = Peer::new(id(1), &Rules::new(&test_config(2), NOW));
    let build = |outgoing: &mut Outgoing| {
        outgoing.build(words(), &View::default(), core::slice::from_ref(&unheard), ALL, NOW);
        outgoing.beat().has_claims
    };
    assert!(build(&mut outgoing), "the first");
    for _ in 0..3 {
        while !outgoing.beat().seq.is_multiple_of(TABLE_EVERY) {
            build(&mut outgoing);
        }
        assert!(!build(&mut outgoing), "not due");
        let epoch = outgoing.beat().seq;
        outgoing.claim(GroupId::FIRST, Claim { epoch, candidate: 0, flags: Claim::HELD });
        assert!((0..TABLE_EVERY).all(|_| build(&mut outgoing)));
    }
    let later = (0..10 * TABLE_EVERY).filter(|_| build(&mut outgoing)).count();
    assert_eq!(later, 10);
}

#[test]
fn the_version_never_becomes_zero() {
    let mut outgoing = Outgoing::new(&test_config(2));
    outgoing.beat.votes_version = u32::MAX;
    outgoing.claim(GroupId::new(0).unwrap(), Claim { epoch: 1, candidate: 0, flags: 0 });
    assert_eq!(outgoing.beat().votes_version, 1);
}

#[test]
fn the_name_goes_along_while_the_node_joins_and_now_and_then() {
    let mut config = test_config(2);
    config.name = agent_common::Name::new("alpha").unwrap();
    let mut outgoing = Outgoing::new(&config);
    let joining = Words { state: NodeState::Joining, ..words() };
    outgoing.build(joining, &View::default(), &[], ALL, NOW);
    assert_eq!(outgoing.beat().name.as_str(), Some("alpha"));
    let mut said = 0;
    for _ in 0..10 * NAME_EVERY {
        outgoing.build(words(), &View::default(), &[], ALL, NOW);
        said += u32::from(outgoing.beat().name.as_str().is_some());
    }
    assert_eq!(said, 10);
    assert_eq!(outgoing.beat().score, 2);
}

/// Peer 1, heard on `links` with a delay of `10 + link` ns.
fn heard_on(links: &[usize]) -> Peer {
    let config = Config {
        links: [config::LinkConfig { keepalive: Duration::ZERO, ..test_config(2).links[0] }; 3].to_vec(),
        ..test_config(2)
    };
    let rules = Rules::new(&config, NOW);
    let mut peer = Peer::new(id(1), &rules);
    let mut reading = Reading::silent(id(1), NOW);
    (reading.heard, reading.heard_at, reading.counts_at) = (true, NOW, Some(NOW));
    (reading.beat.incarnation, reading.beat.seq, reading.beat.deadtime_us) = (9, 5, 50_000);
    for link in links {
        let slot = &mut reading.links[*link];
        (slot.at, slot.frames) = (Some(NOW), 1);
        slot.sent_ns = NOW.0 - 10 - *link as u64;
    }
    peer.read(&reading, &rules, NOW, &mut Actions::new(&config));
    peer
}

#[test]
fn the_links_are_told_of_in_turn_and_not_too_often() {
    let mut outgoing = Outgoing::new(&test_config(2));
    let peers = [heard_on(&[0, 2])];
    let mut told = Vec::new();
    for step in 0..40 {
        let now = NOW.after(Duration::from_millis(10) * step);
        outgoing.build(words(), &View::default(), &peers, ALL, now);
        if let Some(echo) = outgoing.beat().echo {
            assert_eq!(echo.nodes, NodeSet(1 << 1));
            assert_eq!(echo.delay_ns[1], 10 + i64::try_from(echo.link.index()).unwrap());
            told.push((step, echo.link.raw()));
        }
    }
    assert_eq!(told, [(0, 0), (10, 2), (20, 0), (30, 2)]);
    outgoing.build(words(), &View::default(), &[heard_on(&[])], ALL, NOW.after(Duration::from_secs(9)));
    assert_eq!(outgoing.beat().echo, None, "nobody is heard");
}

#[test]
fn a_slow_link_is_spared_while_a_faster_one_is_heard() {
    let mut outgoing = Outgoing::new(&test_config(2));
    let mut says = |links: &[usize], carriers, ms| {
        let now = NOW.after(Duration::from_millis(ms));
        outgoing.build(words(), &View::default(), &[heard_on(links)], carriers, now);
        outgoing.beat().echo.map(|echo| echo.link.raw())
    };
    let both = Carriers { all: 0b101, slow: 0b100 };
    assert_eq!(says(&[0, 2], both, 0), None, "the slow link would carry it too");
    assert_eq!(says(&[0, 2], ALL, 10), Some(0));
    assert_eq!(says(&[0, 2], ALL, 110), Some(2), "what was measured of the slow one goes over the fast one");
    assert_eq!(says(&[2], both, 210), Some(2), "nobody is heard on the fast one");
}
