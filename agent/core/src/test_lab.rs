//! What tests of decisions share: node 0 of some, and what the others say, by hand.

use std::vec::Vec;

use agent_common::{Ack, Beat, Claim, GroupId, NodeId, NodeState};

use crate::action::{Action, Change};
use crate::answer::Answer;
use crate::config::Config;
use crate::event::{Event, Operator, Reading};
use crate::node::Node;
use crate::snapshot::{LeaseReason, Reason, Snapshot};
use crate::test_config;
use crate::time::Instant;

pub(crate) const START: Instant = Instant(1_000_000_000);
pub(crate) const HELD: u8 = Claim::HELD;
pub(crate) const WANT: u8 = Claim::WANT;
pub(crate) const GROUP: GroupId = GroupId::FIRST;

pub(crate) const fn at(ms: u64) -> Instant {
    Instant(START.0 + ms * 1_000_000)
}

pub(crate) fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

/// Node 0 of some, and what the others say, by hand.
pub(crate) struct Lab {
    pub(crate) node: Node,
    pub(crate) slots: Vec<Reading>,
    pub(crate) now: u64,
    pub(crate) actions: Vec<Action>,
}

impl Lab {
    pub(crate) fn new(config: &Config) -> Self {
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

    /// All peers are heard for 50 ms: nobody claims anything but this node.
    pub(crate) fn asking(config: &Config) -> Self {
        let mut lab = Self::new(config);
        let peers: Vec<u8> = (1..u8::try_from(config.nodes.len()).unwrap()).collect();
        lab.run(50, &peers);
        lab
    }

    /// Node 0 of three holds the group, with the votes of both.
    pub(crate) fn holding() -> Self {
        let mut lab = Self::asking(&test_config(3));
        let ask = lab.row();
        assert!(ask.epoch != 0 && ask.candidate == 0 && !ask.held());
        lab.claim(1, ask.epoch, 0, 0);
        lab.claim(2, ask.epoch, 0, 0);
        lab.run(55, &[1, 2]);
        assert!(lab.row().held());
        lab.answer();
        lab.run(100, &[1, 2]);
        lab
    }

    pub(crate) fn beat(&mut self, peer: u8) -> &mut Beat {
        &mut self.slots[usize::from(peer)].beat
    }

    pub(crate) fn claim(&mut self, peer: u8, epoch: u64, candidate: u8, flags: u8) {
        let beat = self.beat(peer);
        beat.claims[0] = Claim { epoch, candidate, flags };
        beat.votes_version += 1;
    }

    pub(crate) fn hear(&mut self, peer: u8) {
        let mine = self.node.outgoing();
        let ack = Ack { incarnation: mine.incarnation, seq: mine.seq, table: mine.votes_version };
        let now = at(self.now);
        let slot = &mut self.slots[usize::from(peer)];
        (slot.heard, slot.heard_at, slot.counts_at) = (true, now, Some(now));
        slot.beat.seq += 1;
        slot.beat.acked.insert(id(0));
        slot.beat.acks[0] = ack;
    }

    pub(crate) fn read(&mut self, peer: u8) {
        let place = usize::from(peer);
        self.slots[place].read_at = at(self.now);
        let slot = self.slots[place].clone();
        self.feed(Event::Reading(&slot));
    }

    pub(crate) fn feed(&mut self, event: Event<'_>) {
        self.node.handle(event, at(self.now));
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        while let Some(action) = self.node.poll_action() {
            self.actions.push(action);
        }
    }

    pub(crate) fn order(&mut self, ticket: u32, what: Operator) {
        self.feed(Event::Operator { ticket, what });
    }

    /// A round at `ms` in which those of `heard` have just sent.
    pub(crate) fn round(&mut self, ms: u64, heard: &[u8]) {
        self.now = ms;
        heard.iter().for_each(|peer| self.hear(*peer));
        (1..self.slots.len()).for_each(|place| self.read(u8::try_from(place).unwrap()));
        self.node.handle_timeout(at(ms));
        self.drain();
        assert!(self.node.poll_timeout() > at(ms), "would spin");
    }

    pub(crate) fn run(&mut self, ms: u64, heard: &[u8]) {
        while self.now < ms {
            self.round(self.now + 5, heard);
        }
    }

    /// Every effect succeeds.
    pub(crate) fn answer(&mut self) {
        for action in core::mem::take(&mut self.actions) {
            match action {
                Action::Acquire { resource, attempt } => {
                    self.feed(Event::Acquired { resource, attempt, result: Ok(()) });
                }
                Action::Release { resource, attempt } => {
                    self.feed(Event::Released { resource, attempt, result: Ok(()) });
                }
                Action::Gate { .. }
                | Action::Send { .. }
                | Action::Announce { .. }
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
    }

    /// The row of this node's table.
    pub(crate) fn row(&self) -> Claim {
        self.node.outgoing().claims[0]
    }

    /// The gate as last written.
    pub(crate) fn gate(&self) -> Option<(u64, Instant)> {
        let mut gate = None;
        for action in &self.actions {
            if let Action::Gate { epoch, expiry, .. } = action {
                gate = Some((*epoch, *expiry));
            }
        }
        gate
    }

    pub(crate) fn answers(&self) -> Vec<(u32, Answer)> {
        let mut answers = Vec::new();
        for action in &self.actions {
            if let Action::Answer { ticket, answer } = action {
                answers.push((*ticket, *answer));
            }
        }
        answers
    }

    /// Why leases were lost.
    pub(crate) fn lost(&self) -> Vec<LeaseReason> {
        let mut lost = Vec::new();
        for action in &self.actions {
            if let Action::Transition(told) = action
                && let Change::Lease { held: false, reason, .. } = told.what
            {
                lost.push(reason);
            }
        }
        lost
    }

    pub(crate) fn view(&self) -> Snapshot {
        let mut view = Snapshot::default();
        self.node.snapshot_into(&mut view, at(self.now));
        view
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.view().groups[0].reason
    }
}
