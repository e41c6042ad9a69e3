//! Tests of `node`: named behaviours of one node, round by round.

use std::vec;
use std::vec::Vec;

use agent_common::{Ack, Claim, GroupId, NodeId, NodeState};

use super::Node;
use crate::action::{Action, Change, ResourceRef};
use crate::config::{Config, Policy, TieBreak};
use crate::event::{Event, Failure, Operator, Reading};
use crate::life::{LEAVE_MAX, LEAVING_SENDS};
use crate::snapshot::{GroupState, PeerState, Reason, Snapshot};
use crate::test_config;
use crate::time::Instant;

const START: Instant = Instant(1_000_000_000);
const FIRST: ResourceRef = ResourceRef { group: group(), index: 0 };

const fn group() -> GroupId {
    match GroupId::new(0) {
        Some(id) => id,
        None => unreachable!(),
    }
}

const fn at(ms: u64) -> Instant {
    Instant(START.0 + ms * 1_000_000)
}

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

/// One node, its peers' slots, and the actions so far.
struct Lab {
    node: Node,
    slots: Vec<Reading>,
    now: u64,
    actions: Vec<Action>,
}

impl Lab {
    fn new(config: &Config) -> Self {
        let slots = (0..config.nodes.len()).map(|raw| {
            let mut slot = Reading::silent(id(u8::try_from(raw).unwrap()), START);
            slot.beat.incarnation = 7;
            slot.beat.deadtime_us = 50_000;
            slot.beat.state = NodeState::Up;
            slot.beat.votes_version = 1;
            slot.beat.has_claims = true;
            slot
        });
        Self { node: Node::new(config, START), slots: slots.collect(), now: 0, actions: Vec::new() }
    }

    /// A pair of which the peer is heard and claims nothing.
    fn pair(config: &Config) -> Self {
        let mut lab = Self::new(config);
        lab.hear(1);
        lab.round(1);
        lab
    }

    fn drain(&mut self) {
        while let Some(action) = self.node.poll_action() {
            self.actions.push(action);
        }
    }

    fn feed(&mut self, event: Event<'_>) {
        self.node.handle(event, at(self.now));
        self.drain();
    }

    /// A frame of `peer` arrives now.
    fn hear(&mut self, peer: u8) {
        let incarnation = self.node.outgoing().incarnation;
        let slot = &mut self.slots[usize::from(peer)];
        slot.heard = true;
        slot.heard_at = at(self.now);
        slot.counts_at = Some(at(self.now));
        slot.accepted += 1;
        slot.beat.seq += 1;
        slot.beat.acked.insert(id(0));
        let (seq, table) = (self.node.outgoing().seq, self.node.outgoing().votes_version);
        slot.beat.acks[0] = Ack { incarnation, seq, table };
    }

    /// `peer` claims the group from its next frame on.
    fn claims(&mut self, peer: u8, claim: Claim) {
        let slot = &mut self.slots[usize::from(peer)];
        slot.beat.claims[0] = claim;
        slot.beat.votes_version += 1;
    }

    /// A round at `ms`: all slots, then the timeout.
    fn round(&mut self, ms: u64) {
        self.now = ms;
        for place in 1..self.slots.len() {
            self.slots[place].read_at = at(ms);
            let slot = self.slots[place].clone();
            self.feed(Event::Reading(&slot));
        }
        self.node.handle_timeout(at(ms));
        self.drain();
    }

    /// Rounds each 5 ms up to `ms`, with every peer of `heard` sending each time.
    fn run(&mut self, ms: u64, heard: &[u8]) {
        while self.now < ms {
            self.now += 5;
            heard.iter().for_each(|peer| self.hear(*peer));
            self.round(self.now);
        }
    }

    /// Answers every effect so far, once.
    fn answer(&mut self, result: Result<(), Failure>) -> usize {
        let effects: Vec<Action> = core::mem::take(&mut self.actions);
        let mut answers = 0;
        for action in effects {
            match action {
                Action::Acquire { resource, attempt } => {
                    self.feed(Event::Acquired { resource, attempt, result });
                    answers += 1;
                }
                Action::Release { resource, attempt } => {
                    self.feed(Event::Released { resource, attempt, result });
                    answers += 1;
                }
                Action::Send { .. }
                | Action::Announce { .. }
                | Action::PetWatchdog
                | Action::Transition(_)
                | Action::Finished => {}
            }
        }
        self.node.handle_timeout(at(self.now));
        self.drain();
        answers
    }

    fn count(&self, of: impl Fn(&Action) -> bool) -> usize {
        self.actions.iter().filter(|action| of(action)).count()
    }

    fn acquires(&self) -> usize {
        self.count(|action| matches!(action, Action::Acquire { .. }))
    }

    fn releases(&self) -> usize {
        self.count(|action| matches!(action, Action::Release { .. }))
    }

    fn view(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.node.snapshot_into(&mut snapshot, at(self.now));
        snapshot
    }

    fn group(&self) -> (GroupState, Option<Reason>) {
        let group = self.view().groups[0];
        (group.state, group.reason)
    }
}

/// A pair in which this node serves.
fn serving(config: &Config) -> Lab {
    let mut lab = Lab::pair(config);
    assert_eq!(lab.answer(Ok(())), 1);
    assert_eq!(lab.group(), (GroupState::Serving, None));
    lab
}

fn second_of_two() -> Config {
    let mut config = test_config(2);
    config.groups[0].prefer = vec![id(1), id(0)];
    config.quorum.policy = Policy::TwoNode(TieBreak::Always);
    config
}

#[test]
fn a_node_alone_in_its_cluster_just_serves() {
    let mut lab = Lab::new(&test_config(1));
    assert_eq!(lab.node.poll_timeout(), START);
    lab.round(0);
    assert_eq!(lab.acquires(), 1);
    assert_eq!(lab.answer(Ok(())), 1);
    let view = lab.view();
    assert!(view.quorum);
    assert_eq!((view.groups[0].state, view.groups[0].owner), (GroupState::Serving, Some(id(0))));
}

#[test]
fn nothing_is_taken_before_it_is_known_who_is_there() {
    let mut config = test_config(2);
    config.quorum.policy = Policy::TwoNode(TieBreak::Always);
    let mut lab = Lab::new(&config);
    lab.run(1995, &[]);
    assert_eq!((lab.acquires(), lab.group()), (0, (GroupState::Stopped, Some(Reason::Joining))));
    assert_eq!(lab.node.outgoing().state, NodeState::Joining);
    lab.run(2005, &[]);
    assert_eq!(lab.acquires(), 1);
    assert_eq!(lab.node.outgoing().state, NodeState::Up);
    assert_eq!(lab.view().nodes[1].state, PeerState::Dead);
}

#[test]
fn the_first_of_prefer_takes_the_group_and_claims_it_at_once() {
    let mut lab = Lab::pair(&test_config(2));
    let order: Vec<_> = lab
        .actions
        .iter()
        .filter(|action| matches!(action, Action::Acquire { .. } | Action::Send { .. }))
        .collect();
    assert!(matches!(order[..], [Action::Acquire { .. }, Action::Send { .. }]), "{order:?}");
    let claim = lab.node.outgoing().claim_of(group()).copied().unwrap();
    assert!(claim.held() && lab.node.outgoing().has_claims);
    let wall_ms = 1_700_000_000_000 + at(1).0 / 1_000_000;
    assert_eq!(claim.epoch, wall_ms << 8);
    assert_eq!(lab.group().0, GroupState::Starting);
    lab.answer(Ok(()));
    assert_eq!(lab.group().0, GroupState::Serving);
}

#[test]
fn a_peer_that_serves_keeps_the_group() {
    let mut lab = Lab::new(&test_config(2));
    lab.claims(1, Claim { epoch: 5 << 8 | 1, candidate: 1, flags: Claim::HELD });
    lab.hear(1);
    lab.round(1);
    lab.run(500, &[1]);
    assert_eq!((lab.acquires(), lab.group().1), (0, Some(Reason::HeldElsewhere)));
    assert_eq!(lab.view().groups[0].owner, Some(id(1)));
}

#[test]
fn a_dead_holder_is_replaced_at_a_higher_epoch() {
    let mut lab = Lab::new(&second_of_two());
    let far = (1_800_000_000_000_u64 << 8) | 1;
    lab.claims(1, Claim { epoch: far, candidate: 1, flags: Claim::HELD });
    lab.hear(1);
    lab.round(1);
    lab.run(46, &[]);
    lab.round(50);
    assert_eq!(lab.acquires(), 0);
    let deadline = lab.node.peer_deadline(id(1)).unwrap();
    assert_eq!(deadline, Instant(at(50).0 + 1), "stamped at 0");
    assert!(lab.node.poll_timeout() <= deadline);
    lab.round(51);
    assert_eq!(lab.acquires(), 1);
    assert_eq!(lab.node.outgoing().claims[0].epoch, ((far >> 8) + 1) << 8);
}

#[test]
fn a_timeout_without_a_fresh_reading_judges_nobody() {
    let mut lab = Lab::pair(&second_of_two());
    lab.node.handle_timeout(at(1000));
    lab.drain();
    assert_eq!((lab.view().nodes[1].state, lab.acquires()), (PeerState::Up, 0));
    let again = lab.node.poll_timeout();
    assert!(again > at(1000) && again <= at(1001), "asks for a reading soon, and does not spin");
    assert_eq!(
        lab.count(|action| matches!(action, Action::Transition(t) if matches!(t.what, Change::Late { .. }))),
        1
    );
    lab.round(1001);
    assert_eq!((lab.view().nodes[1].state, lab.acquires()), (PeerState::Dead, 1));
}

#[test]
fn a_leaving_holder_is_replaced_without_waiting() {
    let mut lab = Lab::new(&second_of_two());
    lab.claims(1, Claim { epoch: 5 << 8 | 1, candidate: 1, flags: Claim::HELD });
    lab.hear(1);
    lab.round(1);
    lab.claims(1, Claim::default());
    lab.slots[1].beat.state = NodeState::Leaving;
    lab.hear(1);
    lab.round(2);
    assert_eq!((lab.acquires(), lab.view().nodes[1].state), (1, PeerState::Leaving));
}

#[test]
fn an_unknown_table_is_waited_for() {
    let mut lab = Lab::new(&test_config(2));
    lab.slots[1].beat.has_claims = false;
    lab.hear(1);
    lab.round(1);
    assert_eq!((lab.acquires(), lab.group().1), (0, Some(Reason::TableUnknown)));
    lab.slots[1].beat.has_claims = true;
    lab.round(5);
    assert_eq!(lab.acquires(), 0, "the same stamp says nothing new");
    lab.hear(1);
    lab.round(10);
    assert_eq!(lab.acquires(), 1);
}

#[test]
fn a_minority_lets_go_and_takes_nothing() {
    let mut lab = Lab::new(&test_config(3));
    lab.hear(1);
    lab.hear(2);
    lab.round(1);
    assert_eq!(lab.answer(Ok(())), 1);
    lab.run(500, &[2]);
    assert_eq!((lab.group().0, lab.view().quorum), (GroupState::Serving, true));
    lab.run(600, &[]);
    assert_eq!((lab.releases(), lab.group()), (1, (GroupState::Stopping, Some(Reason::NoQuorum))));
    assert!(lab.node.outgoing().claims[0].held(), "claimed until it is gone");
    lab.answer(Ok(()));
    assert_eq!(lab.group(), (GroupState::Stopped, Some(Reason::NoQuorum)));
    assert!(!lab.node.outgoing().claims[0].is_some());
    lab.run(3000, &[]);
    assert_eq!(lab.acquires(), 0);
    lab.run(3005, &[1]);
    assert_eq!((lab.view().quorum, lab.group().1), (true, Some(Reason::Joining)), "who else is there?");
    lab.run(3040, &[1]);
    assert_eq!(lab.acquires(), 0);
    lab.run(3060, &[1]);
    assert_eq!(lab.acquires(), 1);
}

#[test]
fn a_node_back_from_a_minority_takes_nothing_from_a_holder_that_it_hears_second() {
    let mut lab = Lab::new(&test_config(3));
    lab.run(2100, &[]);
    assert_eq!((lab.view().quorum, lab.acquires()), (false, 0));
    lab.run(2110, &[2]);
    assert!(lab.view().quorum);
    lab.claims(1, Claim { epoch: 5 << 8 | 1, candidate: 1, flags: Claim::HELD });
    lab.run(2500, &[1, 2]);
    assert_eq!((lab.acquires(), lab.group().1), (0, Some(Reason::HeldElsewhere)));

    // Everybody heard: nothing to wait for.
    let mut lab = Lab::new(&test_config(3));
    lab.run(2100, &[]);
    lab.run(2105, &[1, 2]);
    assert_eq!(lab.acquires(), 1);
}

#[test]
fn without_its_tie_break_one_of_two_keeps_but_does_not_take() {
    for tie_break in [TieBreak::Fence, TieBreak::Ping] {
        let mut config = second_of_two();
        config.quorum.policy = Policy::TwoNode(tie_break);
        let mut lab = Lab::pair(&config);
        lab.run(200, &[]);
        assert_eq!((lab.acquires(), lab.group().1), (0, Some(Reason::TieBreak)));
        config.groups[0].prefer.reverse();
        let mut lab = serving(&config);
        lab.run(200, &[]);
        assert_eq!(lab.view().nodes[1].state, PeerState::Dead);
        assert_eq!((lab.releases(), lab.group().0), (0, GroupState::Serving));
    }
}

#[test]
fn of_two_holders_the_higher_epoch_stays_and_announces_again() {
    let mut lab = serving(&test_config(2));
    let mine = lab.node.outgoing().claims[0].epoch;
    lab.claims(1, Claim { epoch: mine - 255, candidate: 1, flags: Claim::HELD });
    lab.run(50, &[1]);
    assert_eq!((lab.releases(), lab.group().0), (0, GroupState::Serving));
    let announces = |lab: &Lab| lab.count(|action| *action == Action::Announce { resource: FIRST });
    assert_eq!(announces(&lab), 0);
    lab.claims(1, Claim::default());
    lab.run(100, &[1]);
    assert_eq!(announces(&lab), 1);
    lab.claims(1, Claim { epoch: mine + 1, candidate: 1, flags: Claim::HELD });
    lab.run(105, &[1]);
    assert_eq!((lab.releases(), lab.group()), (1, (GroupState::Stopping, Some(Reason::Rival))));
}

#[test]
fn a_group_with_failback_is_asked_for_and_handed_over() {
    let mut config = test_config(2);
    config.groups[0].auto_failback = true;
    let mut taker = Lab::new(&config);
    taker.claims(1, Claim { epoch: 5 << 8 | 1, candidate: 1, flags: Claim::HELD });
    taker.hear(1);
    taker.round(1);
    assert_eq!((taker.acquires(), taker.group().1), (0, Some(Reason::Asking)));
    assert_eq!(taker.node.outgoing().claims[0].flags, Claim::WANT);
    taker.claims(1, Claim::default());
    taker.run(10, &[1]);
    assert_eq!(taker.acquires(), 1);
    assert_eq!(taker.node.outgoing().claims[0].flags, Claim::HELD);

    config.groups[0].prefer.reverse();
    let mut holder = Lab::new(&config);
    holder.run(2100, &[]);
    assert_eq!(holder.acquires(), 0, "a minority");
    holder.slots[1].beat.state = NodeState::Joining;
    holder.run(2300, &[1]);
    assert_eq!(holder.answer(Ok(())), 1, "a joining peer is not waited for long");
    holder.slots[1].beat.state = NodeState::Up;
    holder.run(2400, &[1]);
    assert_eq!(holder.releases(), 0, "it has not asked");
    holder.claims(1, Claim { epoch: 0, candidate: 1, flags: Claim::WANT });
    holder.run(2405, &[1]);
    assert_eq!((holder.releases(), holder.group().1), (1, Some(Reason::Failback)));
}

#[test]
fn a_group_that_cannot_be_acquired_is_left_to_the_next() {
    let mut lab = Lab::pair(&test_config(2));
    let mut failures = 0;
    while lab.group().0 == GroupState::Starting {
        failures += lab.answer(Err(Failure::NoInterface));
        lab.run(lab.now + 5, &[1]);
    }
    assert_eq!(failures, 3);
    assert_eq!(lab.answer(Ok(())), 1, "what may be there is released");
    assert_eq!(lab.group(), (GroupState::Failed, Some(Reason::Failed)));
    let claim = lab.node.outgoing().claims[0];
    assert_eq!((claim.candidate, claim.flags), (1, 0), "the vote is for the next");
    lab.run(9000, &[1]);
    assert_eq!(lab.acquires(), 0);
    lab.run(11_000, &[1]);
    assert_eq!(lab.acquires(), 1);

    let mut next = Lab::new(&second_of_two());
    next.hear(1);
    next.round(1);
    assert_eq!(next.group().1, Some(Reason::OtherPreferred));
    next.claims(1, Claim { epoch: 9 << 8 | 1, candidate: 0, flags: 0 });
    next.run(10, &[1]);
    assert_eq!(next.acquires(), 1);
}

#[test]
fn a_release_that_fails_stops_the_watchdog_until_it_succeeds() {
    let mut lab = serving(&test_config(2));
    lab.run(100, &[1]);
    let pets = |lab: &Lab| lab.count(|action| *action == Action::PetWatchdog);
    assert_eq!(pets(&lab), 10);
    lab.feed(Event::Operator(Operator::Leave));
    lab.run(105, &[1]);
    assert_eq!(lab.answer(Err(Failure::TimedOut)), 1);
    lab.actions.clear();
    lab.run(200, &[1]);
    assert_eq!((pets(&lab), lab.group().0), (0, GroupState::Failed));
    assert!(lab.node.outgoing().claims[0].held());
    assert!(lab.answer(Ok(())) >= 1);
    lab.run(210, &[1]);
    assert!(pets(&lab) >= 1);
}

#[test]
fn leaving_releases_then_says_so_then_ends() {
    let mut lab = serving(&test_config(2));
    lab.feed(Event::Operator(Operator::Leave));
    lab.round(10);
    assert_eq!((lab.releases(), lab.node.outgoing().state), (1, NodeState::Standby));
    lab.run(100, &[1]);
    let finished = |lab: &Lab| lab.count(|action| *action == Action::Finished);
    assert_eq!(finished(&lab), 0, "nothing is released yet");
    lab.answer(Ok(()));
    lab.run(105, &[1]);
    assert_eq!(lab.node.outgoing().state, NodeState::Leaving);
    assert!(!lab.node.outgoing().claims[0].is_some());
    lab.run(150, &[1]);
    let sends = lab.count(|action| matches!(action, Action::Send { .. }));
    assert_eq!((sends, finished(&lab)), (usize::from(LEAVING_SENDS), 1));
    assert_eq!(lab.node.poll_timeout(), Instant::NEVER);
}

#[test]
fn leaving_does_not_wait_for_ever_for_a_release() {
    let mut lab = serving(&test_config(2));
    lab.feed(Event::Operator(Operator::Leave));
    let bound = u64::try_from(LEAVE_MAX.as_millis()).unwrap();
    lab.run(bound - 10, &[1]);
    assert_eq!(lab.node.outgoing().state, NodeState::Standby);
    lab.run(bound + 100, &[1]);
    assert_eq!(lab.count(|action| *action == Action::Finished), 1);
}

#[test]
fn a_vanished_address_is_put_back_and_a_stray_one_removed() {
    let mut lab = serving(&test_config(2));
    lab.feed(Event::Vanished { resource: FIRST });
    assert_eq!(lab.acquires(), 1);
    lab.answer(Ok(()));
    assert_eq!(lab.group().0, GroupState::Serving);

    let mut lab = Lab::pair(&second_of_two());
    lab.feed(Event::Found { resource: FIRST });
    assert_eq!(lab.releases(), 1);
    lab.round(5);
    assert_eq!(lab.group().0, GroupState::Stopping);
    assert!(!lab.node.outgoing().claims[0].is_some());
    lab.answer(Ok(()));
    assert_eq!(lab.group().0, GroupState::Stopped);
}

#[test]
fn an_early_timeout_does_nothing() {
    let mut lab = serving(&test_config(2));
    let due = lab.node.poll_timeout();
    let seq = lab.node.outgoing().seq;
    lab.node.handle_timeout(Instant(due.0 - 1));
    assert_eq!(lab.node.poll_action(), None);
    assert_eq!((lab.node.poll_timeout(), lab.node.outgoing().seq), (due, seq));
    lab.node.handle_timeout(due);
    assert!(lab.node.poll_action().is_some());
}

#[test]
fn an_incarnation_that_went_back_is_noticed() {
    let mut lab = Lab::pair(&test_config(2));
    assert_eq!(lab.node.outlived_by(), None);
    lab.hear(1);
    lab.slots[1].beat.acks[0].incarnation = 500;
    lab.round(10);
    assert_eq!(lab.node.outlived_by(), Some(501));
}

/// A generation that went back by one start gives the number of the last life again: its heartbeats, counted from the
/// beginning, would be taken for replays.
#[test]
fn a_life_that_bears_an_earlier_ones_number_is_noticed() {
    let mut lab = Lab::pair(&test_config(2));
    let (own, sent) = (lab.node.outgoing().incarnation, lab.node.outgoing().seq);
    lab.hear(1);
    lab.slots[1].beat.acks[0].seq = sent;
    lab.round(10);
    assert_eq!(lab.node.outlived_by(), None);
    lab.hear(1);
    assert_eq!(lab.slots[1].beat.acks[0].incarnation, own);
    lab.slots[1].beat.acks[0].seq = lab.node.outgoing().seq + 1;
    lab.round(20);
    assert_eq!(lab.node.outlived_by(), Some(own + 1));
}

#[test]
fn time_that_goes_back_is_taken_as_the_last() {
    let mut lab = serving(&test_config(2));
    lab.round(100);
    lab.node.handle_timeout(START);
    assert!(lab.node.poll_timeout() > at(100));
    assert!(lab.view().at >= at(100));
}
