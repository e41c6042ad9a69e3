//! Tests of the hand-over from one process to the next: pauses and their answers, what is announced until it is borne, and
//! who may be called dead by a process that has only just started.

use core::time::Duration;
use std::boxed::Box;
use std::vec::Vec;

use agent_common::{Claim, NodeState};

use crate::action::Action;
use crate::answer::{Answer, Refusal};
use crate::carried::Carried;
use crate::config::{Config, Policy, Start, TieBreak};
use crate::event::{Event, Operator, Reading};
use crate::mutation::{Mutated, Mutation};
use crate::node::Node;
use crate::snapshot::PeerState;
use crate::test_config;
use crate::test_lab::{HELD, Lab, at, id};
use crate::time::Instant;

const DEADTIME_US: u32 = 50_000;
const INITDEAD_US: u32 = 2_000_000;

/// What a holder of three hands over after a pause at 100 ms.
fn handed_over() -> (Lab, Carried) {
    let mut lab = Lab::holding();
    lab.order(1, Operator::Pause);
    lab.run(130, &[1, 2]);
    assert_eq!(lab.answers(), [(1, Answer::Done)]);
    let carried = lab.node.carry().unwrap();
    (lab, carried)
}

/// The next process of `lab` starts with `carried` at `ms`.
fn restart(lab: &mut Lab, config: &Config, carried: Carried, ms: u64) {
    let config = Config { start: Start::Carried(Box::new(carried)), ..config.clone() };
    lab.actions.clear();
    lab.now = ms;
    lab.node = Node::new(&config, at(ms));
}

/// The end of the gate after each write, in order.
fn gates(lab: &Lab) -> Vec<Instant> {
    let gates = lab.actions.iter().filter_map(|action| match action {
        Action::Gate { expiry, .. } => Some(*expiry),
        Action::SelfFence { .. }
        | Action::Fence { .. }
        | Action::Answer { .. }
        | Action::Send { .. }
        | Action::Acquire { .. }
        | Action::Release { .. }
        | Action::Announce { .. }
        | Action::PetWatchdog
        | Action::Transition(_)
        | Action::Finished => None,
    });
    gates.collect()
}

#[test]
fn the_longest_deadtime_is_announced_until_a_majority_has_acked_the_new_process() {
    let (mut lab, carried) = handed_over();
    let gate = lab.gate().unwrap().1;
    assert!(gate > at(2_000), "the gate goes as far as the pause may take: {gate:?}");
    restart(&mut lab, &test_config(3), carried, 600);
    lab.round(600, &[]);
    assert_eq!(lab.node.outgoing().deadtime_us, INITDEAD_US);
    assert_eq!(lab.gate().map(|(_, until)| until), Some(gate), "the gate stays where it was");
    lab.run(900, &[]);
    assert_eq!(lab.node.outgoing().deadtime_us, INITDEAD_US, "nobody has acked it yet");
    assert!(lab.row().held() && gates(&lab).iter().all(|until| *until == gate));
    lab.run(930, &[1]);
    assert_eq!(lab.node.outgoing().deadtime_us, DEADTIME_US, "a majority has");
    assert!(gates(&lab).iter().all(|until| *until > at(lab.now)), "no gap: {:?}", gates(&lab));
    lab.run(1_500, &[1, 2]);
    assert!(lab.row().held() && lab.lost().is_empty());
    assert!(lab.gate().unwrap().1 > at(1_500));
}

#[test]
fn the_gate_is_open_at_every_moment_of_twenty_restarts_in_a_row() {
    let (mut lab, mut carried) = handed_over();
    let mut until = lab.gate().unwrap().1;
    for turn in 0..20_u32 {
        let start = lab.now + 400;
        restart(&mut lab, &test_config(3), carried, start);
        for step in 1..20 {
            lab.round(start + 5 * step, if step > 8 { &[1, 2] } else { &[] });
            assert!(until > at(lab.now), "turn {turn}: shut at {} ms", lab.now);
            until = lab.gate().map_or(until, |(_, until)| until);
            assert!(until > at(lab.now), "turn {turn}: written shut at {} ms", lab.now);
        }
        assert_eq!(lab.node.outgoing().deadtime_us, DEADTIME_US, "turn {turn}");
        lab.order(turn, Operator::Pause);
        lab.run(start + 130, &[1, 2]);
        assert_eq!(lab.answers(), [(turn, Answer::Done)]);
        carried = lab.node.carry().unwrap();
        until = lab.gate().unwrap().1;
    }
}

#[test]
fn the_broken_rule_shortens_before_anybody_has_heard_it() {
    let (mut lab, carried) = handed_over();
    let config = Config { mutated: Mutated::by(Mutation::ShortenBeforeAck), ..test_config(3) };
    restart(&mut lab, &config, carried, 600);
    lab.run(700, &[]);
    assert_eq!(lab.node.outgoing().deadtime_us, DEADTIME_US);
    assert!(!lab.row().held(), "and loses its lease while the acks are on their way");
}

#[test]
fn in_maintenance_the_longest_deadtime_stays_until_that_ends() {
    let mut lab = Lab::holding();
    lab.order(1, Operator::Maintenance(true));
    lab.run(130, &[1, 2]);
    lab.order(2, Operator::Pause);
    lab.round(135, &[1, 2]);
    assert_eq!(lab.answers(), [(1, Answer::Done), (2, Answer::Done)], "it was borne already");
    let carried = lab.node.carry().unwrap();
    restart(&mut lab, &test_config(3), carried, 500);
    lab.run(700, &[1, 2]);
    assert_eq!(lab.node.outgoing().deadtime_us, INITDEAD_US);
    assert!(lab.view().maintenance && lab.row().held());
    lab.order(3, Operator::Maintenance(false));
    lab.run(720, &[1, 2]);
    assert_eq!(lab.node.outgoing().deadtime_us, DEADTIME_US);

    let (mut lab, carried) = handed_over();
    restart(&mut lab, &test_config(3), Carried { maintenance: true, ..carried }, 800);
    lab.run(820, &[]);
    lab.order(4, Operator::Maintenance(false));
    lab.run(840, &[]);
    assert_eq!(lab.node.outgoing().deadtime_us, INITDEAD_US, "nobody has acked this process");
    lab.run(860, &[1, 2]);
    assert_eq!(lab.node.outgoing().deadtime_us, DEADTIME_US);
}

#[test]
fn a_pause_takes_the_place_of_another_and_stands_until_it_is_taken_back() {
    let mut lab = Lab::holding();
    lab.order(1, Operator::Pause);
    lab.run(120, &[]);
    assert_eq!(lab.answers(), []);
    lab.order(2, Operator::Pause);
    assert_eq!(lab.answers(), [(1, Answer::Refused(Refusal::Superseded))]);
    lab.run(130, &[1, 2]);
    assert_eq!(lab.answers().last(), Some(&(2, Answer::Done)));
    lab.order(3, Operator::Pause);
    assert_eq!(lab.answers().last(), Some(&(3, Answer::Done)), "it stands already");
    assert!(lab.node.carry().is_some());
    lab.order(4, Operator::Maintenance(false));
    lab.round(135, &[1, 2]);
    assert_eq!(lab.node.carry(), None);
    assert_eq!(lab.node.outgoing().deadtime_us, DEADTIME_US);
    lab.order(5, Operator::Pause);
    lab.order(6, Operator::Maintenance(false));
    assert_eq!(
        lab.answers()[4..],
        [(5, Answer::Refused(Refusal::Superseded)), (6, Answer::Done)],
        "not answered by what is shorter"
    );
}

#[test]
fn a_pause_waits_for_the_lease_and_not_for_a_majority_alone() {
    let mut lab = Lab::asking(&test_config(5));
    let ask = lab.row().epoch;
    lab.claim(1, ask, 0, 0);
    lab.claim(2, ask, 0, 0);
    lab.run(60, &[1, 2, 3, 4]);
    assert!(lab.row().held());
    lab.order(1, Operator::Pause);
    lab.run(90, &[3, 4]);
    assert_eq!(lab.answers(), [], "three of five have acked it, and the lease rests on others");
    lab.run(100, &[1, 2]);
    assert_eq!(lab.answers(), [(1, Answer::Done)]);
    assert!(lab.gate().unwrap().1 > at(2_000));
}

#[test]
fn a_node_alone_and_one_of_two_without_the_other_pause_once_they_have_said_so() {
    let mut alone = Lab::new(&test_config(1));
    alone.run(20, &[]);
    alone.answer();
    alone.order(1, Operator::Pause);
    assert_eq!(alone.answers(), [], "its gate is not written yet");
    alone.run(45, &[]);
    assert_eq!(alone.answers(), [(1, Answer::Done)]);
    let gate = alone.gate().unwrap().1;
    assert!(gate > at(1_900), "{gate:?}");
    let carried = alone.node.carry().unwrap();
    restart(&mut alone, &test_config(1), carried, 500);
    alone.run(530, &[]);
    assert_eq!(alone.node.outgoing().deadtime_us, DEADTIME_US, "there is nobody to wait for");
    assert!(alone.row().held() && gates(&alone).iter().all(|until| *until > at(530)));

    let mut config = test_config(2);
    config.quorum.policy = Policy::TwoNode(TieBreak::Always);
    let mut lab = Lab::new(&config);
    lab.order(1, Operator::Pause);
    assert_eq!(lab.answers(), [(1, Answer::Refused(Refusal::Joining))]);
    lab.run(2_050, &[]);
    assert!(lab.row().held(), "the other was never heard");
    lab.order(2, Operator::Pause);
    lab.run(2_080, &[]);
    assert_eq!(lab.answers().last(), Some(&(2, Answer::Done)));
    let carried = lab.node.carry().unwrap();
    restart(&mut lab, &config, carried, 2_500);
    lab.run(2_530, &[]);
    assert_eq!(lab.view().nodes[1].state, PeerState::Dead, "it is still known to be");
    assert_eq!(lab.node.outgoing().deadtime_us, DEADTIME_US);
    assert!(lab.row().held() && gates(&lab).iter().all(|until| *until > at(2_530)));

    let mut heard = Lab::new(&config);
    heard.run(50, &[1]);
    heard.order(3, Operator::Pause);
    heard.run(80, &[]);
    assert_eq!(heard.answers(), [], "the other is there and has not acked it");
    heard.run(90, &[1]);
    assert_eq!(heard.answers(), [(3, Answer::Done)]);
}

#[test]
fn one_of_two_keeps_its_lease_over_a_restart_by_what_was_handed_over() {
    let mut config = test_config(2);
    config.quorum.policy = Policy::TwoNode(TieBreak::Ping);
    let mut lab = Lab::new(&config);
    lab.run(50, &[1]);
    let ask = lab.row().epoch;
    lab.claim(1, ask, 0, 0);
    lab.run(80, &[1]);
    assert!(lab.row().held());
    lab.claim(1, 0, 0, 0);
    lab.run(100, &[1]);
    lab.order(1, Operator::Pause);
    lab.run(120, &[1]);
    let carried = lab.node.carry().unwrap();
    restart(&mut lab, &config, carried, 600);
    lab.round(600, &[]);
    assert!(lab.row().held(), "the peer acked the pause, though it votes for nobody");
    assert!(lab.lost().is_empty() && gates(&lab).iter().all(|until| *until > at(600)));

    let mut dead = Lab::new(&config);
    dead.run(2_050, &[]);
    dead.feed(Event::Ping { reached: Some(at(2_050)) });
    dead.run(2_060, &[]);
    assert!(dead.row().held());
    dead.order(1, Operator::Pause);
    dead.run(2_080, &[]);
    let carried = dead.node.carry().unwrap();
    assert_eq!(carried.tie_break.reached, Some(at(2_050)));
    restart(&mut dead, &config, carried, 2_090);
    dead.round(2_090, &[]);
    assert!(dead.row().held(), "by the last reply");
    assert_eq!(dead.view().nodes[1].state, PeerState::Dead);
}

#[test]
fn a_peer_is_spared_for_its_deadtime_when_its_slot_is_new_and_judged_at_once_when_it_is_not() {
    let (mut lab, carried) = handed_over();
    let adopted = lab.slots.clone();
    restart(&mut lab, &test_config(3), carried.clone(), 600);
    lab.slots = lab.slots.iter().map(|slot| Reading::silent(slot.beat.node, at(600))).collect();
    lab.round(600, &[]);
    let state = |lab: &Lab, node: usize| lab.view().nodes[node].state;
    assert_eq!((state(&lab, 1), state(&lab, 2)), (PeerState::Up, PeerState::Up));
    lab.run(650, &[]);
    assert_eq!((state(&lab, 1), state(&lab, 2)), (PeerState::Late, PeerState::Late));
    lab.run(655, &[]);
    assert_eq!((state(&lab, 1), state(&lab, 2)), (PeerState::Dead, PeerState::Dead), "no later either");

    restart(&mut lab, &test_config(3), carried.clone(), 600);
    lab.slots = adopted;
    lab.round(600, &[]);
    assert_eq!(state(&lab, 1), PeerState::Dead, "an adopted slot holds all that came in between");

    restart(&mut lab, &test_config(3), carried, 600);
    let seq = lab.slots[1].beat.seq;
    lab.slots[1].beat.seq = 1;
    lab.round(600, &[]);
    assert_eq!(state(&lab, 1), PeerState::Up, "a replayed frame in a new slot proves nothing");
    lab.slots[1].beat.seq = seq;
    lab.round(605, &[1]);
    assert_eq!(state(&lab, 1), PeerState::Up);
}

#[test]
fn what_was_known_of_the_peers_and_of_this_node_is_known_again() {
    let mut config = test_config(4);
    let mut lab = Lab::new(&config);
    lab.claim(1, 5 << 8 | 1, 1, HELD);
    lab.beat(1).flags = agent_common::Beat::MAINTENANCE;
    lab.beat(1).score = 3;
    lab.beat(2).state = NodeState::Standby;
    lab.run(2_100, &[1, 2]);
    lab.feed(Event::Reach { score: 2 });
    lab.feed(Event::Slew { ppm: 900 });
    lab.run(2_120, &[1, 2]);
    assert_eq!(lab.view().nodes[3].state, PeerState::Dead, "it was never heard");
    lab.order(1, Operator::Pause);
    lab.run(2_140, &[1, 2]);
    let carried = lab.node.carry().unwrap();
    assert_eq!((carried.score, carried.slew.ppm), (2, 900));
    config.start = Start::Carried(Box::new(carried.clone()));
    lab.now = 2_160;
    lab.node = Node::new(&config, at(2_160));
    let view = lab.view();
    let states: Vec<PeerState> = view.nodes.iter().map(|node| node.state).collect();
    assert_eq!(states, [PeerState::Up, PeerState::Up, PeerState::Up, PeerState::Dead]);
    lab.round(2_160, &[]);
    assert_eq!(lab.node.outgoing().state, NodeState::Up, "not joining: everybody was heard out before");
    assert!(lab.view().maintenance, "the peer's word");
    assert_eq!(lab.view().groups[0].owner, Some(id(1)));
    lab.order(2, Operator::Pause);
    lab.run(2_190, &[1, 2]);
    let again = lab.node.carry().unwrap();
    let brief = |carried: &Carried| -> Vec<(PeerState, NodeState, u8, u32)> {
        carried.peers.iter().map(|peer| (peer.state, peer.life, peer.score, peer.table)).collect()
    };
    assert_eq!(brief(&again), brief(&carried));
    assert_eq!((again.score, again.slew, again.held_off_until), (2, carried.slew, carried.held_off_until));
    assert_eq!(Duration::from_micros(u64::from(INITDEAD_US)), config.timing.initdead);
    assert_eq!(lab.row(), Claim { epoch: 5 << 8 | 1, candidate: 1, flags: 0 });
}
