//! Tests of `quorum`: majorities, adjacent numbers, and when a change comes into force.

use core::time::Duration;
use std::vec::Vec;

use agent_common::{Ack, Claim, NodeId, NodeSet};

use super::Voters;
use crate::answer::{Answer, Refusal};
use crate::config::{Config, Quorum, VoteChange};
use crate::event::{Operator, Reading};
use crate::mutation::{Mutated, Mutation};
use crate::peer::Peer;
use crate::queue::Actions;
use crate::rules::Rules;
use crate::snapshot::Reason;
use crate::test_config;
use crate::test_lab::{Lab, WANT};
use crate::time::Instant;

const START: Instant = Instant(1_000_000_000);

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

fn config(nodes: u8, number: u16, change: Option<VoteChange>) -> Config {
    let mut config = test_config(nodes);
    config.quorum = Quorum { number, change, ..config.quorum };
    config
}

/// Peers heard at `now` with these numbers; `None` is not heard.
fn peers(config: &Config, numbers: &[Option<u16>], now: Instant) -> Vec<Peer> {
    let rules = Rules::new(config, START);
    let peers = numbers.iter().zip(1_u8..).map(|(number, raw)| {
        let mut peer = Peer::new(id(raw), &rules);
        let mut reading = Reading::silent(id(raw), now);
        if let Some(number) = number {
            (reading.heard, reading.heard_at, reading.counts_at) = (true, now, Some(now));
            reading.beat.incarnation = 7;
            reading.beat.deadtime_us = 50_000;
            reading.beat.vote_number = *number;
            reading.beat.acked.insert(id(0));
            reading.beat.acks[0] = Ack { incarnation: config.incarnation, seq: 1, table: 1 };
        }
        peer.read(&reading, &rules, now, &mut Actions::new(config));
        peer
    });
    peers.collect()
}

#[test]
fn a_majority_is_more_than_half_of_the_configured_votes() {
    let table = [
        (1, 0b1, true),
        (2, 0b1, false),
        (2, 0b11, true),
        (3, 0b11, true),
        (4, 0b11, false),
        (4, 0b111, true),
    ];
    for (nodes, present, expected) in table {
        let voters = Voters::new(&config(nodes, 0, None));
        assert_eq!(voters.is_majority(NodeSet(present)), expected, "{present:b} of {nodes}");
        assert_eq!(voters.needed(), usize::from(nodes) / 2, "besides the own");
    }
}

#[test]
fn adjacent_numbers_count_and_others_do_not() {
    let voters = Voters::new(&config(3, 5, None));
    let of = |number| (voters.accepts_asker(number), voters.counts_voter(number));
    assert_eq!(
        [3, 4, 5, 6, 7].map(of),
        [(false, false), (false, true), (true, true), (true, false), (false, false)]
    );
    let mut broken = config(3, 5, None);
    broken.mutated = Mutated::by(Mutation::MajorityWithoutOverlap);
    assert!(Voters::new(&broken).accepts_asker(9));
}

#[test]
fn a_new_number_waits_for_a_majority_of_the_voters_before() {
    let config = config(4, 2, Some(VoteChange::Added(id(3))));
    let mut voters = Voters::new(&config);
    assert!(!voters.may_take_part(), "it does not know yet who may");
    assert_eq!((voters.number(), voters.set()), (2, NodeSet(0b1111)));
    let heard = [Some(1), None, Some(2)];
    assert!(
        !voters.review(&peers(&config, &heard, START), START),
        "node 3 is no voter of number 1, but 0 and 1 are two of three"
    );
    assert_eq!(voters.wake(), START.after(config.timing.initdead));
    let almost = Instant(voters.wake().0 - 1);
    assert!(!voters.review(&peers(&config, &heard, almost), almost));
    let lost = voters.clone();
    let end = voters.wake();
    assert!(voters.review(&peers(&config, &heard, end), end) && voters.may_take_part());

    let mut voters = lost;
    assert!(!voters.review(&peers(&config, &[None, None, Some(2)], end), end), "the majority is gone");
    assert_eq!(voters.wake(), Instant::NEVER);
    assert!(!voters.review(&peers(&config, &[Some(0), Some(0), Some(2)], end), end), "too old a number");
    assert_eq!(voters.wake(), Instant::NEVER);
}

#[test]
fn a_vote_that_was_removed_counts_for_the_number_before_only() {
    let config = config(3, 1, Some(VoteChange::Removed(id(2))));
    let mut voters = Voters::new(&config);
    assert_eq!(voters.set(), NodeSet(0b011));
    let heard = [None, Some(0)];
    assert!(!voters.review(&peers(&config, &heard, START), START));
    let end = START.after(config.timing.initdead);
    assert!(voters.review(&peers(&config, &heard, end), end), "0 and 2 were two of three");
}

#[test]
fn without_the_wait_a_change_counts_at_once() {
    let mut config = config(4, 2, Some(VoteChange::Added(id(3))));
    config.mutated = Mutated::by(Mutation::MajorityWithoutWaiting);
    assert!(Voters::new(&config).may_take_part());
    config.timing.initdead = Duration::ZERO;
}

/// Three voters, and two nodes that joined.
fn with_joined() -> Config {
    let mut config = test_config(5);
    (config.nodes[3].vote, config.nodes[4].vote) = (false, false);
    config
}

#[test]
fn a_node_that_joined_is_no_voter_and_owns_nothing() {
    let config = with_joined();
    let voters = Voters::new(&config);
    assert_eq!((voters.set(), voters.needed()), (NodeSet(0b111), 1));
    assert!(voters.is_joined(id(3)) && !voters.is_joined(id(2)) && voters.may_take_part());
    assert!(!voters.is_majority(NodeSet(0b11001)) && voters.is_majority(NodeSet(0b00011)));
    assert_eq!(voters.counted(NodeSet(0b11011)), NodeSet(0b00011));
    let its_own = Config { me: id(3), ..with_joined() };
    assert!(!Voters::new(&its_own).may_take_part());
    let broken = Config { mutated: Mutated::by(Mutation::JoinedNodesVote), ..its_own };
    assert!(Voters::new(&broken).may_take_part());
}

#[test]
fn promises_and_acks_of_nodes_that_joined_bear_no_lease() {
    let mut lab = Lab::new(&with_joined());
    lab.run(2_100, &[3, 4]);
    assert_eq!(lab.row().epoch, 0, "two of five are heard, none of the three that vote: {:?}", lab.reason());
    lab.run(2_200, &[1, 3, 4]);
    let ask = lab.row().epoch;
    assert_ne!(ask, 0);
    lab.claim(3, ask, 0, 0);
    lab.claim(4, ask, 0, 0);
    lab.run(2_230, &[1, 3, 4]);
    assert!(!lab.row().held());
    lab.claim(1, ask, 0, 0);
    lab.run(2_240, &[1, 3, 4]);
    assert!(lab.row().held());
}

#[test]
fn a_node_that_joined_is_not_waited_for_and_neither_blocks_nor_gets_the_group() {
    let mut lab = Lab::new(&with_joined());
    lab.claim(3, 9 << 8 | 3, 3, 0);
    lab.run(100, &[1, 2, 3]);
    assert_ne!(lab.row().epoch, 0, "nodes 3 and 4 are waited for by nobody: {:?}", lab.reason());
    let ask = lab.row().epoch;
    lab.claim(1, ask, 0, 0);
    lab.run(120, &[1, 2, 3]);
    assert!(lab.row().held());
    lab.claim(3, 9 << 8 | 3, 3, WANT);
    lab.run(140, &[1, 2, 3]);
    assert!(lab.row().held(), "its wish is none");
}

#[test]
fn a_node_that_joined_neither_votes_nor_asks_though_it_hears_everybody() {
    let mut config = test_config(4);
    config.nodes[0].vote = false;
    let mut lab = Lab::new(&config);
    lab.claim(1, 9 << 8 | 1, 1, 0);
    lab.run(2_500, &[1, 2, 3]);
    assert_eq!((lab.row(), lab.reason()), (Claim::default(), Some(Reason::NotAnOwner)));
    assert!(lab.view().quorum, "it is with a majority of those that vote");
    lab.order(1, Operator::Pause);
    lab.run(2_530, &[1, 2, 3]);
    assert_eq!(lab.answers(), [(1, Answer::Done)], "it may restart without being declared dead");
    let mut lonely = Lab::new(&config);
    lonely.order(1, Operator::Pause);
    lonely.run(2_100, &[]);
    lonely.order(2, Operator::Pause);
    let refused = |refusal| Answer::Refused(refusal);
    assert_eq!(lonely.answers(), [(1, refused(Refusal::Joining)), (2, refused(Refusal::NoQuorum))]);
}
