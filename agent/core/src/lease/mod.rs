//! Votes, promises and leases: why at most one node serves a group. The rules are those of the design's section "Leases, votes,
//! takeover"; each lies where its name stands.
//!
//! | rule | where |
//! |---|---|
//! | What counts | `peer::Peer::read`, and the kernel's window |
//! | Incarnation | `peer::Peer::begin_life`, [`Leases::forget`], `node::Node::read` |
//! | Votes, Losing, Planned moves, Maintenance | `tenure` |
//! | Table | `outgoing`, `peer::Peer::count`, [`promise`] |
//! | Acks | `peer::Peer::ack`, [`Leases::acked`] |
//! | Promise, Lease | [`log`], [`promise`], [`Leases::lease`] |
//! | Bound | the kernel's validation; `peer::Peer::count` takes no more |
//! | Voting | [`vote`] |
//! | Epochs | [`epoch`] |
//! | Asking | [`ask`] |
//! | Start without, with carried state | [`start`], [`carry`] |
//! | The bar | `tenure::Tenure::raise_bar` |
//! | Clocks | [`slew`] |
//! | Changing the votes | [`quorum`] |
//! | Two nodes without a witness | [`two_node`] |
//! | Who reaches more | [`reach`] |

use core::time::Duration;

use agent_common::{NodeId, NodeSet};

use crate::config::{Config, GateKind, Policy, Start};
use crate::mutation::{Mutated, Mutation};
use crate::peer::Peer;
use crate::time::Instant;

pub(crate) mod ask;
pub(crate) mod carry;
pub(crate) mod epoch;
pub(crate) mod log;
pub(crate) mod phase;
pub(crate) mod promise;
pub(crate) mod quorum;
pub(crate) mod reach;
pub(crate) mod slew;
pub(crate) mod start;
pub(crate) mod tenure;
pub(crate) mod two_node;
pub(crate) mod vote;

use log::SentLog;
use promise::Promises;
use quorum::Voters;
use slew::Slew;
use start::HoldOff;
use two_node::{Other, TwoNode};

/// What all groups have in common: heartbeats sent, promises received, who votes.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    me: NodeId,
    keepalive: Duration,
    deadtime: Duration,
    initdead: Duration,
    /// The deadtime that the next heartbeat announces.
    announced: Duration,
    /// The first heartbeat that announces it.
    announced_from: u64,
    /// It was announced by the process before, and is until that is borne.
    resumes: bool,
    reach_dampening: Duration,
    gate: GateKind,
    policy: Policy,
    pub(crate) log: SentLog,
    pub(crate) promises: Promises,
    voters: Voters,
    hold_off: HoldOff,
    slew: Slew,
    two_node: Option<TwoNode>,
    /// A promise moved since the leases were last computed.
    moved: bool,
    /// Whether a majority had acked when that was last looked at.
    was_heard: bool,
    mutated: Mutated,
}

impl Leases {
    /// A node that starts at `now`.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let slew = match &config.start {
            Start::Fresh => Slew::default(),
            Start::Carried(carried) => Slew::restored(carried.slew),
        };
        let mut leases = Self {
            me: config.me,
            keepalive: config.timing.keepalive.max(Duration::from_micros(1)),
            deadtime: config.timing.deadtime,
            initdead: config.timing.initdead,
            announced: config.timing.deadtime,
            announced_from: 1,
            resumes: false,
            reach_dampening: config.reach_dampening,
            gate: config.gate,
            policy: config.quorum.policy,
            log: SentLog::new(config.mutated),
            promises: Promises::new(),
            voters: Voters::new(config),
            hold_off: HoldOff::new(config, now, slew),
            slew,
            two_node: match config.quorum.policy {
                Policy::Majority => None,
                Policy::TwoNode(tie_break) => Some(TwoNode::new(tie_break)),
            },
            moved: false,
            was_heard: false,
            mutated: config.mutated,
        };
        if let Start::Carried(carried) = &config.start {
            leases.restore(carried, now);
        }
        leases
    }

    /// This node.
    pub(crate) const fn me(&self) -> NodeId {
        self.me
    }

    /// The interval of heartbeats.
    pub(crate) const fn keepalive(&self) -> Duration {
        self.keepalive
    }

    /// This node's own deadtime.
    pub(crate) const fn deadtime(&self) -> Duration {
        self.deadtime
    }

    /// The longest deadtime that anybody announces.
    pub(crate) const fn initdead(&self) -> Duration {
        self.initdead
    }

    /// The deadtime that the next heartbeat announces.
    pub(crate) const fn announced(&self) -> Duration {
        self.announced
    }

    /// How long a difference in what nodes reach lasts before a group moves for it.
    pub(crate) const fn reach_dampening(&self) -> Duration {
        self.reach_dampening
    }

    /// What shuts the addresses.
    pub(crate) const fn gate(&self) -> GateKind {
        self.gate
    }

    /// Who votes.
    pub(crate) const fn voters(&self) -> &Voters {
        &self.voters
    }

    /// How far clocks may be wrong.
    pub(crate) const fn slew(&self) -> Slew {
        self.slew
    }

    /// The rule that a test broke.
    pub(crate) const fn mutated(&self) -> Mutated {
        self.mutated
    }

    /// What an earlier life may have promised.
    pub(crate) const fn hold_off(&self) -> &HoldOff {
        &self.hold_off
    }

    /// The tie-break, in a cluster of two nodes without a witness.
    pub(crate) const fn two_node(&self) -> Option<&TwoNode> {
        self.two_node.as_ref()
    }

    /// The same, to tell it something.
    pub(crate) const fn two_node_mut(&mut self) -> Option<&mut TwoNode> {
        self.two_node.as_mut()
    }

    /// Whether leases hang on this node's own heartbeats alone, so that sending moves them.
    pub(crate) const fn rests_on_sending(&self) -> bool {
        match self.policy {
            Policy::TwoNode(_) => true,
            Policy::Majority => self.voters.needed() == 0,
        }
    }

    /// *Acks*: a frame of `peer` that counts acked heartbeat `seq` of this incarnation. Acks, version and table of one frame
    /// belong together: `table_is_known` speaks of the same frame.
    pub(crate) fn acked(&mut self, peer: NodeId, seq: u64, table_is_known: bool) {
        if let Some(until) = self.log.until(seq) {
            self.moved |= self.promises.acked(peer, until, table_is_known);
        }
    }

    /// `peer` acked this incarnation at all; true for the first time.
    pub(crate) const fn greeted_by(&mut self, peer: NodeId) -> bool {
        self.hold_off.acked(peer)
    }

    /// *Incarnation*: on a peer's higher incarnation everything known of the lower is forgotten, its promises first.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        if self.mutated.is(Mutation::PromisesNotForgotten) {
            return;
        }
        self.promises.forget(peer);
        self.moved = true;
    }

    /// Heartbeat `seq` is about to be handed to the kernel; `now` was read before.
    pub(crate) fn sent(&mut self, seq: u64, now: Instant) {
        self.log.append(seq, now, self.announced, self.slew.margin_ppm(self.mutated));
        self.moved |= self.rests_on_sending();
    }

    /// No link took the newest heartbeat.
    pub(crate) fn not_sent(&mut self) {
        self.log.withdraw_newest();
        self.moved = true;
    }

    /// Tests only: the clock is read after sending.
    pub(crate) fn after_sending(&mut self, now: Instant) {
        if self.mutated.is(Mutation::ReadTimeAfterSending) {
            self.log.restamp_newest(now, self.slew.margin_ppm(self.mutated));
        }
    }

    /// Announces another deadtime from the next heartbeat on. *Promise*: announcing less shortens what is already promised, in
    /// the gate too, before the frame leaves; no heartbeat that leaves later ends before this bound. True on change.
    pub(crate) fn announce(&mut self, deadtime: Duration, now: Instant) -> bool {
        if deadtime == self.announced {
            return false;
        }
        let is_less = deadtime < self.announced;
        self.announced = deadtime;
        self.announced_from = self.log.newest().saturating_add(1);
        if is_less && !self.mutated.is(Mutation::AcksAfterShortenedDeadtime) {
            let bound = log::end(now, deadtime, self.slew.margin_ppm(self.mutated));
            self.log.shorten(bound);
            self.promises.cap(bound);
        }
        self.moved = true;
        true
    }

    /// *Clocks*: the agent has read adjtimex.
    pub(crate) fn slewed(&mut self, ppm: u32, now: Instant) {
        let before = self.slew.margin_ppm(self.mutated);
        if self.slew.set(ppm, now, self.initdead) {
            let margin = self.slew.margin_ppm(self.mutated);
            let longest = self.log.longest_deadtime();
            self.log.widen_margin(margin);
            self.promises.shrink(slew::share(longest, margin.saturating_sub(before)));
            self.hold_off.slewed(self.slew, now);
            self.moved = true;
        }
    }

    /// Looks at the voters; true when others decide from now on.
    pub(crate) fn review_voters(&mut self, peers: &[Peer], now: Instant) -> bool {
        self.slew.settle(now);
        let changed = self.voters.review(peers, now);
        self.moved |= changed;
        changed
    }

    /// Whether a promise moved since the last call.
    pub(crate) const fn take_moved(&mut self) -> bool {
        core::mem::replace(&mut self.moved, false)
    }

    /// Whether something waits for the leases to be computed.
    pub(crate) const fn is_moved(&self) -> bool {
        self.moved
    }

    /// Whether it changed that a majority has acked heartbeats which are not yet past their until.
    pub(crate) fn hearing_changed(&mut self, now: Instant) -> bool {
        let is_heard = self.is_heard(now);
        core::mem::replace(&mut self.was_heard, is_heard) != is_heard
    }

    /// Whether a majority has acked heartbeats which are not yet past their until: the deaf and the unheard do not ask.
    pub(crate) fn is_heard(&self, now: Instant) -> bool {
        let mut by = self.promises.heard_by(now);
        by.insert(self.me);
        self.voters.is_majority(by)
    }

    /// *Lease* of a group for which `votes` vote for this node: the majority-th largest promise, the own vote counting without
    /// limit, never past the own newest heartbeat's deadtime.
    pub(crate) fn lease(&self, votes: NodeSet) -> Instant {
        self.promises.lease(self.voters.counted(votes), self.voters.needed()).min(self.log.newest_until())
    }

    /// The lease of one of two nodes that was granted it.
    pub(crate) fn dead_mans_switch(&self, two_node: &TwoNode) -> Instant {
        let mut others = self.voters.set();
        others.remove(self.me);
        let acked = self.promises.heard_until(others, 1);
        two_node.lease(&self.log, acked)
    }

    /// The other of two nodes: the peer that has the other vote.
    pub(crate) fn other_voter<'a>(&self, peers: &'a [Peer]) -> Option<&'a Peer> {
        peers.iter().find(|peer| self.voters.set().contains(peer.id()))
    }

    /// Two nodes: whether a lease that is over at `now` would go on if the ping group answered.
    pub(crate) fn is_ping_lost(&self, now: Instant) -> bool {
        self.two_node.as_ref().is_some_and(TwoNode::needs_ping) && self.log.newest_until() > now
    }

    /// How the other of two nodes stands.
    pub(crate) fn other(&self, peers: &[Peer]) -> Other {
        match self.other_voter(peers) {
            None => Other::Left,
            Some(peer) if peer.has_left() => Other::Left,
            Some(peer) if peer.is_dead_now(self.slew) => Other::Dead,
            Some(_) => Other::Heard,
        }
    }
}
