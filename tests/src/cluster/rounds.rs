//! The rounds of an agent: the clock is read, then the inputs, then the core decides, then its actions are executed one after
//! the other; between any two of these it may be interrupted, paused or killed.

use agent_core::{Action, Answer, Change, Instant, LeaseReason};

use super::machine::{Message, Next, Step};
use super::mutation::Broken;
use super::packet::Packet;
use super::plan::{Kind, MS, US};
use super::queue::Due;
use super::report::Invariant;
use super::world::World;

impl World {
    /// The agent of `node` is to run soon.
    pub(super) fn wake(&mut self, node: u8) {
        let life = self.machines[usize::from(node)].life;
        let at = self.now + self.lateness();
        self.queue.plan(at, Due::Round { node, life, timer: None });
    }

    fn lateness(&mut self) -> u64 {
        if self.rng.chance(self.plan.late) {
            self.rng.below(2 * super::plan::nanos(self.plan.timing.keepalive))
        } else {
            1 + self.rng.below(80 * US)
        }
    }

    /// A round begins: the clock is read first.
    pub(super) fn round(&mut self, node: u8) {
        let now = self.now;
        let is_slow = self.rng.chance(self.plan.interrupted);
        let wait = 1 + self.rng.below(2 * MS);
        let machine = &mut self.machines[usize::from(node)];
        let (local, life) = (machine.clock.at(now), machine.life);
        let Some(agent) = machine.agent.as_mut() else { return };
        if agent.is_paused || agent.reading.is_some() || !agent.steps.is_empty() {
            agent.woken = true;
            return;
        }
        if is_slow {
            agent.reading = Some(local);
            self.queue.plan(now + wait, Due::Read { node, life });
        } else {
            self.judge(node, local);
        }
    }

    /// A round goes on after the clock was read.
    pub(super) fn go_on(&mut self, node: u8) {
        let Some(agent) = self.machines[usize::from(node)].agent.as_mut() else { return };
        if agent.is_paused {
            return;
        }
        if let Some(local) = agent.reading.take() {
            self.slow = true;
            self.judge(node, local);
            self.slow = false;
        }
    }

    /// The inputs of a round, and what follows from them.
    fn judge(&mut self, node: u8, local: Instant) {
        let index = usize::from(node);
        let Some(agent) = self.machines[index].agent.as_mut() else { return };
        for message in std::mem::take(&mut agent.inbox) {
            let machine = &mut self.machines[index];
            let (Some(event), Some(agent)) = (message.event(&machine.kernel), machine.agent.as_mut()) else {
                return;
            };
            agent.node.handle(event, local);
            self.drain(node, local);
            if let Message::Slew { ppm } = message
                && !self.slow
            {
                self.slew(node, ppm);
            }
        }
        for peer in (0..self.machines.len()).filter(|peer| *peer != index) {
            let machine = &mut self.machines[index];
            let Some(agent) = machine.agent.as_mut() else { return };
            let generation = machine.kernel.generation(peer as u8);
            let deadline =
                agent_common::NodeId::new(peer as u8).and_then(|peer| agent.node.peer_deadline(peer));
            if agent.seen[peer] != generation || deadline.is_some_and(|at| at <= local) {
                agent.seen[peer] = generation;
                let truth = *machine.kernel.truth(peer as u8);
                let reading = machine.kernel.read(peer as u8, local);
                agent.note_reading(peer, &truth, reading);
                agent.node.handle(agent_core::Event::Reading(reading), local);
                self.drain(node, local);
            }
        }
        let Some(agent) = self.machines[index].agent.as_mut() else { return };
        agent.node.handle_timeout(local);
        self.drain(node, local);
        let verdict = self.oracle.silence(&self.machines[index], local, self.now);
        self.judged(verdict);
        self.end_round(node);
    }

    /// Takes the actions of the core: at once, or to be executed one by one later.
    fn drain(&mut self, node: u8, local: Instant) {
        let index = usize::from(node);
        loop {
            let Some(agent) = self.machines[index].agent.as_mut() else { return };
            let Some(action) = agent.node.poll_action() else { return };
            let step = match action {
                Action::Send { links } => {
                    let packet = Packet::of(agent.node.outgoing());
                    Step::Send { packet: self.pool.add(&packet), links }
                }
                Action::Gate { .. }
                | Action::SelfFence { .. }
                | Action::Fence { .. }
                | Action::Answer { .. }
                | Action::Acquire { .. }
                | Action::Release { .. }
                | Action::Announce { .. }
                | Action::PetWatchdog
                | Action::Transition(_)
                | Action::Finished => Step::Other(action),
            };
            if let Step::Other(Action::Transition(transition)) = step {
                self.transition(node, &transition.what, local);
            } else if self.slow || !agent.steps.is_empty() {
                agent.steps.push_back(step);
            } else {
                self.execute(node, step);
            }
        }
    }

    /// The next action of an interrupted round.
    pub(super) fn act(&mut self, node: u8) {
        let Some(agent) = self.machines[usize::from(node)].agent.as_mut() else { return };
        if agent.is_paused {
            return;
        }
        if let Some(step) = agent.steps.pop_front() {
            self.execute(node, step);
        }
        self.end_round(node);
    }

    /// Goes on with the steps, or sleeps until the core's next deadline.
    fn end_round(&mut self, node: u8) {
        let wait = 1 + self.rng.below(MS);
        let late = self.lateness();
        let machine = &mut self.machines[usize::from(node)];
        let life = machine.life;
        let Some(agent) = machine.agent.as_mut() else { return };
        if !agent.steps.is_empty() {
            self.queue.plan(self.now + wait, Due::Act { node, life });
            return;
        }
        if let Some(incarnation) = agent.node.outlived_by() {
            self.oracle.witness.outlived += 1;
            self.note(|| format!("node {node} starts over as incarnation {incarnation}"));
            self.kill(node);
            self.machines[usize::from(node)].next = Next::Incarnation(incarnation);
            self.start(node);
            return;
        }
        agent.armed = agent.armed.wrapping_add(1);
        let timer = Some(agent.armed);
        let wanted = agent.node.poll_timeout();
        if wanted != Instant::NEVER {
            let at = machine.clock.when(wanted).max(self.now + 1).saturating_add(late);
            self.queue.plan(at, Due::Round { node, life, timer });
        }
        if std::mem::take(&mut agent.woken) {
            self.queue.plan(self.now + late, Due::Round { node, life, timer: None });
        }
    }

    /// Executes one action.
    fn execute(&mut self, node: u8, step: Step) {
        match step {
            Step::Send { packet, links } => self.send(node, packet, links),
            Step::Other(action) => match action {
                Action::Gate { group, epoch, expiry } => self.gate_action(node, group.index(), epoch, expiry),
                Action::Acquire { resource, attempt } => {
                    self.plan_effect(node, resource.group.raw(), attempt, true)
                }
                Action::Release { resource, attempt } => {
                    self.plan_effect(node, resource.group.raw(), attempt, false);
                }
                Action::Answer { ticket, answer } => self.answered(node, ticket, answer),
                Action::Finished => {
                    self.note(|| format!("node {node} has left"));
                    self.kill(node);
                    let most =
                        if self.is_calm { 1 } else { 3 * super::plan::nanos(self.plan.timing.initdead) };
                    let wait = self.rng.below(most);
                    let life = self.machines[usize::from(node)].life;
                    self.queue.plan(self.now + wait, Due::Start { node, life });
                }
                Action::SelfFence { .. }
                | Action::Fence { .. }
                | Action::Announce { .. }
                | Action::PetWatchdog
                | Action::Send { .. }
                | Action::Transition(_) => {}
            },
        }
    }

    /// The core writes a gate. Where inherited gates stay, those stay that it has not opened itself.
    fn gate_action(&mut self, node: u8, group: usize, epoch: u64, expiry: Instant) {
        let machine = &mut self.machines[usize::from(node)];
        machine.has_opened[group] |= expiry != Instant::ZERO;
        if machine.has_opened[group] || !self.broken.is_some_and(Broken::inherits_gates) {
            self.write_gate(node, group, epoch, expiry);
        }
    }

    /// Writes the gate of a group.
    pub(super) fn write_gate(&mut self, node: u8, group: usize, epoch: u64, expiry: Instant) {
        let (index, now) = (usize::from(node), self.now);
        let machine = &mut self.machines[index];
        self.oracle.settle(machine, group, now);
        let gate = &mut machine.kernel.gates[group];
        (gate.epoch, gate.expiry) = (epoch, expiry);
        let verdict = self.oracle.gate(index, group, &self.machines, now);
        let machine = &self.machines[index];
        let (is_open, local) = (machine.is_open(group, now), machine.clock.at(now));
        self.note(|| {
            let left = expiry.since(local).as_micros();
            let state = if is_open { "open" } else { "shut" };
            format!("node {node} gate {group} {state}: epoch {epoch:#x}, {left} us")
        });
        self.judged(verdict);
        self.judge_move();
    }

    fn plan_effect(&mut self, node: u8, group: u8, attempt: u32, acquires: bool) {
        let most = if self.rng.chance(30) { 50 * MS } else { 500 * US };
        let at = self.now + self.rng.below(most);
        let life = self.machines[usize::from(node)].life;
        self.queue.plan(at, Due::Effect { node, life, group, acquires, attempt });
    }

    pub(super) fn effect(&mut self, node: u8, group: u8, acquires: bool, attempt: u32) {
        let machine = &mut self.machines[usize::from(node)];
        machine.addresses[usize::from(group)] = acquires;
        let Some(id) = agent_common::GroupId::new(group) else { return };
        let resource = agent_core::ResourceRef { group: id, index: 0 };
        machine.tell(Message::Ended { resource, attempt, acquires });
        self.wake(node);
    }

    /// The core says that something changed.
    fn transition(&mut self, node: u8, change: &Change, local: Instant) {
        self.note(|| format!("node {node} {}", super::trace::change(change)));
        if let Change::Peer { peer, to, .. } = change {
            let index = usize::from(node);
            if let Some(agent) = self.machines[index].agent.as_mut()
                && let Some(believed) = agent.believed.get_mut(peer.index())
            {
                *believed = *to;
            }
            let verdict = self.oracle.verdict(&self.machines[index], peer.index(), *to, local, self.now);
            self.judged(verdict);
            self.dies_in_a_restart(node, peer.index(), *to);
        }
        if let Change::Lease { held: false, reason, .. } = change {
            self.oracle.witness.reach_moves += u64::from(*reason == LeaseReason::Connectivity);
            self.oracle.witness.pings_lost += u64::from(*reason == LeaseReason::PingLost);
        }
    }

    fn answered(&mut self, node: u8, ticket: u32, answer: Answer) {
        self.note(|| format!("node {node} answers command {ticket}: {answer:?}"));
        let Some(agent) = self.machines[usize::from(node)].agent.as_mut() else { return };
        match answer {
            Answer::Done => self.oracle.witness.done += 1,
            Answer::Refused(_) => self.oracle.witness.refused += 1,
        }
        if agent.pausing == Some(ticket) {
            agent.pausing = None;
            if answer == Answer::Done {
                self.queue.plan(self.now + 1, Due::Reload { node });
            } else if self.plan.kind == Kind::Restarts {
                self.violate(Invariant::Gap, format!("the pause of node {node} is answered with {answer:?}"));
            }
        }
    }
}
