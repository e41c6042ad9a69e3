//! Tests of claims, through the node that has them: asking, holding, losing, planned moves, votes for others.

use std::vec;

use agent_common::{Beat, Claim, NodeSet};

use crate::action::{Action, Change, ResourceRef};
use crate::answer::{Answer, Refusal};
use crate::config::Start;
use crate::event::{Event, Operator};
use crate::mutation::{Mutated, Mutation};
use crate::node::Node;
use crate::snapshot::{GroupState, LeaseReason, Reason};
use crate::test_config;
use crate::test_lab::{GROUP, HELD, Lab, WANT, at, id};
use crate::time::Instant;

#[test]
fn an_ask_is_won_with_a_majority_and_not_before() {
    let mut lab = Lab::asking(&test_config(5));
    let ask = lab.row();
    lab.claim(1, ask.epoch, 0, 0);
    lab.round(55, &[1, 2, 3, 4]);
    assert!(!lab.row().held(), "two of five");
    lab.claim(2, ask.epoch, 0, 0);
    lab.round(60, &[1, 2, 3, 4]);
    assert!(lab.row().held() && lab.row().epoch == ask.epoch);
    assert_eq!(lab.view().groups[0].votes, NodeSet(0b111));
}

#[test]
fn the_gate_opens_until_the_majority_th_largest_promise() {
    let mut lab = Lab::asking(&test_config(3));
    let epoch = lab.row().epoch;
    let sent_at = lab.node.outgoing().sent_ns;
    lab.claim(1, epoch, 0, 0);
    lab.round(55, &[1, 2]);
    assert_eq!(lab.gate(), Some((epoch, Instant(sent_at + 49_900_000))), "t + deadtime x 998/1000");
}

#[test]
fn a_vote_for_another_epoch_another_node_or_in_an_unknown_table_is_none() {
    for (epoch_off, candidate, known) in [(256, 0, true), (0, 2, true), (0, 0, false)] {
        let mut lab = Lab::asking(&test_config(3));
        let epoch = lab.row().epoch;
        lab.claim(1, epoch - epoch_off, candidate, 0);
        lab.beat(1).has_claims = known;
        lab.round(55, &[1, 2]);
        assert!(!lab.row().held(), "{epoch_off} {candidate} {known}");
        lab.claim(1, epoch, 0, 0);
        lab.beat(1).has_claims = true;
        lab.round(60, &[1, 2]);
        assert!(lab.row().held(), "the witness");
    }
}

#[test]
fn an_ack_of_another_incarnation_promises_nothing() {
    for (broken, held) in [(Mutated::default(), false), (Mutated::by(Mutation::AcksWithoutIncarnation), true)]
    {
        let mut config = test_config(3);
        config.mutated = broken;
        let mut lab = Lab::asking(&config);
        let epoch = lab.row().epoch;
        lab.run(100, &[]);
        let ask = if lab.row().epoch == 0 { epoch } else { lab.row().epoch };
        lab.now = 104;
        lab.claim(1, ask, 0, 0);
        lab.hear(1);
        lab.beat(1).acks[0].incarnation -= 1;
        lab.round(105, &[]);
        let promised = lab.node.leases.promises.of(id(1)) > at(105);
        assert_eq!(promised, held, "{broken:?}");
    }
}

#[test]
fn a_voter_that_starts_anew_takes_its_promises_back_before_it_is_acked() {
    let mut lab = Lab::holding();
    assert!(lab.view().groups[0].lease.is_some());
    lab.actions.clear();
    for peer in [1, 2] {
        let beat = lab.beat(peer);
        (beat.incarnation, beat.seq, beat.votes_version) = (8, 0, 1);
        (beat.has_claims, beat.claims[0]) = (false, Claim::default());
        beat.acked = NodeSet::EMPTY;
        lab.slots[usize::from(peer)].counts_at = None;
        lab.slots[usize::from(peer)].beat.seq = 1;
    }
    lab.round(105, &[]);
    let place = |of: fn(&Action) -> bool| lab.actions.iter().position(of).unwrap();
    let shut = place(|action| matches!(action, Action::Gate { expiry: Instant::ZERO, .. }));
    assert!(shut < place(|action| matches!(action, Action::Send { .. })), "forgotten first, then acked");
    assert_eq!(lab.node.outgoing().acks[1].incarnation, 8);
    assert_eq!(lab.lost(), [LeaseReason::Expired]);
}

#[test]
fn a_lease_that_ran_out_comes_back_with_a_late_ack_and_is_released_after_a_deadtime() {
    let mut lab = Lab::holding();
    let epoch = lab.row().epoch;
    lab.run(160, &[]);
    assert_eq!((lab.row(), lab.reason()), (Claim { epoch, candidate: 0, flags: 0 }, Some(Reason::LeaseLost)));
    assert_eq!(lab.view().groups[0].state, GroupState::Serving, "the addresses stay behind the shut gate");
    lab.run(165, &[2]);
    assert!(lab.row().held() && lab.row().epoch == epoch, "its vote still stands");
    lab.run(300, &[]);
    assert_eq!(lab.row(), Claim::default());
    assert_ne!(lab.view().groups[0].state, GroupState::Serving);
}

#[test]
fn the_deaf_and_the_unheard_do_not_ask() {
    let mut lab = Lab::new(&test_config(3));
    for ms in 1..40 {
        lab.now = 5 * ms;
        lab.hear(1);
        lab.hear(2);
        // They hear nothing of this node but its first heartbeat.
        lab.beat(1).acks[0].seq = 1;
        lab.beat(2).acks[0].seq = 1;
        lab.round(5 * ms, &[]);
        if ms > 15 {
            assert_eq!((lab.row(), lab.reason()), (Claim::default(), Some(Reason::NoQuorum)), "{ms}");
        } else if lab.row().epoch != 0 {
            // Asked while the first heartbeat was young enough; not won, so it is released.
            assert!(!lab.row().held());
        }
    }
}

#[test]
fn who_has_not_won_within_a_deadtime_releases_and_waits() {
    let mut lab = Lab::asking(&test_config(3));
    let first = lab.row();
    let mut epochs = vec![first.epoch];
    let mut released = 0;
    while lab.now < 1000 {
        lab.run(lab.now + 5, &[1, 2]);
        let row = lab.row();
        released += u32::from(row == Claim::default());
        if row.epoch != 0 && epochs.last() != Some(&row.epoch) {
            epochs.push(row.epoch);
        }
    }
    assert!(released > 20 && epochs.len() > 5 && epochs.len() <= 19, "{released} {epochs:?}");
    assert!(epochs.is_sorted() && epochs.iter().all(|epoch| epoch & 255 == 0));
}

#[test]
fn an_ask_disturbs_no_holder_and_makes_it_raise_its_epoch_once_a_deadtime() {
    let mut lab = Lab::holding();
    let epoch = lab.row().epoch;
    let theirs = epoch + (5 << 8) + 1;
    lab.claim(1, theirs, 1, 0);
    lab.actions.clear();
    lab.run(105, &[1, 2]);
    let raised = lab.row();
    assert!(raised.held() && raised.epoch > theirs && raised.epoch & 255 == 0);
    assert!(lab.lost().is_empty(), "node 2 still votes for it");
    lab.claim(1, raised.epoch + 257, 1, 0);
    lab.run(145, &[1, 2]);
    assert_eq!(lab.row().epoch, raised.epoch, "not twice in a deadtime");
    lab.run(200, &[1, 2]);
    assert!(lab.row().epoch > raised.epoch && lab.row().held() && lab.lost().is_empty());
}

#[test]
fn the_broken_rule_lets_an_ask_shut_the_gate() {
    let mut config = test_config(3);
    config.mutated = Mutated::by(Mutation::AskShutsHolderGate);
    let mut lab = Lab::asking(&config);
    let epoch = lab.row().epoch;
    lab.claim(1, epoch, 0, 0);
    lab.run(60, &[1, 2]);
    assert!(lab.row().held());
    lab.claim(2, epoch + 257, 2, 0);
    lab.run(65, &[1, 2]);
    assert!(!lab.row().held());
}

#[test]
fn a_bar_above_the_epoch_ends_the_lease() {
    let mut lab = Lab::holding();
    let epoch = lab.row().epoch;
    lab.feed(Event::Bar { group: GROUP, epoch });
    lab.round(105, &[1, 2]);
    assert!(lab.row().held(), "its own epoch is not above it");
    lab.actions.clear();
    lab.feed(Event::Bar { group: GROUP, epoch: epoch + 257 });
    lab.round(110, &[1, 2]);
    assert_eq!(lab.gate(), Some((epoch, Instant::ZERO)));
    assert_eq!((lab.lost(), lab.row()), (vec![LeaseReason::Rival], Claim::default()));
    lab.answer();
    lab.run(140, &[1, 2]);
    assert!(lab.row().epoch > epoch + 257, "asks again above the bar: {:?} {:?}", lab.row(), lab.reason());
}

#[test]
fn a_wanting_peer_gets_the_group_gate_first_and_without_a_deadtime() {
    let mut lab = Lab::holding();
    let epoch = lab.row().epoch;
    lab.claim(1, epoch, 0, WANT);
    lab.actions.clear();
    lab.round(105, &[1, 2]);
    let place = |of: fn(&Action) -> bool| lab.actions.iter().position(of).unwrap();
    let shut = place(|action| matches!(action, Action::Gate { expiry: Instant::ZERO, .. }));
    assert!(shut < place(|action| matches!(action, Action::Send { .. })));
    assert_eq!((lab.row(), lab.lost()), (Claim::default(), vec![LeaseReason::Handover]));
    lab.claim(1, epoch + 257, 1, 0);
    lab.round(110, &[1, 2]);
    assert_eq!((lab.row().epoch, lab.row().candidate), (epoch + 257, 1), "and its vote");
}

#[test]
fn a_vote_is_free_when_its_candidate_is_dead_now_or_has_released() {
    let mut lab = Lab::new(&test_config(3));
    lab.claim(1, 5 << 8 | 1, 1, HELD);
    lab.run(30, &[1, 2]);
    assert_eq!((lab.row().epoch, lab.row().candidate), (5 << 8 | 1, 1), "votes for the holder");
    lab.claim(2, 9 << 8 | 2, 2, 0);
    lab.run(60, &[1, 2]);
    assert_eq!(lab.row().candidate, 1, "which is heard and asks");
    lab.run(110, &[2]);
    assert_eq!(lab.row().candidate, 1, "silent for its deadtime, not longer");
    lab.run(115, &[2]);
    assert_eq!(
        (lab.row().epoch, lab.row().candidate),
        (9 << 8 | 2, 2),
        "an ask stands until it gets its answer"
    );

    lab.claim(2, 0, 0, 0);
    lab.claim(1, 8 << 8 | 1, 1, 0);
    lab.run(120, &[1, 2]);
    assert_eq!(lab.row().candidate, 2, "below an epoch that had this vote for another");
    lab.claim(1, 10 << 8 | 1, 1, 0);
    lab.run(125, &[1, 2]);
    assert_eq!(lab.row().candidate, 1);
}

#[test]
fn a_release_in_a_table_that_is_not_known_frees_nothing() {
    let mut lab = Lab::new(&test_config(3));
    lab.claim(1, 5 << 8 | 1, 1, HELD);
    lab.claim(2, 9 << 8 | 2, 2, 0);
    lab.run(30, &[1]);
    lab.run(40, &[1, 2]);
    lab.claim(1, 0, 0, 0);
    lab.beat(1).has_claims = false;
    lab.run(80, &[1, 2]);
    assert_eq!(lab.row().candidate, 1);
    lab.beat(1).has_claims = true;
    lab.run(85, &[1, 2]);
    assert_eq!(lab.row().candidate, 2);
}

#[test]
fn after_a_fresh_start_there_is_no_vote_before_the_hold_off_is_over() {
    for (mutated, votes) in [(Mutated::default(), false), (Mutated::by(Mutation::NoHoldOff), true)] {
        let mut config = test_config(4);
        config.mutated = mutated;
        let mut lab = Lab::new(&config);
        lab.claim(1, 9 << 8 | 1, 1, 0);
        // Node 3, another owner, is not there: it may hold a promise of this node's earlier life.
        lab.run(1_990, &[1, 2]);
        assert_eq!(lab.row().is_some(), votes);
        lab.run(2_010, &[1, 2]);
        assert!(lab.row().is_some());
    }
}

#[test]
fn a_shorter_deadtime_shortens_the_gate_before_it_is_announced() {
    let mut lab = Lab::holding();
    lab.order(1, Operator::Maintenance(true));
    lab.run(200, &[1, 2]);
    let (_, long) = lab.gate().unwrap();
    assert!(long > at(1_900) && lab.node.outgoing().deadtime_us == 2_000_000);
    lab.actions.clear();
    lab.order(2, Operator::Maintenance(false));
    lab.round(205, &[1, 2]);
    let place = |of: fn(&Action) -> bool| lab.actions.iter().position(of).unwrap();
    assert!(
        place(|action| matches!(action, Action::Gate { .. }))
            < place(|action| matches!(action, Action::Send { .. }))
    );
    assert!(lab.gate().unwrap().1 <= at(255));
    assert_eq!(lab.node.outgoing().deadtime_us, 50_000);
}

#[test]
fn maintenance_suspends_decisions_and_no_lease() {
    let mut lab = Lab::holding();
    lab.order(1, Operator::Maintenance(true));
    lab.claim(1, lab.row().epoch, 0, WANT);
    lab.run(500, &[1, 2]);
    assert!(lab.row().held() && lab.view().maintenance, "it is not handed over");
    assert_eq!(lab.node.outgoing().flags, Beat::MAINTENANCE);
    lab.order(2, Operator::Standby(Some(GROUP)));
    let first = ResourceRef { group: GROUP, index: 0 };
    lab.actions.retain(|action| !matches!(action, Action::Acquire { .. }));
    lab.feed(Event::Vanished { resource: first });
    lab.round(505, &[1, 2]);
    let repairs =
        |lab: &Lab| lab.actions.iter().filter(|action| matches!(action, Action::Acquire { .. })).count();
    assert_eq!(repairs(&lab), 0);
    assert_eq!(lab.answers(), [(1, Answer::Done), (2, Answer::Refused(Refusal::Maintenance))]);
    lab.claim(1, lab.row().epoch, 0, 0);
    lab.order(3, Operator::Maintenance(false));
    lab.round(510, &[1, 2]);
    assert_eq!(repairs(&lab), 1, "put back when it is over");

    let mut idle = Lab::new(&test_config(3));
    idle.beat(1).flags = Beat::MAINTENANCE;
    idle.run(300, &[1, 2]);
    assert_eq!(
        (idle.row(), idle.reason()),
        (Claim::default(), Some(Reason::Maintenance)),
        "a peer's counts too"
    );
}

#[test]
fn a_witness_votes_and_never_asks() {
    let mut config = test_config(3);
    config.nodes[0].witness = true;
    config.groups[0].prefer = vec![id(1), id(2)];
    let mut lab = Lab::new(&config);
    lab.run(300, &[1, 2]);
    assert_eq!((lab.row(), lab.reason()), (Claim::default(), Some(Reason::NotAnOwner)));
    lab.claim(2, 9 << 8 | 2, 2, 0);
    lab.run(305, &[1, 2]);
    assert_eq!(lab.row().candidate, 2);
}

#[test]
fn what_is_carried_over_goes_on_with_the_same_claim() {
    let mut lab = Lab::holding();
    assert_eq!(lab.node.carry(), None, "no pause was announced");
    lab.order(1, Operator::Pause);
    lab.run(105, &[1, 2]);
    lab.run(130, &[1, 2]);
    assert_eq!(lab.answers(), [(1, Answer::Done)]);
    let carried = lab.node.carry().unwrap();
    let epoch = lab.row().epoch;
    let seq = lab.node.outgoing().seq;

    let mut config = test_config(3);
    config.start = Start::Carried(std::boxed::Box::new(carried));
    lab.actions.clear();
    lab.now = 600;
    lab.node = Node::new(&config, at(600));
    lab.round(600, &[]);
    assert!(lab.row().held() && lab.row().epoch == epoch, "{:?}", lab.row());
    assert_eq!((lab.node.outgoing().seq, lab.node.outgoing().incarnation), (seq + 1, 100));
    assert!(lab.node.outgoing().has_claims, "its first frame carries its asks");
    lab.run(700, &[1, 2]);
    assert!(lab.row().held() && lab.lost().is_empty());

    let mut late = Lab::new(&config);
    late.now = 5_000;
    late.node = Node::new(&config, at(5_000));
    late.round(5_000, &[]);
    assert!(!late.row().held(), "the promises are over");
    assert_eq!(late.gate(), Some((epoch, Instant::ZERO)), "whatever was found open is shut");
}

#[test]
fn a_vote_for_an_earlier_life_is_dropped_before_the_new_one_is_acked() {
    let mut lab = Lab::new(&test_config(3));
    lab.claim(1, 5 << 8 | 1, 1, HELD);
    lab.run(30, &[1, 2]);
    assert_eq!(lab.row().candidate, 1);
    let beat = lab.beat(1);
    (beat.incarnation, beat.seq, beat.votes_version) = (8, 1, 1);
    beat.acked = NodeSet::EMPTY;
    lab.slots[1].counts_at = None;
    lab.round(45, &[2]);
    assert_eq!(lab.node.outgoing().acks[1].incarnation, 8);
    assert_eq!(lab.row(), Claim::default(), "in the frame that acks it");
    lab.run(60, &[1, 2]);
    assert_eq!(lab.row(), Claim::default(), "the same epoch never again");
    lab.claim(1, 6 << 8 | 1, 1, 0);
    lab.run(65, &[1, 2]);
    assert_eq!(lab.row().epoch, 6 << 8 | 1);
}

#[test]
fn who_lags_in_the_number_of_the_votes_neither_asks_nor_blocks_nor_is_given_the_group() {
    let mut config = test_config(3);
    config.quorum.number = 5;
    let mut ahead = Lab::new(&config);
    ahead.beat(1).vote_number = 3;
    ahead.beat(2).vote_number = 5;
    ahead.claim(1, 9 << 8 | 1, 1, 0);
    ahead.run(50, &[1, 2]);
    assert_ne!(ahead.row().epoch, 0, "the laggard's ask blocks nobody");
    ahead.claim(2, ahead.row().epoch, 0, 0);
    ahead.run(60, &[1, 2]);
    assert!(ahead.row().held());
    ahead.claim(1, 9 << 8 | 1, 1, WANT);
    ahead.run(70, &[1, 2]);
    assert!(ahead.row().held(), "it could not win what is handed over");

    let mut behind = Lab::new(&config);
    behind.beat(1).vote_number = 6;
    behind.beat(2).vote_number = 7;
    behind.run(300, &[1, 2]);
    assert_eq!((behind.row(), behind.reason()), (Claim::default(), Some(Reason::VotesChanging)));
    behind.claim(2, 9 << 8 | 2, 2, 0);
    behind.run(305, &[1, 2]);
    assert_eq!(behind.row(), Claim::default(), "two numbers ahead");
    behind.claim(1, 9 << 8 | 1, 1, 0);
    behind.run(310, &[1, 2]);
    assert_eq!(behind.row().candidate, 1, "one number ahead");
}

#[test]
fn the_broken_rule_keeps_the_promise_of_a_voter_that_forgot_it() {
    for (mutated, held) in [(Mutated::default(), false), (Mutated::by(Mutation::PromisesNotForgotten), true)]
    {
        let mut config = test_config(3);
        config.mutated = mutated;
        let mut lab = Lab::asking(&config);
        lab.claim(1, lab.row().epoch, 0, 0);
        lab.run(55, &[1, 2]);
        assert!(lab.row().held());
        let beat = lab.beat(1);
        (beat.incarnation, beat.seq, beat.has_claims) = (8, 1, false);
        beat.acked = NodeSet::EMPTY;
        lab.slots[1].counts_at = None;
        lab.round(60, &[2]);
        assert_eq!(lab.row().held(), held, "{mutated:?}");
    }
}

#[test]
fn the_broken_rule_lets_a_node_vote_for_itself_before_its_hold_off_is_over() {
    for (mutated, asks) in
        [(Mutated::default(), false), (Mutated::by(Mutation::OwnVoteAlwaysAfterRestart), true)]
    {
        let mut config = test_config(3);
        config.mutated = mutated;
        let mut lab = Lab::new(&config);
        // Node 2, another owner, is not there: it may hold a promise of this node's earlier life.
        lab.run(100, &[1]);
        let asked = lab.actions.iter().any(
            |action| matches!(action, Action::Transition(told) if matches!(told.what, Change::Vote { .. })),
        );
        assert_eq!(asked, asks, "{mutated:?}");
    }
}

#[test]
fn a_version_of_an_earlier_life_is_not_known() {
    for (mutated, votes) in
        [(Mutated::default(), false), (Mutated::by(Mutation::VersionsWithoutIncarnation), true)]
    {
        let mut config = test_config(3);
        config.mutated = mutated;
        let mut lab = Lab::asking(&config);
        lab.claim(1, lab.row().epoch, 0, 0);
        lab.run(55, &[1, 2]);
        assert!(lab.row().held());
        // Its new life has come to the same version with another table, of which this node has seen nothing.
        let beat = lab.beat(1);
        (beat.incarnation, beat.seq, beat.has_claims) = (8, 1, false);
        beat.claims[0] = Claim::default();
        lab.run(70, &[1, 2]);
        assert_eq!(lab.row().held(), votes, "{mutated:?}");
    }
}
