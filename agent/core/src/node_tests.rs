//! Tests of `node`: named behaviours of one node, round by round.

use std::vec;
use std::vec::Vec;

use agent_common::{Ack, Claim, GroupId, NodeId, NodeState};

use super::Node;
use crate::action::{Action, Change, ResourceRef};
use crate::config::{Config, GateKind, Policy, TieBreak};
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
    /// Whether the peers vote for what this node asks.
    votes: bool,
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
        Self {
            node: Node::new(config, START),
            slots: slots.collect(),
            now: 0,
            actions: Vec::new(),
            votes: true,
        }
    }

    /// A pair of which the peer has been heard for a while.
    fn pair(config: &Config) -> Self {
        let mut lab = Self::new(config);
        lab.run(30, &[1]);
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
        slot.beat.acks[0] =
            Ack { incarnation, seq: self.node.outgoing().seq, table: self.node.outgoing().votes_version };
        // It votes for this node's ask, unless it has a claim of its own.
        let mine = self.node.outgoing().claims[0];
        let theirs = &mut slot.beat.claims[0];
        let asks = mine.epoch != 0 && mine.candidate == 0;
        let vote = Claim { epoch: mine.epoch, candidate: 0, flags: 0 };
        if self.votes && asks && (theirs.epoch == 0 || theirs.candidate != peer) && theirs.epoch != vote.epoch
        {
            *theirs = vote;
            slot.beat.votes_version += 1;
        }
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
                | Action::Gate { .. }
                | Action::SelfFence { .. }
                | Action::Fence { .. }
                | Action::Answer { .. }
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

/// A pair whose peer has held the group from the beginning.
fn held_by_peer(config: &Config) -> Lab {
    let mut lab = Lab::new(config);
    lab.claims(1, Claim { epoch: 5 << 8 | 1, candidate: 1, flags: Claim::HELD });
    lab.run(30, &[1]);
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
    lab.round(10);
    assert_eq!(lab.acquires(), 1, "with its own first heartbeat");
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
    let mut lab = Lab::new(&test_config(2));
    let mut asked = None;
    while lab.acquires() == 0 && lab.now < 100 {
        lab.actions.clear();
        lab.hear(1);
        lab.round(lab.now + 5);
        asked = asked.or(lab.node.outgoing().claim_of(group()).map(|claim| (lab.now, *claim)));
    }
    let order: Vec<_> = lab
        .actions
        .iter()
        .filter(|action| matches!(action, Action::Gate { .. } | Action::Acquire { .. } | Action::Send { .. }))
        .collect();
    assert!(
        matches!(order[..], [Action::Gate { .. }, Action::Acquire { .. }, Action::Send { .. }]),
        "{order:?}"
    );
    let (asked_at, ask) = asked.unwrap();
    assert_eq!((ask.epoch, ask.flags), ((1_700_000_000_000 + at(asked_at).0 / 1_000_000) << 8, 0));
    let claim = lab.node.outgoing().claim_of(group()).copied().unwrap();
    assert!(claim.held() && lab.node.outgoing().has_claims && claim.epoch == ask.epoch);
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
    assert_eq!(lab.acquires(), 1, "nobody comes before this node any more: no wait");
    assert_eq!(lab.node.outgoing().claims[0].epoch, ((far >> 8) + 1) << 8);
}

#[test]
fn a_timeout_without_a_fresh_reading_judges_nobody() {
    let mut lab = held_by_peer(&second_of_two());
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
    lab.round(1011);
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
    lab.run(40, &[1]);
    assert_eq!((lab.acquires(), lab.group().1), (0, Some(Reason::TableUnknown)));
    assert_eq!(lab.node.outgoing().claims[0], Claim::default(), "not even asked for");
    lab.slots[1].beat.has_claims = true;
    lab.round(45);
    assert_eq!(lab.node.outgoing().claims[0], Claim::default(), "the same stamp says nothing new");
    lab.run(70, &[1]);
    assert_eq!(lab.acquires(), 1);
}

#[test]
fn a_minority_loses_its_lease_and_takes_nothing() {
    let mut lab = Lab::new(&test_config(3));
    lab.run(30, &[1, 2]);
    assert_eq!(lab.answer(Ok(())), 1);
    lab.run(500, &[2]);
    assert_eq!((lab.group().0, lab.view().quorum), (GroupState::Serving, true));
    assert!(lab.view().groups[0].lease.is_some());
    lab.actions.clear();
    lab.run(555, &[]);
    let shut = |lab: &Lab| lab.count(|action| matches!(action, Action::Gate { expiry: Instant::ZERO, .. }));
    assert_eq!((shut(&lab), lab.group().1), (1, Some(Reason::LeaseLost)));
    assert!(!lab.node.outgoing().claims[0].held() && lab.node.outgoing().claims[0].is_some());
    assert_eq!(lab.releases(), 0, "a late ack may still come");
    lab.run(620, &[]);
    assert_eq!(lab.releases(), 1);
    assert!(!lab.node.outgoing().claims[0].is_some());
    lab.answer(Ok(()));
    assert_eq!(lab.group(), (GroupState::Stopped, Some(Reason::NoQuorum)));
    lab.run(3000, &[]);
    assert_eq!((lab.acquires(), lab.node.outgoing().claims[0]), (0, Claim::default()));
    lab.run(3100, &[1]);
    assert_eq!(lab.acquires(), 1);
}

#[test]
fn without_its_tie_break_one_of_two_does_not_take() {
    for tie_break in [TieBreak::Fence, TieBreak::Ping] {
        let mut config = second_of_two();
        config.quorum.policy = Policy::TwoNode(tie_break);
        let mut lab = held_by_peer(&config);
        lab.run(200, &[]);
        assert_eq!((lab.acquires(), lab.group().1), (0, Some(Reason::TieBreak)));
        let fences = |lab: &Lab| lab.count(|action| *action == Action::Fence { peer: id(1) });
        assert_eq!(fences(&lab), usize::from(tie_break == TieBreak::Fence));
        match tie_break {
            TieBreak::Fence => {
                lab.feed(Event::Fenced { peer: id(1), done: false });
                lab.run(1190, &[]);
                assert_eq!((fences(&lab), lab.acquires()), (1, 0), "after a pause");
                lab.run(1300, &[]);
                assert_eq!(fences(&lab), 2);
                lab.feed(Event::Fenced { peer: id(1), done: true });
            }
            TieBreak::Ping => lab.feed(Event::Ping { reached: Some(at(195)) }),
            TieBreak::Always => {}
        }
        lab.run(lab.now + 10, &[]);
        assert_eq!(lab.acquires(), 1, "{tie_break:?}");
    }
}

#[test]
fn a_holder_of_two_keeps_what_it_holds_and_fences_nobody() {
    let mut config = second_of_two();
    config.groups[0].prefer.reverse();
    config.quorum.policy = Policy::TwoNode(TieBreak::Fence);
    let mut lab = serving(&config);
    lab.run(200, &[]);
    assert_eq!(lab.view().nodes[1].state, PeerState::Dead);
    assert_eq!((lab.releases(), lab.group().0), (0, GroupState::Serving));
    assert_eq!(lab.count(|action| matches!(action, Action::Fence { .. })), 0);

    config.quorum.policy = Policy::TwoNode(TieBreak::Ping);
    let mut lab = serving(&config);
    lab.run(100, &[1]);
    assert_eq!(lab.group().1, None, "the peer shows that the network is there");
    lab.run(300, &[]);
    assert_eq!((lab.releases(), lab.group().1), (1, Some(Reason::LeaseLost)), "neither peer nor ping");
    lab.answer(Ok(()));
    lab.run(310, &[]);
    assert_eq!(lab.group(), (GroupState::Stopped, Some(Reason::TieBreak)));
}

#[test]
fn of_two_holders_the_higher_epoch_stays_and_announces_again() {
    let mut config = second_of_two();
    config.groups[0].prefer.reverse();
    let mut lab = serving(&config);
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
    lab.actions.clear();
    lab.run(105, &[1]);
    assert_eq!((lab.releases(), lab.group()), (1, (GroupState::Stopping, Some(Reason::Rival))));
    let order = |of: fn(&Action) -> bool| lab.actions.iter().position(of);
    let shut = order(|action| matches!(action, Action::Gate { expiry: Instant::ZERO, .. })).unwrap();
    assert!(shut < order(|action| matches!(action, Action::Send { .. })).unwrap(), "gate first");
}

#[test]
fn a_group_with_failback_is_wanted_and_handed_over() {
    let mut config = test_config(2);
    config.groups[0].auto_failback = true;
    let mut taker = held_by_peer(&config);
    assert_eq!((taker.acquires(), taker.group().1), (0, Some(Reason::Asking)));
    assert_eq!(taker.node.outgoing().claims[0].flags, Claim::WANT);
    let held = taker.slots[1].beat.claims[0];
    let row = taker.node.outgoing().claims[0];
    assert_eq!((row.epoch, row.candidate), (held.epoch, 1), "its vote is the holder's meanwhile");
    taker.claims(1, Claim::default());
    let released_at = taker.now;
    taker.run(released_at + 15, &[1]);
    assert_eq!(taker.acquires(), 1, "it asks at once, and the peer votes");
    assert_eq!(taker.node.outgoing().claims[0].flags, Claim::HELD);

    config.groups[0].prefer.reverse();
    let mut holder = Lab::new(&config);
    holder.run(2100, &[]);
    assert_eq!(holder.acquires(), 0, "a minority");
    holder.slots[1].beat.state = NodeState::Joining;
    holder.run(2140, &[1]);
    assert_eq!(holder.acquires(), 0, "a joining peer that is more preferred is waited for");
    holder.run(2300, &[1]);
    assert_eq!(holder.answer(Ok(())), 1, "but not for long");
    holder.slots[1].beat.state = NodeState::Up;
    holder.run(2400, &[1]);
    assert_eq!(holder.releases(), 0, "it has not asked");
    let mut vote = holder.slots[1].beat.claims[0];
    vote.flags |= Claim::WANT;
    holder.claims(1, vote);
    holder.run(2405, &[1]);
    assert_eq!((holder.releases(), holder.group().1), (1, Some(Reason::Failback)));
}

#[test]
fn a_group_that_cannot_be_acquired_is_left_to_the_next() {
    let mut lab = Lab::pair(&test_config(2));
    let mut failures = 0;
    while lab.group().0 == GroupState::Starting {
        assert!(lab.node.outgoing().claims[0].held());
        failures += lab.answer(Err(Failure::NoInterface));
        lab.run(lab.now + 5, &[1]);
    }
    assert_eq!(failures, 3);
    assert_eq!(lab.answer(Ok(())), 1, "what may be there is released");
    assert_eq!(lab.group(), (GroupState::Failed, Some(Reason::Failed)));
    assert_eq!(lab.node.outgoing().claims[0], Claim::default(), "it asks no more");
    lab.run(9000, &[1]);
    assert_eq!(lab.acquires(), 0);
    lab.run(11_000, &[1]);
    assert_eq!(lab.acquires(), 1);
}

#[test]
fn a_less_preferred_node_takes_what_nobody_else_asks_for() {
    let mut lab = Lab::new(&second_of_two());
    lab.run(20, &[1]);
    assert_eq!((lab.acquires(), lab.group().1), (0, Some(Reason::OtherPreferred)));
    lab.run(60, &[1]);
    assert_eq!(lab.acquires(), 1, "after its rank in keepalives");
}

#[test]
fn a_release_that_fails_stops_the_watchdog_until_it_succeeds() {
    let mut config = test_config(2);
    config.gate = GateKind::Userspace;
    let mut lab = serving(&config);
    let pets = |lab: &Lab| lab.count(|action| *action == Action::PetWatchdog);
    lab.actions.clear();
    lab.run(lab.now + 100, &[1]);
    assert_eq!(pets(&lab), 10);
    lab.actions.clear();
    lab.feed(Event::Operator { ticket: 0, what: Operator::Leave });
    lab.run(lab.now + 5, &[1]);
    assert_eq!(lab.count(|action| matches!(action, Action::Gate { expiry: Instant::ZERO, .. })), 1);
    assert_eq!(lab.answer(Err(Failure::TimedOut)), 1);
    assert_eq!(lab.count(|action| *action == Action::SelfFence { group: group() }), 1, "once");
    lab.actions.clear();
    lab.run(200, &[1]);
    assert_eq!((pets(&lab), lab.group().0), (0, GroupState::Failed));
    assert!(lab.node.outgoing().claims[0].held());
    assert!(lab.answer(Ok(())) >= 1);
    lab.run(210, &[1]);
    assert!(pets(&lab) >= 1);
}

#[test]
fn the_last_words_go_on_slow_links_too() {
    let mut config = test_config(2);
    let slow = crate::config::LinkConfig {
        id: agent_common::LinkId::new(1).unwrap(),
        keepalive: core::time::Duration::from_secs(1),
    };
    config.links.push(slow);
    let mut lab = serving(&config);
    lab.feed(Event::Operator { ticket: 0, what: Operator::Leave });
    lab.round(lab.now + 10);
    lab.answer(Ok(()));
    lab.actions.clear();
    lab.run(150, &[1]);
    let sends: Vec<u8> = lab
        .actions
        .iter()
        .filter_map(|action| if let Action::Send { links } = action { Some(*links) } else { None })
        .collect();
    assert_eq!(sends.len(), usize::from(LEAVING_SENDS));
    assert!(sends.iter().all(|links| *links == 0b11), "{sends:?}");
}

#[test]
fn leaving_releases_then_says_so_then_ends() {
    let mut lab = serving(&test_config(2));
    lab.actions.clear();
    lab.feed(Event::Operator { ticket: 9, what: Operator::Leave });
    lab.round(lab.now + 10);
    assert_eq!((lab.releases(), lab.node.outgoing().state), (1, NodeState::Standby));
    assert!(!lab.node.outgoing().claims[0].is_some(), "the gate is shut: the next may take it");
    lab.run(100, &[1]);
    let finished = |lab: &Lab| lab.count(|action| *action == Action::Finished);
    assert_eq!(finished(&lab), 0, "nothing is released yet");
    lab.answer(Ok(()));
    lab.actions.clear();
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
    lab.feed(Event::Operator { ticket: 0, what: Operator::Leave });
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

    let mut lab = held_by_peer(&second_of_two());
    lab.feed(Event::Found { resource: FIRST });
    assert_eq!(lab.releases(), 1);
    lab.round(lab.now + 5);
    assert_eq!(lab.group().0, GroupState::Stopping);
    assert_eq!(lab.node.outgoing().claims[0].candidate, 1, "a stray address is no claim");
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
    lab.slots[1].beat.acks[0].seq += 1;
    lab.round(40);
    assert_eq!(lab.node.outlived_by(), Some(101), "a heartbeat that this process has not sent");
    lab.hear(1);
    lab.slots[1].beat.acks[0].incarnation = 500;
    lab.round(50);
    assert_eq!(lab.node.outlived_by(), Some(501));
}

#[test]
fn time_that_goes_back_is_taken_as_the_last() {
    let mut lab = serving(&test_config(2));
    lab.round(100);
    lab.node.handle_timeout(START);
    assert!(lab.node.poll_timeout() > at(100));
    assert!(lab.view().at >= at(100));
}
