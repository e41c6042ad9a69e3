//! The parts of a run: the start, the storm or the lasting fault, the calm after it, and what must be true then.

use agent_core::{LinkState, NodeView, Operator, PeerState, Snapshot};

use super::machine::{Message, Next};
use super::net::Path;
use super::outside::PEACE;
use super::packet::GROUPS;
use super::plan::{Kind, MS, US, Votes, nanos};
use super::queue::Due;
use super::report::Invariant;
use super::world::World;

/// Keepalives after which one server and equal views must be there, once the faults have stopped and initdead is over.
const CALM_BEATS: u64 = 20;
/// Of 1000, how much of the time a group must be served while one fault lasts.
const SHARE_MIN: u64 = 950;

impl World {
    /// Plans the whole run; returns the true time at which it is certainly over.
    pub(super) fn begin(&mut self) -> u64 {
        let initdead = nanos(self.plan.timing.initdead);
        let keepalive = nanos(self.plan.timing.keepalive);
        for node in (0..self.plan.nodes).chain(self.plan.total() - self.plan.joined..self.plan.total()) {
            let at = self.rng.below(initdead / 2);
            self.queue.plan(at, Due::Start { node, life: 0 });
        }
        let settled = 2 * initdead + 60 * keepalive;
        match self.plan.kind {
            Kind::Storm | Kind::Standstill | Kind::Voters => {
                let first = self.rng.below(settled);
                self.queue.plan(first, Due::Fault);
                if self.plan.replay_every != 0 {
                    self.queue.plan(first, Due::Replay);
                }
                self.queue.plan(self.plan.storm, Due::Stage);
            }
            Kind::OneWay | Kind::Lossy | Kind::Reach | Kind::Restarts => self.queue.plan(settled, Due::Stage),
        }
        self.plan.storm + 4 * settled + 1000 * keepalive + 40 * nanos(self.plan.dampening()) + PEACE
    }

    /// The next part begins.
    pub(super) fn next_stage(&mut self) {
        self.stage += 1;
        match (self.plan.kind, self.stage) {
            (Kind::Storm | Kind::Standstill | Kind::Voters, 1) => self.calm_down(),
            (Kind::Storm | Kind::Standstill | Kind::Voters, _) => self.check_liveness(),
            (Kind::OneWay | Kind::Lossy, 1) => self.break_for_ever(),
            (Kind::OneWay | Kind::Lossy, _) => self.check_service(),
            (Kind::Reach, stage) => self.reach_stage(stage),
            (Kind::Restarts, 1) => self.roll_all(),
            (Kind::Restarts, _) => self.check_no_gap(),
        }
    }

    /// Every fault ends now.
    fn calm_down(&mut self) {
        self.is_calm = true;
        (self.plan.late, self.plan.interrupted) = (0, 0);
        self.note(|| "all faults end".to_owned());
        let keepalive = nanos(self.plan.timing.keepalive);
        let quiet = Path {
            delay: 5 * US + keepalive / 50,
            jitter: US + keepalive / 50,
            burst: (0, 1024),
            ..Path::default()
        };
        self.net.reset(quiet);
        self.spread_votes();
        self.reach_all();
        for node in 0..self.plan.total() {
            if self.machines[usize::from(node)].is_frozen {
                self.thaw(node);
            }
            self.unslew(node);
            self.repair(node);
        }
        let rounds = if self.plan.kind == Kind::Voters { 3 } else { 1 };
        let dampening = if self.plan.pings == 0 { 0 } else { nanos(self.plan.dampening()) };
        let slow = if self.plan.slow == 1 { 0 } else { 8 * nanos(self.plan.pace(self.plan.links - 1)) };
        let span = rounds * (nanos(self.plan.timing.initdead) + CALM_BEATS * keepalive)
            + dampening * (u64::from(self.plan.nodes) + 2)
            + slow;
        self.queue.plan(self.now + span + span / 500 + 5 * MS, Due::Stage);
    }

    /// The newest votes come to all nodes but one, which never hears of them. All nodes hear of who joined.
    fn spread_votes(&mut self) {
        for node in 0..self.plan.total() {
            let machine = &mut self.machines[usize::from(node)];
            if self.plan.joined != 0 && !std::mem::replace(&mut machine.knows_joined, true) {
                machine.next = Next::Fresh;
                self.kill(node);
            }
        }
        if self.plan.kind != Kind::Voters {
            return;
        }
        let newest = self.machines.iter().map(|machine| machine.votes).max_by_key(|votes| votes.number);
        let laggard = self.rng.below(u64::from(self.plan.nodes)) as u8;
        let laggard =
            Some(laggard).filter(|laggard| newest.is_some_and(|newest| self.may_lag(*laggard, newest)));
        for node in (0..self.plan.total()).filter(|node| Some(*node) != laggard) {
            let machine = &mut self.machines[usize::from(node)];
            if let Some(newest) = newest.filter(|newest| machine.votes != *newest && node < newest.listed) {
                machine.votes = newest;
                self.kill(node);
            }
        }
    }

    /// Whether the change to `newest` can be completed without `laggard`: a majority of the voters before is heard.
    fn may_lag(&self, laggard: u8, newest: Votes) -> bool {
        let is_near = self.machines[usize::from(laggard)].votes.number + 1 >= newest.number;
        let before = self.plan.nodes + u8::from(newest.number % 2 == 1 && newest.number > 1);
        let heard = newest.listed.min(before) - u8::from(!is_near);
        heard * 2 > before
    }

    /// An agent that does not run, or was told by people to do nothing, starts.
    fn repair(&mut self, node: u8) {
        let index = usize::from(node);
        let Some(agent) = self.machines[index].agent.as_mut() else {
            let is_told = self.machines[index].stood_by || self.machines[index].in_maintenance;
            if is_told {
                self.machines[index].next = Next::Fresh;
            }
            return self.start(node);
        };
        agent.pausing = None;
        let is_paused = agent.is_paused;
        let machine = &self.machines[index];
        let in_maintenance = machine.in_maintenance;
        if machine.stood_by {
            self.machines[index].next = Next::Fresh;
            self.kill(node);
            return self.start(node);
        }
        if is_paused {
            self.resume_now(node);
        }
        if in_maintenance {
            self.machines[index].tell(Message::Operator { ticket: 0, what: Operator::Maintenance(false) });
            self.wake(node);
        }
    }

    /// The holder of each group at this moment; a violation when there is none, or more than one.
    pub(super) fn holder(&mut self, group: usize) -> Option<u8> {
        let now = self.now;
        let mut open = self.machines.iter().filter(|machine| machine.is_open(group, now));
        let holder = open.next().map(|machine| machine.id);
        let count = usize::from(holder.is_some()) + open.count();
        if count == 1 {
            return holder;
        }
        self.violate(
            Invariant::Liveness,
            format!("group {group} has {count} servers after the faults have stopped"),
        );
        None
    }

    fn check_liveness(&mut self) {
        let newest = self.machines.iter().map(|machine| machine.votes.number).max().unwrap_or(0);
        for group in 0..usize::from(self.plan.groups) {
            let Some(holder) = self.holder(group) else { return };
            for index in 0..self.machines.len() {
                let machine = &self.machines[index];
                let Some(agent) = machine.agent.as_ref().filter(|_| machine.votes.number == newest) else {
                    continue;
                };
                let mut view = Snapshot::default();
                agent.node.snapshot_into(&mut view, machine.clock.at(self.now));
                let owner =
                    view.groups.get(group).and_then(|group| group.owner).map(agent_common::NodeId::raw);
                if owner != Some(holder) {
                    let text = format!(
                        "node {index} takes {owner:?} for the owner of group {group}, which {holder} serves"
                    );
                    self.violate(Invariant::Liveness, text);
                    return;
                }
                let wrong =
                    view.nodes.iter().position(|node| !matches!(node.state, PeerState::Up | PeerState::Late));
                if let Some(wrong) = wrong.filter(|_| self.plan.kind != Kind::Voters) {
                    let text = format!("node {index} holds {wrong} for {:?}", view.nodes[wrong].state);
                    self.violate(Invariant::Liveness, text);
                    return;
                }
                let broken = |node: &NodeView, link: u8| node.links[usize::from(link)].state != LinkState::Up;
                let down = (0..self.plan.links).find(|link| {
                    let peers = view.nodes.iter().enumerate().filter(|(node, _)| *node != index);
                    peers.into_iter().any(|(_, node)| broken(node, *link))
                });
                if let Some(link) = down.filter(|_| self.plan.kind != Kind::Voters) {
                    let text = format!("node {index} does not hold link {link} for up: {:?}", view.nodes);
                    self.violate(Invariant::Liveness, text);
                    return;
                }
            }
        }
    }

    /// The one fault that lasts.
    fn break_for_ever(&mut self) {
        match self.plan.kind {
            Kind::OneWay => {
                let from = self.rng.below(u64::from(self.plan.nodes)) as u8;
                let step = 1 + self.rng.below(u64::from(self.plan.nodes) - 1) as u8;
                let to = (from + step) % self.plan.nodes;
                (0..self.plan.links).for_each(|link| self.net.path(from, to, link).cut = true);
                self.note(|| format!("node {to} hears node {from} no more"));
            }
            Kind::Storm | Kind::Standstill | Kind::Voters | Kind::Lossy | Kind::Reach | Kind::Restarts => {
                self.net.paths().for_each(|path| path.loss = 307);
                self.note(|| "30 % of all frames are lost from now on".to_owned());
            }
        }
        self.count_from_now();
        self.queue.plan(self.now + self.plan.storm, Due::Stage);
    }

    /// Time served counts from now.
    pub(super) fn count_from_now(&mut self) {
        self.book();
        self.oracle.served = [0; GROUPS];
        self.counted_from = self.now;
    }

    /// Books all time served until now.
    pub(super) fn book(&mut self) {
        for machine in &self.machines {
            for group in 0..usize::from(self.plan.groups) {
                self.oracle.settle(machine, group, self.now);
                self.oracle.resume(machine, group, self.now);
            }
        }
    }

    fn check_service(&mut self) {
        self.book();
        let span = self.now - self.counted_from;
        for group in 0..usize::from(self.plan.groups) {
            let permille = self.oracle.served[group] * 1000 / span.max(1);
            if permille < SHARE_MIN {
                self.violate(
                    Invariant::Service,
                    format!("group {group} was served {permille} permille of the time"),
                );
            }
            let epochs = self.oracle.epochs_of(group) as u64;
            let most = 6 + span / nanos(self.plan.timing.deadtime) / 5;
            if epochs > most {
                self.violate(
                    Invariant::Service,
                    format!("group {group} used {epochs} epochs, more than {most}"),
                );
            }
        }
    }
}
