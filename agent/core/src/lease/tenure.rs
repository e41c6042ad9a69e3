//! One group's claim on this node: voting for itself (asking), holding, losing, releasing (design: Votes, Losing, Planned moves,
//! Maintenance, The bar). The gate is written first, always. The phases are in `phase`.
//!
//! *Votes*: a node's vote is (epoch, candidate, held?) or none. Asking is voting for oneself; holding is asking with `held` set;
//! releasing is ceasing to, and forgets the promises. There are no other claims.

mod carried;
mod counted;
mod planned;
mod shown;

use agent_common::{GroupId, NodeId, NodeSet};

use crate::action::{Action, Change, GateBy};
use crate::config::GateKind;
use crate::group::Group;
use crate::groups::Scene;
use crate::mutation::{Mutated, Mutation};
use crate::peer::Peer;
use crate::queue::Actions;
use crate::snapshot::{LeaseReason, Reason};
use crate::time::Instant;

use super::ask::{Facts, Patience, Wish};
use super::epoch;
use super::phase::{Input, Phase, next};
use super::reach::Reach;
use super::two_node::Other;
use super::vote::Ballot;

/// What the resources of the group do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Bring them up and keep them.
    Serve,
    /// Leave them as they are.
    Keep,
    /// Take them down.
    Rest,
}

/// The claim on one group, and this node's vote for it.
#[derive(Clone, Debug)]
pub(crate) struct Tenure {
    group: GroupId,
    phase: Phase,
    /// Since when.
    since: Instant,
    /// The epoch of the claim, 0 for none.
    epoch: u64,
    /// The epoch that was asked with first; it may have been raised since.
    asked: u64,
    raised_at: Instant,
    /// Peers whose newest known table votes for the claim.
    votes: NodeSet,
    /// Two nodes: votes or tie-break have spoken, for as long as the lease runs.
    granted: bool,
    lease: Instant,
    /// The gate as last written.
    gate: (u64, Instant),
    is_open: bool,
    /// The highest epoch seen, the kernel's bar included.
    seen: u64,
    bar: u64,
    ballot: Ballot,
    patience: Patience,
    wants: bool,
    reach: Reach,
    /// When it was last asked for after the holder had handed it over: if that was not won, the next is left in peace for a while.
    wished_at: Option<Instant>,
    /// The operator wants it here.
    pub(crate) takeover: bool,
    /// The operator does not want it here while another can have it.
    pub(crate) standby: bool,
    wake: Instant,
    reason: Option<Reason>,
    resumed: bool,
}

impl Tenure {
    /// No claim, no vote, and a gate that is shut.
    pub(crate) fn new(group: GroupId, seed: u64) -> Self {
        Self {
            group,
            phase: Phase::Idle,
            since: Instant::ZERO,
            epoch: 0,
            asked: 0,
            raised_at: Instant::ZERO,
            votes: NodeSet::EMPTY,
            granted: false,
            lease: Instant::ZERO,
            // Whatever was found there is written over before the first heartbeat.
            gate: (0, Instant::NEVER),
            is_open: false,
            seen: 0,
            bar: 0,
            ballot: Ballot::default(),
            patience: Patience::new(seed),
            wants: false,
            reach: Reach::new(),
            wished_at: None,
            takeover: false,
            standby: false,
            wake: Instant::NEVER,
            reason: None,
            resumed: false,
        }
    }

    /// Its phase.
    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it stands for anything: a claim that others see.
    pub(crate) const fn is_active(&self) -> bool {
        match self.phase {
            Phase::Idle => false,
            Phase::Asking | Phase::Holding | Phase::Lost | Phase::Releasing => true,
        }
    }

    /// Whether its lease may move.
    pub(crate) const fn awaits_votes(&self) -> bool {
        match self.phase {
            Phase::Asking | Phase::Holding | Phase::Lost => true,
            Phase::Idle | Phase::Releasing => false,
        }
    }

    /// The epoch of the claim, 0 for none.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Until when the lease runs, if it is held.
    pub(crate) const fn lease(&self) -> Option<Instant> {
        match self.phase {
            Phase::Holding => Some(self.lease),
            Phase::Idle | Phase::Asking | Phase::Lost | Phase::Releasing => None,
        }
    }

    /// Why the group is not served here.
    pub(crate) const fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// When time alone changes something.
    pub(crate) const fn wake(&self) -> Instant {
        self.wake
    }

    /// *The bar*: XDP raises it on a frame that counts and shows another node holding at a higher epoch; the gate is shut then,
    /// whatever its expiry. It counts as an epoch that was seen.
    pub(crate) fn raise_bar(&mut self, epoch: u64) {
        self.bar = self.bar.max(epoch);
        self.seen = self.seen.max(epoch);
    }

    /// *Incarnation*: a node started anew. Its vote is gone, and so is this node's for its earlier life: that had shut its gates
    /// before it spoke again, and a promise to it must not pass for one to the new life, which may ask with the same epoch.
    pub(crate) fn forget(&mut self, node: NodeId, mutated: Mutated) {
        if !mutated.is(Mutation::PromisesNotForgotten) {
            self.votes.remove(node);
        }
        if self.ballot.candidate == Some(node) {
            self.ballot.clear();
        }
    }

    /// The promises moved and nothing else: renews the lease. False when more than that must be looked at.
    pub(crate) fn renew(
        &mut self,
        scene: &Scene<'_>,
        memo: &mut Memo,
        now: Instant,
        out: &mut Actions,
    ) -> bool {
        if self.phase != Phase::Holding {
            return false;
        }
        let lease = self.computed(scene, memo);
        if lease <= now {
            return false;
        }
        self.lease = lease;
        self.wake = self.wake_while_holding(scene);
        self.write_gate(GateBy::Agent, now, out);
        true
    }

    /// Looks at the claim and the vote; what the resources are to do.
    pub(crate) fn review(
        &mut self,
        group: &Group,
        facts: &Facts,
        scene: &Scene<'_>,
        now: Instant,
        out: &mut Actions,
    ) -> Order {
        self.seen = self.seen.max(facts.highest);
        self.wake = Instant::NEVER;
        match self.phase {
            Phase::Idle => self.idle(group, facts, scene, now, out),
            Phase::Asking | Phase::Holding | Phase::Lost => self.claiming(group, facts, scene, now, out),
            Phase::Releasing => {}
        }
        let is_guarded = scene.leases.gate() == GateKind::Kernel;
        if self.phase == Phase::Releasing && (is_guarded || group.is_at_rest()) {
            self.enter(Input::Gone, now);
            (self.epoch, self.asked, self.votes, self.granted) = (0, 0, NodeSet::EMPTY, false);
        }
        if self.phase != Phase::Holding {
            // *Start*: whatever was found open is shut before the first heartbeat.
            self.write_gate(GateBy::Agent, now, out);
        }
        match self.phase {
            Phase::Holding => Order::Serve,
            Phase::Lost => Order::Keep,
            Phase::Idle | Phase::Asking | Phase::Releasing => Order::Rest,
        }
    }

    /// Votes for another that asks, or asks itself.
    fn idle(&mut self, group: &Group, facts: &Facts, scene: &Scene<'_>, now: Instant, out: &mut Actions) {
        let mut others = group.owners;
        others.remove(scene.me);
        let leases = scene.leases;
        let may_vote = leases.voters().may_take_part() && leases.hold_off().is_over(others, now);
        if may_vote && self.ballot.review(self.group, &group.prefer, scene.peers, leases) {
            let (epoch, candidate) = (self.ballot.epoch, self.ballot.candidate);
            out.tell(now, Change::Vote { group: self.group, epoch, candidate });
        }
        self.wish(group, facts, scene, now);
        let wish = Wish { wants: self.wants || self.takeover, standby: self.standby };
        match self.patience.may_ask(group, facts, wish, &self.ballot, scene, now) {
            Ok(()) => self.ask(scene, now, out),
            Err(blocked) => {
                self.reason = match (blocked.reason, self.reason) {
                    (Reason::HeldElsewhere, _) if self.wants => Some(Reason::Asking),
                    // It is being taken down: what ended it is still the reason.
                    (Reason::LeaseLost, Some(before)) => Some(before),
                    (reason, _) => Some(reason),
                };
                self.wake = blocked.until.min(self.reach.wake());
            }
        }
        if self.phase == Phase::Asking {
            self.claiming(group, facts, scene, now, out);
        }
    }

    fn ask(&mut self, scene: &Scene<'_>, now: Instant, out: &mut Actions) {
        self.enter(Input::Ask, now);
        let seen = scene.peers.iter().map(Peer::highest_epoch).fold(self.seen, u64::max);
        self.epoch = epoch::above(seen, scene.wall_ms, scene.me, scene.leases.mutated());
        self.seen = self.seen.max(self.epoch);
        (self.asked, self.raised_at) = (self.epoch, now);
        self.wished_at = if self.wants { Some(now) } else { self.wished_at };
        (self.votes, self.granted, self.wants, self.resumed) = (NodeSet::EMPTY, false, false, false);
        self.ballot.clear();
        self.reason = Some(Reason::Asking);
        out.tell(now, Change::Vote { group: self.group, epoch: self.epoch, candidate: Some(scene.me) });
    }

    /// Asking, holding or lost: counts the votes, and moves on.
    fn claiming(&mut self, group: &Group, facts: &Facts, scene: &Scene<'_>, now: Instant, out: &mut Actions) {
        self.count_votes(scene);
        self.reach.watch(facts, scene, now);
        if let Some(reason) = self.must_end(group, facts, scene, now) {
            self.close(reason, now, out);
            return;
        }
        let lease = self.computed(scene, &mut None);
        let patience_ends = self.since.after(scene.leases.slew().wait(scene.leases.deadtime()));
        match self.phase {
            Phase::Asking | Phase::Lost if lease > now => self.win(lease, scene, now, out),
            Phase::Asking | Phase::Lost if now >= patience_ends => self.give_up(group, facts, scene, now),
            Phase::Asking | Phase::Lost => self.wake = patience_ends,
            Phase::Holding if lease <= now => self.lose(scene, now, out),
            Phase::Holding => {
                self.lease = lease;
                self.raise_epoch(scene, now);
                self.write_gate(GateBy::Agent, now, out);
            }
            Phase::Idle | Phase::Releasing => {}
        }
        if self.phase == Phase::Holding {
            self.wake = self.wake_while_holding(scene);
        }
    }

    fn win(&mut self, lease: Instant, scene: &Scene<'_>, now: Instant, out: &mut Actions) {
        self.enter(Input::Won, now);
        self.lease = lease;
        self.reason = None;
        self.patience.won();
        self.wished_at = None;
        let alone = scene.leases.two_node().is_some() && scene.leases.other(scene.peers) != Other::Heard;
        let reason = match (self.resumed, alone) {
            (true, _) => LeaseReason::Resumed,
            (false, true) => LeaseReason::TieBreak,
            (false, false) => LeaseReason::Majority,
        };
        self.resumed = false;
        out.tell(now, Change::Lease { group: self.group, held: true, reason });
        self.write_gate(GateBy::Agent, now, out);
    }

    /// *Losing*: when the lease runs out the gate is shut. The holder goes on for one deadtime more, since an ack may come yet;
    /// then it releases. Without a gate in the kernel there is nothing to go on with: it withdraws at once.
    fn lose(&mut self, scene: &Scene<'_>, now: Instant, out: &mut Actions) {
        self.enter(Input::RanOut, now);
        self.reason = Some(Reason::LeaseLost);
        self.write_gate(GateBy::Kernel, now, out);
        let is_ping_lost = scene.leases.is_ping_lost(now);
        let reason = if is_ping_lost { LeaseReason::PingLost } else { LeaseReason::Expired };
        out.tell(now, Change::Lease { group: self.group, held: false, reason });
        match scene.leases.gate() {
            GateKind::Kernel => self.wake = self.since.after(scene.leases.deadtime()),
            GateKind::Userspace => self.enter(Input::Close, now),
        }
    }

    /// Who has not won within a deadtime releases; the same for who has lost.
    fn give_up(&mut self, group: &Group, facts: &Facts, scene: &Scene<'_>, now: Instant) {
        let was = self.phase;
        self.enter(Input::GiveUp, now);
        if was == Phase::Asking {
            let wish = Wish { wants: self.takeover, standby: self.standby };
            self.patience.lost(group, facts, wish, scene, now);
            self.reason = Some(Reason::Waiting);
            self.wake = self.patience.backoff_until;
            (self.epoch, self.asked, self.votes, self.granted) = (0, 0, NodeSet::EMPTY, false);
        }
    }

    /// *Epochs*: a holder that sees a higher epoch raises its own, at most once a deadtime, keeping its promises.
    fn raise_epoch(&mut self, scene: &Scene<'_>, now: Instant) {
        if self.seen > self.epoch && now >= self.raised_at.after(scene.leases.deadtime()) {
            self.epoch = epoch::above(self.seen, scene.wall_ms, scene.me, scene.leases.mutated());
            self.seen = self.epoch;
            self.raised_at = now;
        }
    }

    /// When a holder has something to do before its lease ends.
    fn wake_while_holding(&self, scene: &Scene<'_>) -> Instant {
        let raise = self.raised_at.after(scene.leases.deadtime());
        if self.seen > self.epoch { self.lease.min(raise) } else { self.lease }
    }

    /// Writes the gate if it is not as it should be: open until the lease ends, or shut.
    fn write_gate(&mut self, by: GateBy, now: Instant, out: &mut Actions) {
        let expiry = if self.phase == Phase::Holding { self.lease } else { Instant::ZERO };
        if self.gate != (self.epoch, expiry) && (expiry != self.gate.1 || expiry != Instant::ZERO) {
            self.gate = (self.epoch, expiry);
            out.push(Action::Gate { group: self.group, epoch: self.epoch, expiry });
        }
        let is_open = expiry > now;
        if is_open != self.is_open {
            self.is_open = is_open;
            out.tell(now, Change::Gate { group: self.group, open: is_open, by });
        }
    }

    fn enter(&mut self, input: Input, now: Instant) {
        let before = self.phase;
        self.phase = next(before, input);
        if self.phase != before {
            self.since = now;
        }
    }
}

/// The lease of the groups for which the same peers vote: computed once in a round.
pub(crate) type Memo = Option<(NodeSet, Instant)>;

#[cfg(test)]
#[path = "tenure_tests.rs"]
mod tests;
