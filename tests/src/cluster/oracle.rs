//! What must be true, judged in true time from outside: at every write of a gate, every heartbeat that leaves, every
//! verdict. The oracle believes no node; it keeps its own books of what each has sent, promised and held.

use std::collections::BTreeMap;

use agent_common::Claim;
use agent_core::{Instant, PeerState};

use super::books::{Asking, Promise, Sent};
use super::machine::Machine;
use super::packet::{GROUPS, NODES, Packet};
use super::report::{Invariant, Violation, Witness};

/// Rounding of a promise that is no violation, nanoseconds.
const ROUNDING: u64 = 16;

/// The books.
#[derive(Debug)]
pub(super) struct Oracle {
    nodes: usize,
    /// The first so many of them vote, where the votes do not change.
    voters: usize,
    /// A group has another server than last: which, the one before, and the present one; for who judges moves.
    pub(super) moved: Option<(usize, u8, u8)>,
    groups: usize,
    /// Votes that make a majority; 0 when the rule is not one of majority, or changes.
    majority: usize,
    /// Whether at most one server is promised at all.
    one_server: bool,
    sent: [Sent; NODES],
    /// By voter, group, candidate.
    promises: [[[Promise; NODES]; GROUPS]; NODES],
    asking: [[Asking; GROUPS]; NODES],
    /// By voter and peer: the incarnation that it acknowledged last.
    acked: [[u64; NODES]; NODES],
    epochs: [BTreeMap<u64, u8>; GROUPS],
    last_holder: [Option<u8>; GROUPS],
    open_from: [[Option<u64>; GROUPS]; NODES],
    /// True nanoseconds for which each group was served.
    pub(super) served: [u64; GROUPS],
    /// Whether a node lives with an incarnation that it had used before: nothing is promised for it until it notices.
    went_back: [bool; NODES],
    /// Until this true time a node's gate may overlap, since its clock stood still.
    excused_until: [u64; NODES],
    /// What was exercised.
    pub witness: Witness,
}

impl Oracle {
    /// Books of a cluster of `nodes` nodes, of which the first `voters` vote, and `groups` groups.
    pub(super) fn new((nodes, voters): (u8, u8), groups: u8, majority: usize, one_server: bool) -> Self {
        Self {
            nodes: usize::from(nodes),
            voters: usize::from(voters),
            moved: None,
            groups: usize::from(groups),
            majority,
            one_server,
            sent: std::array::from_fn(|_| Sent::default()),
            promises: [[[Promise::default(); NODES]; GROUPS]; NODES],
            asking: [[Asking::default(); GROUPS]; NODES],
            acked: [[0; NODES]; NODES],
            epochs: std::array::from_fn(|_| BTreeMap::new()),
            last_holder: [None; GROUPS],
            open_from: [[None; GROUPS]; NODES],
            served: [0; GROUPS],
            went_back: [false; NODES],
            excused_until: [0; NODES],
            witness: Witness::default(),
        }
    }

    /// A heartbeat leaves `machine`: its votes keep every promise, and make new ones.
    pub(super) fn sent(&mut self, packet: &Packet, machines: &[Machine], now: u64) -> Result<(), Violation> {
        let me = usize::from(packet.node);
        self.sent[me].push(packet);
        for peer in 0..self.nodes {
            if let Some(ack) = packet.ack_of(peer as u8) {
                self.acked[me][peer] = ack.incarnation;
            }
        }
        for group in 0..self.groups {
            let claim = packet.claims[group];
            self.note_asking(packet, group);
            if claim.epoch == 0 {
                continue;
            }
            self.keep(packet, group, machines, now)?;
            let candidate = usize::from(claim.candidate);
            if candidate != me && candidate < self.nodes {
                if machines[me].is_open(group, now) && self.one_server {
                    let text =
                        format!("node {me} votes for {candidate} with its own gate of group {group} open");
                    return Err(Violation { at: now, invariant: Invariant::Promise, text });
                }
                if let Some(ack) = packet.ack_of(claim.candidate) {
                    let promise = Promise {
                        by: packet.incarnation,
                        to: ack.incarnation,
                        seq: ack.seq,
                        epoch: claim.epoch,
                    };
                    self.promises[me][group][candidate] = promise;
                }
                for other in (0..self.nodes).filter(|other| *other != candidate) {
                    let asking = &mut self.asking[other][group];
                    asking.refused |= asking.asks;
                }
            }
        }
        Ok(())
    }

    fn note_asking(&mut self, packet: &Packet, group: usize) {
        let me = usize::from(packet.node);
        let claim = packet.claims[group];
        let asking = &mut self.asking[me][group];
        let asks = claim.epoch != 0 && claim.candidate == packet.node;
        if asks && !asking.asks {
            asking.epoch = claim.epoch;
        }
        asking.asks = asks;
        if !asks {
            asking.silent_at = packet.seq;
        }
        if asks && claim.flags & Claim::HELD != 0 && std::mem::take(&mut asking.refused) {
            self.witness.won_after_refusal += 1;
        }
    }

    /// No promise to another binds the sender of this vote.
    fn keep(&self, packet: &Packet, group: usize, machines: &[Machine], now: u64) -> Result<(), Violation> {
        let me = usize::from(packet.node);
        let candidate = usize::from(packet.claims[group].candidate);
        for other in (0..self.nodes).filter(|other| *other != candidate && *other != me) {
            let promise = self.promises[me][group][other];
            let went_back = self.went_back[me] || self.went_back[other];
            let is_checked = self.one_server && promise.by != 0 && !machines[other].is_frozen && !went_back;
            if !is_checked || !self.binds(promise, me, other, group) {
                continue;
            }
            let until = self.sent[other].counted_until(promise.seq);
            let local = self.sent[other].clock.unwrap_or(machines[other].clock).at(now);
            if local.0 < until {
                let text = format!(
                    "node {me} votes for {candidate} in group {group}, {} us before its promise to {other} ends \
                     (heartbeat {} of incarnation {}, epoch {:#x})",
                    (until - local.0) / 1000,
                    promise.seq,
                    promise.to,
                    promise.epoch
                );
                return Err(Violation { at: now, invariant: Invariant::Promise, text });
            }
        }
        Ok(())
    }

    /// Whether a promise of `voter` to `to` is one that `to` may still count.
    fn binds(&self, promise: Promise, voter: usize, to: usize, group: usize) -> bool {
        let (sent, asking) = (&self.sent[to], &self.asking[to][group]);
        promise.to == sent.incarnation
            && promise.seq > sent.thawed
            && asking.asks
            && promise.seq > asking.silent_at
            && promise.epoch >= asking.epoch
            && self.acked[to][voter] <= promise.by
    }

    /// Before anything changes what a gate of `machine` lets through: books the time served.
    pub(super) fn settle(&mut self, machine: &Machine, group: usize, now: u64) {
        let node = usize::from(machine.id);
        if let Some(from) = self.open_from[node][group].take() {
            let closes = machine.clock.when(machine.kernel.gates[group].expiry).min(now);
            self.served[group] += closes.saturating_sub(from);
        }
    }

    /// After such a change.
    pub(super) fn resume(&mut self, machine: &Machine, group: usize, now: u64) {
        self.open_from[usize::from(machine.id)][group] = machine.is_open(group, now).then_some(now);
    }

    /// A gate of node `me` was written: nobody else's is open, and promises bear it.
    pub(super) fn gate(
        &mut self,
        me: usize,
        group: usize,
        machines: &[Machine],
        now: u64,
    ) -> Result<(), Violation> {
        let machine = &machines[me];
        self.resume(machine, group, now);
        if !machine.is_open(group, now) {
            return Ok(());
        }
        let gate = machine.kernel.gates[group];
        if self.last_holder[group] != Some(machine.id) {
            self.witness.handovers += u64::from(self.last_holder[group].is_some());
            self.moved = self.last_holder[group].map(|before| (group, before, machine.id));
            self.last_holder[group] = Some(machine.id);
        }
        self.check_others(me, group, machines, now)?;
        match self.epochs[group].insert(gate.epoch, machine.id) {
            Some(before) if before != machine.id => {
                let text = format!("epoch {:#x} of group {group} is held by {before} and {me}", gate.epoch);
                return Err(Violation { at: now, invariant: Invariant::Epoch, text });
            }
            Some(_) => {}
            None => self.witness.epochs += 1,
        }
        self.check_reason(me, group, gate.expiry, now)
    }

    fn check_others(
        &mut self,
        me: usize,
        group: usize,
        machines: &[Machine],
        now: u64,
    ) -> Result<(), Violation> {
        for other in (0..self.nodes).filter(|other| *other != me) {
            if !machines[other].is_open(group, now) || !self.one_server {
                continue;
            }
            if now <= self.excused_until[me].max(self.excused_until[other]) {
                self.witness.standing_overlaps += 1;
                continue;
            }
            if self.went_back[me] || self.went_back[other] {
                continue;
            }
            let gate = machines[other].kernel.gates[group];
            let left = machines[other].clock.when(gate.expiry).saturating_sub(now);
            let text = format!(
                "node {me} opens group {group} at epoch {:#x} while node {other} has it open at {:#x} for {} us more",
                machines[me].kernel.gates[group].epoch,
                gate.epoch,
                left / 1000
            );
            return Err(Violation { at: now, invariant: Invariant::OneServer, text });
        }
        Ok(())
    }

    /// The expiry is not above the majority-th largest promise that ever left a voter.
    fn check_reason(&self, me: usize, group: usize, expiry: Instant, now: u64) -> Result<(), Violation> {
        if self.majority == 0 || self.went_back[me] {
            return Ok(());
        }
        let mut untils = [0; NODES];
        for (voter, until) in untils.iter_mut().enumerate().take(self.voters) {
            let promise = self.promises[voter][group][me];
            if voter == me {
                *until = u64::MAX;
            } else if promise.by != 0 && promise.to == self.sent[me].incarnation {
                *until = self.sent[me].until(promise.seq);
            }
        }
        untils.sort_unstable_by(|a, b| b.cmp(a));
        let borne = untils[self.majority - 1];
        if expiry.0 > borne.saturating_add(ROUNDING) {
            let text = format!(
                "node {me} holds group {group} for {} us longer than a majority promised",
                (expiry.0 - borne) / 1000
            );
            return Err(Violation { at: now, invariant: Invariant::Reason, text });
        }
        Ok(())
    }

    /// The clock of `node` is slewed by `ppm` from now on, and its agent knows.
    pub(super) fn slewed(&mut self, node: u8, ppm: i64) {
        self.sent[usize::from(node)].slew(ppm.unsigned_abs());
    }

    /// An agent starts without its memory; `went_back`: with an incarnation that was used before.
    pub(super) fn lives(&mut self, node: u8, went_back: bool) {
        self.went_back[usize::from(node)] = went_back;
        self.witness.went_back += u64::from(went_back);
    }

    /// A machine loses its power, and with it the clock by which its promises were counted.
    pub(super) fn power_off(&mut self, machine: &Machine) {
        let sent = &mut self.sent[usize::from(machine.id)];
        sent.clock.get_or_insert(machine.clock);
        if machine.is_frozen {
            sent.thawed = u64::MAX;
        }
    }

    /// A machine whose clock stood still goes on: its gates may overlap for as long as what it was promised holds.
    pub(super) fn thaw(&mut self, machine: &Machine, now: u64) {
        let node = usize::from(machine.id);
        let sent = &mut self.sent[node];
        sent.thawed = sent.log.last().map_or(0, |sent| sent.0) + 1;
        let until = Instant(machine.clock.at(now).0 + sent.deadtime);
        self.excused_until[node] = machine.clock.when(until);
    }

    /// The core of `machine` told a state of a peer, in a round that read the clock at `local`.
    pub(super) fn verdict(
        &mut self,
        machine: &Machine,
        peer: usize,
        to: PeerState,
        local: Instant,
        now: u64,
    ) -> Result<(), Violation> {
        let Some(agent) = &machine.agent else { return Ok(()) };
        if to != PeerState::Dead {
            return Ok(());
        }
        self.witness.deaths += 1;
        match agent.read_truth[peer].0 {
            Some((stamp, deadtime)) if local.0 <= stamp.0 + deadtime => {
                let text = format!(
                    "node {} calls {peer} dead {} us after it was heard, with a deadtime of {} us",
                    machine.id,
                    local.since(stamp).as_micros(),
                    deadtime / 1000
                );
                Err(Violation { at: now, invariant: Invariant::HeardIsDead, text })
            }
            None if agent.read_truth[peer].1.is_none() && local <= agent.spared_until[peer] => {
                let text = format!(
                    "node {} calls {peer} dead {} us before its deadtime has passed since the start",
                    machine.id,
                    agent.spared_until[peer].since(local).as_micros()
                );
                Err(Violation { at: now, invariant: Invariant::HeardIsDead, text })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// After a round of `machine` that read the clock at `local`: whoever was silent for longer than announced is dead.
    pub(super) fn silence(&self, machine: &Machine, local: Instant, now: u64) -> Result<(), Violation> {
        let Some(agent) = &machine.agent else { return Ok(()) };
        for peer in 0..self.nodes {
            let Some((stamp, deadtime)) = agent.read_truth[peer].1 else { continue };
            let is_alive = matches!(agent.believed[peer], PeerState::Up | PeerState::Late);
            if is_alive && local.0 > stamp.0 + deadtime {
                let text = format!(
                    "node {} holds {peer} alive {} us after it was heard last, with a deadtime of {} us",
                    machine.id,
                    local.since(stamp).as_micros(),
                    deadtime / 1000
                );
                return Err(Violation { at: now, invariant: Invariant::SilentIsAlive, text });
            }
        }
        Ok(())
    }

    /// How many epochs of `group` were ever held.
    pub(super) fn epochs_of(&self, group: usize) -> usize {
        self.epochs[group].len()
    }
}
