//! What goes wrong: one fault after the other at random instants, each drawn from the plan's kind.

use agent_common::{GroupId, NodeId};
use agent_core::Operator;
use agent_core::config::VoteChange;

use super::machine::{Machine, Next};
use super::mutation::Broken;
use super::packet::GROUPS;
use super::plan::{self, Kind, MS, nanos};
use super::queue::Due;
use super::world::World;

/// A wall clock that goes back goes back by at most this.
const WALL_BACK_MS: u64 = 100_000;

impl World {
    /// Something breaks, and the next fault is planned.
    pub(super) fn fault(&mut self) {
        if self.is_calm {
            return;
        }
        let wait = 1 + self.rng.below(2 * self.plan.fault_every);
        self.queue.plan(self.now + wait, Due::Fault);
        let node = self.any();
        match self.rng.below(100) {
            0..=15 => self.cut(),
            16..=23 => self.net.heal(),
            24..=31 => self.worsen(),
            32..=43 => self.pause(node),
            44..=54 => self.crash(node),
            55..=60 => self.reboot(node),
            61..=65 if self.plan.goes_back => self.lose_memory(node),
            66 => self.all_at_once(),
            67..=69 => self.part_from_holder(node),
            70..=75 => self.ask_for_pause(node),
            76..=85 => self.operate(node),
            86 | 87 if self.plan.pings != 0 => self.reach_something(node),
            86 | 87 => self.operate(node),
            88..=91 => self.drift(node),
            92..=95 if self.plan.kind == Kind::Standstill => self.freeze(node),
            92..=96 if self.plan.kind == Kind::Voters => self.change_votes(node),
            _ => self.crash(node),
        }
    }

    fn any(&mut self) -> u8 {
        self.rng.below(u64::from(self.plan.total())) as u8
    }

    pub(super) fn deadtimes(&mut self, most: u64) -> u64 {
        self.rng.below(most * nanos(self.plan.timing.deadtime))
    }

    /// Cuts paths: between two nodes, around one, or through the cluster; in one direction or both, on one link or all.
    fn cut(&mut self) {
        let total = self.plan.total();
        let (one, shape, ways) = (self.any(), self.rng.below(4), self.rng.below(3));
        let other = self.any();
        let half = self.rng.next() as u8;
        let only = self.rng.chance(250).then(|| self.rng.below(u64::from(self.plan.links)) as u8);
        let inside = |node: u8| match shape {
            0 | 1 => node == one,
            _ => half >> node & 1 == 1,
        };
        let outside = |node: u8| match shape {
            0 => node == other,
            _ => !inside(node),
        };
        for from in 0..total {
            for to in (0..total).filter(|to| *to != from) {
                let (out, back) = (inside(from) && outside(to), inside(to) && outside(from));
                if (out && ways != 1) || (back && ways != 0) {
                    for link in (0..self.plan.links).filter(|link| only.is_none_or(|only| only == *link)) {
                        self.net.path(from, to, link).cut = true;
                    }
                }
            }
        }
        self.note(|| {
            format!("cut: shape {shape}, ways {ways}, node {one} and {other}, half {half:#x}, link {only:?}")
        });
        if self.rng.chance(600) {
            let wait = self.deadtimes(6);
            self.queue.plan(self.now + wait, Due::Heal);
        }
    }

    /// Some paths become worse, or better.
    fn worsen(&mut self) {
        let keepalive = nanos(self.plan.timing.keepalive);
        let path = plan::path(&mut self.rng, keepalive, false);
        let (total, links) = (self.plan.total(), self.plan.links);
        let all = self.rng.chance(300);
        for from in 0..total {
            for to in 0..total {
                for link in 0..links {
                    if all || self.rng.chance(300) {
                        let old = self.net.path(from, to, link);
                        *old = plan_with_cut(path, old.cut);
                    }
                }
            }
        }
        self.note(|| format!("network: {path:?}, all {all}"));
    }

    /// The agent is stopped and goes on later.
    fn pause(&mut self, node: u8) {
        let span = if self.rng.chance(200) { self.deadtimes(10) } else { self.deadtimes(2) };
        let machine = &mut self.machines[usize::from(node)];
        let life = machine.life;
        if let Some(agent) = machine.agent.as_mut().filter(|agent| !agent.is_paused) {
            agent.is_paused = true;
            self.note(|| format!("node {node} is stopped for {} ms", span / MS));
            self.queue.plan(self.now + span, Due::Resume { node, life });
        }
    }

    /// The agent is killed, and starts again soon or later.
    fn crash(&mut self, node: u8) {
        if self.machines[usize::from(node)].agent.is_none() {
            return;
        }
        self.note(|| format!("node {node}: the agent is killed"));
        self.kill(node);
        if self.broken.is_some_and(Broken::repeats_incarnations) {
            let disk = self.machines[usize::from(node)].disk;
            self.machines[usize::from(node)].next = Next::Incarnation(disk);
        }
        self.start_later(node);
    }

    fn start_later(&mut self, node: u8) {
        let wait = match self.rng.below(4) {
            0 => self.rng.below(MS),
            1 => self.deadtimes(1),
            2 => self.deadtimes(3),
            _ => self.rng.below(2 * nanos(self.plan.timing.initdead)),
        };
        let life = self.machines[usize::from(node)].life;
        self.queue.plan(self.now + 1 + wait, Due::Start { node, life });
    }

    /// The machine loses its power: its clock starts anew, its gates are gone.
    fn reboot(&mut self, node: u8) {
        self.note(|| format!("node {node}: the machine loses its power"));
        self.kill(node);
        let index = usize::from(node);
        (0..usize::from(self.plan.groups)).for_each(|group| {
            self.oracle.settle(&self.machines[index], group, self.now);
        });
        self.oracle.power_off(&self.machines[index]);
        let mut machine = self.boot(node, self.machines[index].votes);
        let old = &self.machines[index];
        (machine.disk, machine.life, machine.deadtime_us) = (old.disk, old.life, old.deadtime_us);
        (machine.highest, machine.knows_joined) = (old.highest, old.knows_joined);
        machine.is_up = false;
        if self.plan.goes_back && self.rng.chance(200) {
            machine.wall_ms_at_zero -= self.rng.below(WALL_BACK_MS);
        }
        self.machines[index] = machine;
        self.start_later(node);
    }

    /// The agent is killed, and the next one finds no file, or an older one.
    fn lose_memory(&mut self, node: u8) {
        if self.machines[usize::from(node)].agent.is_none() {
            return;
        }
        self.kill(node);
        let machine = &mut self.machines[usize::from(node)];
        machine.disk =
            if self.rng.chance(500) { 0 } else { machine.disk - self.rng.below(3).min(machine.disk) };
        let disk = machine.disk;
        self.note(|| format!("node {node}: the agent is killed, the disk goes back to {disk}"));
        self.start_later(node);
    }

    /// Every machine at once.
    fn all_at_once(&mut self) {
        let power = self.rng.chance(400);
        for node in 0..self.plan.total() {
            if power {
                self.reboot(node);
            } else {
                self.crash(node);
            }
        }
    }

    /// A holder is heard by one voter alone, who carries its lease; that voter will lose its memory.
    fn part_from_holder(&mut self, voter: u8) {
        let now = self.now;
        let holds = |machine: &&Machine| (0..GROUPS).any(|group| machine.is_open(group, now));
        let Some(holder) = self.machines.iter().find(holds).map(|machine| machine.id) else { return };
        if holder == voter {
            return;
        }
        if self.rng.chance(400) {
            // Its announced deadtime is then longer than its own.
            self.machines[usize::from(holder)].command(Operator::Pause);
            self.wake(holder);
        }
        self.note(|| format!("cut: node {holder} is heard by node {voter} alone"));
        self.net.heal();
        for other in (0..self.plan.total()).filter(|other| *other != voter && *other != holder) {
            self.part(holder, other);
        }
        let wait = nanos(self.plan.timing.deadtime) + self.deadtimes(3);
        self.queue.plan(self.now + wait, Due::Forget { voter, holder });
    }

    fn part(&mut self, one: u8, other: u8) {
        for link in 0..self.plan.links {
            self.net.path(one, other, link).cut = true;
            self.net.path(other, one, link).cut = true;
        }
    }

    /// The voter starts anew at once; the holder hears of it, or does not.
    pub(super) fn forget(&mut self, voter: u8, holder: u8) {
        if self.is_calm || self.machines[usize::from(voter)].agent.is_none() {
            return;
        }
        let deadtime = nanos(self.plan.timing.deadtime);
        if self.rng.chance(500) {
            self.part(voter, holder);
        } else {
            let delay = self.rng.below(deadtime / 3);
            (0..self.plan.links).for_each(|link| self.net.path(holder, voter, link).delay = delay);
        }
        self.note(|| format!("node {voter}: the agent is killed and has promised to {holder}"));
        self.kill(voter);
        let part = if self.rng.chance(500) { 4 } else { 32 };
        let wait = self.rng.below(deadtime / part);
        let life = self.machines[usize::from(voter)].life;
        self.queue.plan(self.now + 1 + wait, Due::Start { node: voter, life });
    }

    /// The operator wants to upgrade: a longer deadtime is announced, and when enough know it the state is handed over.
    fn ask_for_pause(&mut self, node: u8) {
        let machine = &mut self.machines[usize::from(node)];
        let ticket = machine.command(Operator::Pause);
        if let Some(agent) = machine.agent.as_mut() {
            agent.pausing = ticket;
            self.note(|| format!("node {node}: operator asks for a pause"));
            self.wake(node);
        }
    }

    /// The pause is granted: the state is handed over, soon or after a while, or is lost, or too old.
    pub(super) fn reload(&mut self, node: u8) {
        let index = usize::from(node);
        let Some(agent) = self.machines[index].agent.as_ref().filter(|_| !self.is_calm) else { return };
        let Some(carried) = agent.node.carry() else { return };
        if self.plan.kind == Kind::Restarts {
            return self.replace(node, carried);
        }
        let roll = self.rng.below(100);
        if (60..75).contains(&roll) {
            // The new process fails, the old one goes on, and is killed later: the state is too old by then.
            if self.broken.is_some_and(Broken::takes_stale_states) {
                self.machines[index].next = Next::Carried(Box::new(carried));
            }
            return;
        }
        self.note(|| format!("node {node}: state handed over"));
        self.kill(node);
        let deadtime = u64::try_from(self.plan.timing.deadtime.as_micros()).unwrap_or(u64::MAX);
        let initdead = u64::try_from(self.plan.timing.initdead.as_micros()).unwrap_or(u64::MAX);
        let longer = deadtime + self.rng.below(initdead - deadtime + 1);
        let machine = &mut self.machines[index];
        machine.deadtime_us = if self.rng.chance(300) { longer } else { deadtime };
        if roll < 85 {
            machine.next = Next::Carried(Box::new(carried));
        }
        let life = machine.life;
        let wait = match self.rng.below(3) {
            0 => self.rng.below(MS),
            1 => self.deadtimes(1),
            _ => self.rng.below(nanos(self.plan.timing.initdead)),
        };
        self.queue.plan(self.now + 1 + wait, Due::Start { node, life });
    }

    /// A command of the operator.
    fn operate(&mut self, node: u8) {
        let group = GroupId::new(self.rng.below(u64::from(self.plan.groups)) as u8);
        let group = if self.rng.chance(700) { group } else { None };
        let what = match self.rng.below(10) {
            0..=2 => Operator::Standby(group),
            3..=6 => Operator::Takeover(group),
            7 => Operator::Leave,
            roll => Operator::Maintenance(roll == 8),
        };
        let machine = &mut self.machines[usize::from(node)];
        machine.command(what);
        if machine.agent.is_some() {
            machine.stood_by |= matches!(what, Operator::Standby(_) | Operator::Leave);
            machine.in_maintenance |= what == Operator::Maintenance(true);
            self.note(|| format!("node {node}: operator wants {what:?}"));
            self.wake(node);
        }
    }

    /// The administrator goes on with a change of the votes: this node gets the newest file.
    fn change_votes(&mut self, node: u8) {
        let newest = self.machines.iter().map(|machine| machine.votes).max_by_key(|votes| votes.number);
        let Some(mut newest) = newest else { return };
        let done = self.machines.iter().filter(|machine| machine.votes.number == newest.number).count();
        // The next change is written once all but one have the last: one may lag for ever.
        if done + 1 >= usize::from(self.plan.nodes) && newest.number < 4 {
            let spare = NodeId::new(self.plan.nodes);
            newest.number += 1;
            newest.change = match newest.number % 2 {
                0 => spare.map(VoteChange::Added),
                _ => spare.map(VoteChange::Removed),
            };
            newest.listed = self.plan.nodes + u8::from(newest.number.is_multiple_of(2));
        }
        let machine = &mut self.machines[usize::from(node)];
        if machine.votes.number == newest.number || (node >= newest.listed && newest.number % 2 == 1) {
            return;
        }
        machine.votes = newest;
        self.oracle.witness.vote_changes += 1;
        let runs = machine.agent.is_some();
        self.note(|| format!("node {node}: gets votes {newest:?}"));
        if runs {
            self.crash(node);
        } else {
            self.start_later(node);
        }
    }
}

fn plan_with_cut(path: super::net::Path, cut: bool) -> super::net::Path {
    let mut path = path;
    path.cut = cut;
    path
}
