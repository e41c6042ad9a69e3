//! Random histories against one node, with the invariants checked after each step: I2 (not dead while heard), I3 (dead in
//! time), one effect at a time, no spinning, the same actions for the same events, no panic whatever is fed.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use agent_common::{Ack, Claim, GroupId, LinkId, NodeState};
use agent_core::config::GateKind;
use agent_core::{
    Action, Change, Event, Failure, Instant, LinkReading, Node, Operator, PeerState, Reading, ResourceRef,
    Snapshot,
};
use common::{config, id};
use proptest::prelude::*;

const NODES: u8 = 3;
const GROUPS: u8 = 2;
const RESOURCES: u8 = 2;
const INITDEAD: Duration = Duration::from_millis(500);
const KEEPALIVE: Duration = Duration::from_millis(10);
const START: Instant = Instant(1_000_000_000);

/// What can happen.
#[derive(Clone, Debug)]
enum Op {
    /// A frame of a peer arrives in its slot.
    Frame {
        peer: u8,
        counts: bool,
        state: u8,
        deadtime_ms: u16,
        link: u8,
        claim: Option<(u8, u8, u16)>,
        table: bool,
    },
    /// A peer starts anew.
    Restart { peer: u8 },
    /// Time passes, and nothing else.
    Wait { us: u32 },
    /// A whole round: every slot is read, then the timeout.
    Round,
    /// A timeout without readings.
    Timeout,
    /// The oldest or newest effect ends.
    Answer { newest: bool, ok: bool },
    /// Somebody meddles with an address.
    Meddle { group: u8, index: u8, found: bool },
    /// A link comes or goes.
    Link { link: u8, up: bool },
    /// The operator wants the node to go.
    Leave,
    /// The operator wants something else.
    Order { ticket: u8, what: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let claim = proptest::option::of((0..GROUPS, 0..4_u8, 0..200_u16));
    let frame = (1..NODES, prop::bool::weighted(0.9), 1..5_u8, 20..800_u16, 0..2_u8, claim, any::<bool>());
    prop_oneof![
        20 => frame.prop_map(|(peer, counts, state, deadtime_ms, link, claim, table)| {
            Op::Frame { peer, counts, state: if state == 4 && deadtime_ms % 3 > 0 { 2 } else { state },
                deadtime_ms: if deadtime_ms > 100 { 50 } else { deadtime_ms }, link, claim, table }
        }),
        1 => (1..NODES).prop_map(|peer| Op::Restart { peer }),
        10 => (0..30_000_u32).prop_map(|us| Op::Wait { us }),
        2 => (0..900_000_u32).prop_map(|us| Op::Wait { us }),
        20 => Just(Op::Round),
        5 => Just(Op::Timeout),
        8 => (any::<bool>(), prop::bool::weighted(0.8)).prop_map(|(newest, ok)| Op::Answer { newest, ok }),
        2 => (0..GROUPS, 0..RESOURCES, any::<bool>())
            .prop_map(|(group, index, found)| Op::Meddle { group, index, found }),
        1 => (0..2_u8, any::<bool>()).prop_map(|(link, up)| Op::Link { link, up }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(ticket, what)| Op::Order { ticket, what }),
        1 => prop::bool::weighted(0.1).prop_map(|leave| if leave { Op::Leave } else { Op::Round }),
    ]
}

/// What the node knows of a peer, by the contract: newest counting stamp, and the deadtime announced with it.
#[derive(Clone, Copy)]
struct Known {
    counts: Option<Instant>,
    incarnation: u64,
    deadtime: Duration,
    read_at: Instant,
}

/// The node, a model of the world around it, and the log of what it did.
struct Lab {
    node: Node,
    now: Instant,
    slots: Vec<Reading>,
    known: Vec<Known>,
    /// Effects without an answer, with their numbers; at most one for each resource.
    outstanding: BTreeMap<ResourceRef, (bool, u32)>,
    /// Resources that were asked for and not yet released.
    may_be_here: BTreeMap<ResourceRef, bool>,
    seq: u64,
    finished: bool,
    gate: GateKind,
    /// Expiries as last written.
    gates: BTreeMap<GroupId, Instant>,
    log: Vec<Action>,
}

impl Lab {
    fn new(auto_failback: bool, gate: GateKind) -> Self {
        let mut config = config(NODES, GROUPS, RESOURCES, auto_failback);
        config.gate = gate;
        let slots = (0..NODES).map(|raw| {
            let mut slot = Reading::silent(id(raw), START);
            slot.beat.incarnation = 7;
            slot.beat.votes_version = 1;
            slot
        });
        let known = Known { counts: None, incarnation: 7, deadtime: INITDEAD, read_at: START };
        Self {
            node: Node::new(&config, START),
            now: START,
            slots: slots.collect(),
            known: vec![known; usize::from(NODES)],
            outstanding: BTreeMap::new(),
            may_be_here: BTreeMap::new(),
            seq: 0,
            finished: false,
            gate,
            gates: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Frame { peer, counts, state, deadtime_ms, link, claim, table } => {
                self.frame(peer, counts, state, deadtime_ms, link);
                let beat = &mut self.slots[usize::from(peer)].beat;
                if let Some((group, flags, epoch)) = claim {
                    let claim =
                        Claim { epoch: u64::from(epoch) << 8 | u64::from(peer), candidate: peer, flags };
                    beat.claims[usize::from(group)] = claim;
                    beat.votes_version += 1;
                }
                // Most of them vote for what this node asks for.
                for (row, ask) in beat.claims.iter_mut().zip(&self.node.outgoing().claims) {
                    let free = row.candidate != peer || row.epoch == 0;
                    if table && free && ask.epoch != 0 && ask.candidate == 0 && row.epoch != ask.epoch {
                        *row = Claim { epoch: ask.epoch, candidate: 0, flags: row.flags };
                        beat.votes_version += 1;
                    }
                }
                beat.has_claims = table;
            }
            Op::Restart { peer } => self.restart(peer),
            Op::Wait { us } => self.now = self.now.after(Duration::from_micros(u64::from(us))),
            Op::Round => self.round(),
            Op::Timeout => self.timeout(),
            Op::Answer { newest, ok } => self.answer(newest, ok),
            Op::Meddle { group, index, found } => {
                let resource = ResourceRef { group: GroupId::new(group).unwrap(), index };
                let is_under_way = self.outstanding.get(&resource).is_some_and(|(acquires, _)| *acquires);
                if !found && !is_under_way {
                    self.may_be_here.insert(resource, false);
                }
                self.feed(if found { Event::Found { resource } } else { Event::Vanished { resource } });
            }
            Op::Link { link, up } => {
                let link = LinkId::new(link).unwrap();
                self.feed(if up { Event::Carrier { link, up } } else { Event::SendFailed { link } });
            }
            Op::Order { ticket, what } => {
                let group = GroupId::new(what / 8 % 3);
                let group = group.filter(|group| group.raw() < 2);
                let what = match what % 8 {
                    0 | 1 => Operator::Standby(group),
                    2 | 3 => Operator::Takeover(group),
                    4 => Operator::Pause,
                    5 => Operator::Maintenance(true),
                    _ => Operator::Maintenance(false),
                };
                self.feed(Event::Operator { ticket: u32::from(ticket), what });
            }
            Op::Leave => self.feed(Event::Operator { ticket: 0, what: Operator::Leave }),
        }
    }

    fn frame(&mut self, peer: u8, counts: bool, state: u8, deadtime_ms: u16, link: u8) {
        let slot = &mut self.slots[usize::from(peer)];
        slot.heard = true;
        slot.heard_at = self.now;
        slot.accepted += 1;
        slot.beat.seq += 1;
        slot.beat.state = NodeState::from_raw(state).unwrap();
        slot.beat.deadtime_us = u32::from(deadtime_ms) * 1000;
        // Once acknowledged, every later frame of the life counts.
        if counts || slot.counts_at.is_some() {
            slot.counts_at = Some(self.now);
            slot.beat.acked.insert(id(0));
            slot.beat.acks[0] = Ack { incarnation: 100, seq: self.seq, table: 1 };
        }
        let seq = slot.beat.seq;
        let link = &mut slot.links[usize::from(link)];
        if link.frames == 0 {
            link.first_seq = seq;
        }
        *link = LinkReading { at: Some(self.now), seq, frames: link.frames + 1, ..*link };
    }

    fn restart(&mut self, peer: u8) {
        let slot = &mut self.slots[usize::from(peer)];
        let mut anew = Reading::silent(id(peer), self.now);
        anew.accepted = slot.accepted;
        anew.beat.incarnation = slot.beat.incarnation + 1;
        anew.beat.votes_version = 1;
        *slot = anew;
        // Its first frame is what shows it, and cannot have acknowledged anything.
        self.frame(peer, false, 1, 50, 0);
    }

    fn feed(&mut self, event: Event<'_>) {
        self.node.handle(event, self.now);
        self.drain();
    }

    fn round(&mut self) {
        let before = self.view();
        for peer in 1..usize::from(NODES) {
            self.slots[peer].read_at = self.now;
            let slot = self.slots[peer].clone();
            let known = &mut self.known[peer];
            known.read_at = self.now;
            if slot.heard && slot.beat.incarnation > known.incarnation {
                // The first sign of a life: the earlier one ended no earlier than that.
                known.incarnation = slot.beat.incarnation;
                if before.nodes[peer].state != PeerState::Dead {
                    known.counts = known.counts.max(known.counts.and(Some(slot.heard_at)));
                }
            }
            if slot.heard && slot.counts_at >= known.counts {
                known.counts = slot.counts_at;
                let deadtime = Duration::from_micros(u64::from(slot.beat.deadtime_us));
                known.deadtime = deadtime.min(INITDEAD);
            }
            self.feed(Event::Reading(&slot));
        }
        self.timeout();
        self.check_dead_in_time();
    }

    fn timeout(&mut self) {
        let due = self.node.poll_timeout();
        self.node.handle_timeout(self.now);
        let before = self.log.len();
        self.drain();
        if self.now < due {
            assert_eq!(self.log.len(), before, "an early timeout does nothing");
        }
        let next = self.node.poll_timeout();
        assert!(next > self.now, "would spin: {next:?} at {:?}", self.now);
        assert!(self.finished == (next == Instant::NEVER));
        assert!(self.finished || next <= self.now.after(KEEPALIVE), "a heartbeat would be missed");
        self.check_claims();
    }

    fn answer(&mut self, newest: bool, ok: bool) {
        let mut open: Vec<_> =
            self.outstanding.iter().map(|(at, effect)| (effect.1, *at, effect.0)).collect();
        open.sort();
        let pick = if newest { open.pop() } else { open.first().copied() };
        let Some((attempt, resource, acquires)) = pick else { return };
        self.outstanding.remove(&resource);
        let result = if ok { Ok(()) } else { Err(Failure::Refused(16)) };
        if !acquires && ok {
            self.may_be_here.insert(resource, false);
        }
        self.feed(if acquires {
            Event::Acquired { resource, attempt, result }
        } else {
            Event::Released { resource, attempt, result }
        });
    }

    fn drain(&mut self) {
        while let Some(action) = self.node.poll_action() {
            self.check_action(&action);
            self.log.push(action);
        }
    }

    fn check_action(&mut self, action: &Action) {
        assert!(!self.finished, "{action:?} after the end");
        match *action {
            Action::Send { links } => {
                let beat = self.node.outgoing();
                assert!(links != 0 && links <= 3);
                assert_eq!((beat.seq, beat.sent_ns), (self.seq + 1, self.now.0));
                self.seq = beat.seq;
            }
            Action::Acquire { resource, attempt } => {
                let open = self.outstanding.insert(resource, (true, attempt));
                assert_eq!(open, None, "an effect is under way already");
                self.may_be_here.insert(resource, true);
            }
            Action::Release { resource, attempt } => {
                // A release may overtake an acquisition, not another release.
                let open = self.outstanding.insert(resource, (false, attempt));
                assert!(open.is_none_or(|(acquires, _)| acquires));
            }
            Action::Transition(transition) => self.check_change(&transition.what),
            Action::Finished => self.finished = true,
            Action::Gate { group, expiry, .. } => {
                let last_sent = Instant(self.node.outgoing().sent_ns);
                assert!(expiry <= last_sent.max(self.now).after(INITDEAD), "beyond any deadtime");
                self.gates.insert(group, expiry);
            }
            Action::Announce { .. }
            | Action::SelfFence { .. }
            | Action::Fence { .. }
            | Action::Answer { .. }
            | Action::PetWatchdog => {}
        }
    }

    /// I2: who is called dead was silent for longer than its announced deadtime, by the newest reading.
    fn check_change(&self, change: &Change) {
        if let Change::Peer { peer, to: PeerState::Dead, .. } = change {
            let known = self.known[peer.index()];
            match known.counts {
                Some(at) => assert!(known.read_at > at.after(known.deadtime), "{peer:?} was heard"),
                None => assert!(known.read_at >= START.after(INITDEAD)),
            }
        }
    }

    /// I3: after a round, who was silent for longer than its announced deadtime is dead.
    fn check_dead_in_time(&self) {
        let snapshot = self.view();
        if self.finished {
            return; // Its verdicts have ended with it.
        }
        for peer in 1..usize::from(NODES) {
            let known = self.known[peer];
            let silent = known.counts.is_none_or(|at| self.now > at.after(known.deadtime));
            let state = snapshot.nodes[peer].state;
            let initial = self.now < START.after(INITDEAD);
            match state {
                PeerState::Dead => assert!(silent, "I2: {peer} is dead though heard"),
                PeerState::Unknown => assert!(initial && known.counts.is_none(), "I3: {peer} is unknown"),
                PeerState::Up | PeerState::Late | PeerState::Leaving => {
                    assert!(!silent, "I3: {peer} is {state:?}")
                }
            }
        }
    }

    /// What may be here is claimed, or behind a gate that is shut; and a gate that is open has a claim behind it.
    fn check_claims(&self) {
        for (resource, here) in &self.may_be_here {
            let claimed = self.node.outgoing().claims[resource.group.index()].held();
            let open = self.gates.get(&resource.group).is_none_or(|expiry| *expiry > self.now);
            let guarded = self.gate == GateKind::Kernel && !open;
            assert!(claimed || guarded || !here, "{resource:?} is here and not claimed");
        }
        for (group, expiry) in &self.gates {
            let claimed = self.node.outgoing().claims[group.index()].held();
            assert!(claimed || self.finished || *expiry <= self.now, "{group:?} is open and not claimed");
        }
    }

    fn view(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.node.snapshot_into(&mut snapshot, self.now);
        snapshot
    }
}

fn run(ops: &[Op], auto_failback: bool, gate: GateKind) -> Vec<Action> {
    let mut lab = Lab::new(auto_failback, gate);
    lab.round();
    ops.iter().for_each(|op| lab.step(op));
    lab.log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants(
        ops in prop::collection::vec(op(), 1..300),
        failback: bool,
        kernel: bool,
    ) {
        let gate = if kernel { GateKind::Kernel } else { GateKind::Userspace };
        let first = run(&ops, failback, gate);
        prop_assert!(first == run(&ops, failback, gate), "the same events gave other actions");
    }

    #[test]
    fn nothing_that_is_fed_panics(steps in prop::collection::vec(garbage(), 1..200)) {
        let mut node = Node::new(&config(NODES, GROUPS, RESOURCES, true), START);
        let mut snapshot = Snapshot::default();
        for (step, now) in &steps {
            match step {
                Garbage::Reading(reading) => node.handle(Event::Reading(reading), *now),
                Garbage::Event(event) => node.handle(*event, *now),
                Garbage::Timeout => node.handle_timeout(*now),
            }
            while node.poll_action().is_some() {}
            node.snapshot_into(&mut snapshot, *now);
        }
    }
}

/// Anything at any time.
#[derive(Clone, Debug)]
enum Garbage {
    Reading(Box<Reading>),
    Event(Event<'static>),
    Timeout,
}

fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), Just(START.0), any::<u64>(), START.0..START.0 + 2_000_000_000]
}

fn instant() -> impl Strategy<Value = Instant> {
    extreme().prop_map(Instant)
}

fn garbage() -> impl Strategy<Value = (Garbage, Instant)> {
    let times = (instant(), instant(), proptest::option::of(instant()), proptest::option::of(instant()));
    let numbers =
        (extreme(), extreme(), extreme(), extreme(), any::<u32>(), any::<u32>(), 1..5_u8, any::<bool>());
    let reading = (0..32_u8, times, numbers).prop_map(|(peer, times, numbers)| {
        let mut reading = Reading::silent(id(peer), times.0);
        (reading.heard_at, reading.counts_at, reading.links[0].at) = (times.1, times.2, times.3);
        let beat = &mut reading.beat;
        (beat.incarnation, beat.seq, beat.claims[0].epoch) = (numbers.0, numbers.1, numbers.2);
        (beat.deadtime_us, beat.votes_version) = (numbers.4, numbers.5);
        beat.state = NodeState::from_raw(numbers.6).unwrap();
        beat.claims[0].flags = numbers.4.to_le_bytes()[0];
        (beat.has_claims, reading.heard) = (numbers.7, true);
        beat.acked.insert(id(0));
        beat.acks[0] = Ack { incarnation: numbers.3, seq: numbers.3, table: numbers.5 };
        reading.links[0].frames = numbers.3;
        reading.links[0].seq = numbers.1;
        reading.links[0].first_seq = numbers.2;
        Garbage::Reading(Box::new(reading))
    });
    let resource = (0..64_u8, any::<u8>())
        .prop_map(|(group, index)| ResourceRef { group: GroupId::new(group % 3).unwrap(), index: index % 3 });
    let event = (resource, 0..6_u8, 0..8_u32, any::<bool>(), 0..8_u8).prop_map(
        |(resource, kind, attempt, ok, link)| {
            let result = if ok { Ok(()) } else { Err(Failure::NotPermitted) };
            let link = LinkId::new(link).unwrap();
            Garbage::Event(match kind {
                0 => Event::Acquired { resource, attempt, result },
                1 => Event::Released { resource, attempt, result },
                2 => Event::Vanished { resource },
                3 => Event::Found { resource },
                4 => Event::Carrier { link, up: ok },
                _ => Event::SendFailed { link },
            })
        },
    );
    (prop_oneof![4 => reading, 3 => event, 4 => Just(Garbage::Timeout)], instant())
}

/// The histories above reach what they are about: takeovers, deaths, returns, restarts, failures.
#[test]
fn the_histories_are_eventful() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(op(), 100..300);
    let mut seen = BTreeMap::new();
    for _ in 0..100 {
        let ops = strategy.new_tree(&mut runner).unwrap().current();
        for action in run(&ops, true, GateKind::Kernel) {
            let name = match action {
                Action::Acquire { .. } => "acquire",
                Action::Release { .. } => "release",
                Action::Announce { .. } => "announce",
                Action::Finished => "finished",
                Action::Transition(transition) => match transition.what {
                    Change::Peer { from: PeerState::Dead, to: PeerState::Up, .. } => "returned",
                    Change::Peer { to: PeerState::Dead, .. } => "dead",
                    Change::Peer { to: PeerState::Leaving, .. } => "leaving",
                    Change::Restarted { .. } => "restarted",
                    Change::Vanished { .. } => "vanished",
                    Change::Failed { .. } => "failed",
                    Change::Late { .. } => "late",
                    Change::Peer { .. }
                    | Change::Link { .. }
                    | Change::Group { .. }
                    | Change::Lease { .. }
                    | Change::Vote { .. }
                    | Change::Gate { .. }
                    | Change::Quorum { .. } => continue,
                },
                Action::Send { .. }
                | Action::Gate { .. }
                | Action::SelfFence { .. }
                | Action::Fence { .. }
                | Action::Answer { .. }
                | Action::PetWatchdog => continue,
            };
            *seen.entry(name).or_insert(0) += 1;
        }
    }
    for name in [
        "acquire",
        "release",
        "announce",
        "finished",
        "returned",
        "dead",
        "leaving",
        "restarted",
        "vanished",
        "failed",
        "late",
    ] {
        assert!(seen.get(name).is_some_and(|count| *count > 0), "no {name} in {seen:?}");
    }
}
