//! The run of one seed: machines, network and attacker under true time, one event after the other.

use std::fmt::Write as _;

use agent_core::config::Mutated;
use agent_core::{Action, Answer, Change, Instant, Node};

use crate::sim::Rng;

use super::clock::Clock;
use super::kernel::{Kernel, Taken};
use super::machine::{Agent, Machine, Message, Next, Step};
use super::mutation::Broken;
use super::net::Network;
use super::oracle::{Invariant, Oracle, Violation};
use super::packet::{GROUPS, NODES, Packet, Pool};
use super::plan::{Generation, MS, Plan, US, Votes};
use super::queue::{Due, Queue};
use super::run::How;

/// A run that needs more events than this does not end by itself.
const EVENTS_MAX: u64 = 4_000_000;
/// How many heartbeats the attacker remembers.
const RECORDED: usize = 256;
/// Milliseconds since 1970 when a run begins.
const WALL_MS: u64 = 1_700_000_000_000;

/// One seed's run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) queue: Queue,
    pub(super) now: u64,
    pub(super) net: Network,
    pool: Pool,
    pub(super) machines: Vec<Machine>,
    pub(super) oracle: Oracle,
    pub(super) broken: Option<Broken>,
    recorded: Vec<(u32, u8)>,
    /// Nothing breaks any more.
    pub(super) is_calm: bool,
    pub(super) stage: u32,
    /// Where true time stands when the share of service begins to count.
    pub(super) counted_from: u64,
    pub(super) violation: Option<Violation>,
    trace: Option<String>,
    /// The round under way is interrupted at every step.
    slow: bool,
}

impl World {
    /// The world of `seed` before anything has happened.
    pub(super) fn new(seed: u64, how: How) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let plan = Plan::of(&mut rng);
        let votes = Votes { number: 1, listed: plan.nodes, change: None };
        let total = plan.total();
        let majority = if how.by_effect { 0 } else { plan.majority() };
        let mut world = Self {
            net: Network::new(plan.path),
            queue: Queue::default(),
            now: 0,
            pool: Pool::default(),
            machines: Vec::with_capacity(NODES),
            oracle: Oracle::new(total, plan.groups, majority, plan.one_server()),
            broken: how.broken,
            recorded: Vec::new(),
            is_calm: false,
            stage: 0,
            counted_from: 0,
            violation: None,
            trace: how.traced.then(String::new),
            slow: false,
            rng,
            plan,
        };
        for id in 0..total {
            let machine = world.boot(id, votes);
            world.machines.push(machine);
        }
        world
    }

    /// A machine that was just switched on.
    pub(super) fn boot(&mut self, id: u8, votes: Votes) -> Machine {
        let shown = MS * self.rng.below(1_000_000);
        let clock = Clock::new(self.now, shown, self.plan.ppm[usize::from(id)]);
        let per_link = self.broken.is_some_and(Broken::orders_per_link);
        let initdead_us = u32::try_from(self.plan.timing.initdead.as_micros()).unwrap_or(u32::MAX);
        let mutated = self.broken.map_or_else(Mutated::default, Broken::core);
        let mut machine = Machine::new(id, clock, Kernel::new(id, initdead_us, per_link), votes, mutated);
        machine.deadtime_us = u64::try_from(self.plan.timing.deadtime.as_micros()).unwrap_or(0);
        let ahead = self.plan.wall_ahead_ms[usize::from(id)];
        machine.wall_ms_at_zero = (WALL_MS + self.now / MS + ahead).saturating_sub(shown / MS);
        machine
    }

    /// Runs until true time `end`, a violation, or nothing is left.
    pub(super) fn run(&mut self, end: u64) {
        while self.violation.is_none() {
            let Some((at, due)) = self.queue.next(end) else { break };
            self.now = at;
            self.happen(due);
            if self.queue.planned() > EVENTS_MAX {
                self.violate(Invariant::Runaway, format!("{EVENTS_MAX} events were not enough"));
            }
        }
        self.now = self.now.max(end);
    }

    /// Notes a violation; the first one ends the run.
    pub(super) fn violate(&mut self, invariant: Invariant, text: String) {
        self.judged(Err(Violation { at: self.now, invariant, text }));
    }

    pub(super) fn judged(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.note(|| format!("VIOLATION {}: {}", violation.invariant.text(), violation.text));
            self.violation.get_or_insert(violation);
        }
    }

    /// Adds a line to the trace, if there is one.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let us = self.now / US;
            let _ = writeln!(trace, "{:>10}.{:03} ms  {}", us / 1000, us % 1000, line());
        }
    }

    /// The trace so far.
    pub(super) fn take_trace(&mut self) -> String {
        self.trace.take().unwrap_or_default()
    }

    /// Whether that life of the agent is there.
    fn lives(&self, node: u8, life: u32) -> bool {
        let machine = &self.machines[usize::from(node)];
        machine.life == life && machine.agent.is_some()
    }

    fn happen(&mut self, due: Due) {
        if let Some(node) = due.of_machine()
            && self.machines[usize::from(node)].is_frozen
        {
            // Whatever the machine would do, it does when it goes on.
            let later = self.machines[usize::from(node)].thaws_at.max(self.now) + 1 + self.rng.below(MS);
            self.queue.plan(later, due);
            return;
        }
        match due {
            Due::Frame { to, link, packet, forged } => self.arrive(to, link, packet, forged),
            Due::Round { node, life, timer } => {
                let is_due = |agent: &Agent| timer.is_none_or(|timer| agent.armed == timer);
                if self.lives(node, life)
                    && self.machines[usize::from(node)].agent.as_ref().is_some_and(is_due)
                {
                    self.round(node);
                }
            }
            Due::Read { node, life } if self.lives(node, life) => self.go_on(node),
            Due::Act { node, life } if self.lives(node, life) => self.act(node),
            Due::Effect { node, life, group, acquires, attempt } if self.lives(node, life) => {
                self.effect(node, group, acquires, attempt);
            }
            Due::Resume { node, life } if self.lives(node, life) => self.resume_now(node),
            Due::Start { node, life } => {
                let machine = &self.machines[usize::from(node)];
                if machine.life == life && machine.agent.is_none() {
                    self.start(node);
                }
            }
            Due::Read { .. } | Due::Act { .. } | Due::Effect { .. } | Due::Resume { .. } => {}
            Due::Thaw { node } => self.thaw(node),
            Due::Reload { node } => self.reload(node),
            Due::Unslew { node } => self.unslew(node),
            Due::Forget { voter, holder } => self.forget(voter, holder),
            Due::Fault => self.fault(),
            Due::Heal => self.net.heal(),
            Due::Replay => self.replay(),
            Due::Stage => self.next_stage(),
        }
    }

    fn arrive(&mut self, to: u8, link: u8, index: u32, forged: bool) {
        let packet = *self.pool.get(index);
        self.pool.leave(index);
        let machine = &mut self.machines[usize::from(to)];
        if !machine.is_up || machine.is_frozen {
            return;
        }
        let now = self.now;
        let stamp = machine.clock.at(now);
        if packet.has_claims {
            (0..GROUPS).for_each(|group| self.oracle.settle(machine, group, now));
        }
        let taken = machine.kernel.receive(&packet, link, stamp);
        if packet.has_claims {
            (0..GROUPS).for_each(|group| self.oracle.resume(machine, group, now));
        }
        self.oracle.witness.replays_taken += u64::from(forged && taken.accepted);
        self.told(to, taken);
    }

    /// What a frame that was taken means to the agent.
    fn told(&mut self, to: u8, taken: Taken) {
        let machine = &mut self.machines[usize::from(to)];
        for group in (0..8).filter(|group| taken.raised >> group & 1 == 1) {
            let gate = &machine.kernel.gates[usize::from(group)];
            if gate.expiry > machine.clock.at(self.now) && gate.epoch < gate.bar {
                self.oracle.witness.shut_by_bar += 1;
            }
            machine.tell(Message::Bar { group });
        }
        if taken.raised != 0 || taken.news {
            self.wake(to);
        }
    }

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
    fn round(&mut self, node: u8) {
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
    fn go_on(&mut self, node: u8) {
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
                    Step::Send { packet: self.pool.add(packet), links }
                }
                action => Step::Other(action),
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
    fn act(&mut self, node: u8) {
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
    }

    fn plan_effect(&mut self, node: u8, group: u8, attempt: u32, acquires: bool) {
        let most = if self.rng.chance(30) { 50 * MS } else { 500 * US };
        let at = self.now + self.rng.below(most);
        let life = self.machines[usize::from(node)].life;
        self.queue.plan(at, Due::Effect { node, life, group, acquires, attempt });
    }

    fn effect(&mut self, node: u8, group: u8, acquires: bool, attempt: u32) {
        let machine = &mut self.machines[usize::from(node)];
        machine.addresses[usize::from(group)] = acquires;
        let Some(id) = agent_common::GroupId::new(group) else { return };
        let resource = agent_core::ResourceRef { group: id, index: 0 };
        machine.tell(Message::Ended { resource, attempt, acquires });
        self.wake(node);
    }

    fn send(&mut self, node: u8, index: u32, links: u8) {
        let packet = *self.pool.get(index);
        let verdict = self.oracle.sent(&packet, &self.machines, self.now);
        self.judged(verdict);
        for link in (0..self.plan.links).filter(|link| links >> link & 1 == 1) {
            for to in (0..self.plan.total()).filter(|to| *to != node) {
                for delay in self.net.carry(node, to, link, &mut self.rng).into_iter().flatten() {
                    self.pool.share(index);
                    self.queue
                        .plan(self.now + 1 + delay, Due::Frame { to, link, packet: index, forged: false });
                }
            }
        }
        if self.plan.replay_every != 0 && self.rng.chance(150) {
            self.record(index);
        } else {
            self.pool.leave(index);
        }
    }

    /// The attacker keeps a heartbeat, in the place of another when its memory is full.
    fn record(&mut self, index: u32) {
        let link = self.rng.below(u64::from(self.plan.links)) as u8;
        if self.recorded.len() < RECORDED {
            self.recorded.push((index, link));
        } else {
            let place = self.rng.below(RECORDED as u64) as usize;
            let (old, _) = std::mem::replace(&mut self.recorded[place], (index, link));
            self.pool.leave(old);
        }
    }

    /// The attacker sends something again: one heartbeat, or a row of them, to one node or to all.
    fn replay(&mut self) {
        if self.is_calm {
            return;
        }
        let known = self.recorded.len() as u64;
        let row = if self.rng.chance(100) { 1 + self.rng.below(40) } else { 1 };
        let first = self.rng.below(known.max(1));
        let victim = self.rng.below(u64::from(self.plan.total())) as u8;
        for step in 0..row.min(known) {
            let (index, link) = self.recorded[((first + step) % known) as usize];
            self.pool.share(index);
            self.oracle.witness.replayed += 1;
            let due = Due::Frame { to: victim, link, packet: index, forged: true };
            self.queue.plan(self.now + 1 + step, due);
        }
        let wait = 1 + self.rng.below(2 * self.plan.replay_every);
        self.queue.plan(self.now + wait, Due::Replay);
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
            }
        }
    }

    /// The agent of `node` starts. Without carried state it shuts the gates that it finds before it speaks.
    pub(super) fn start(&mut self, node: u8) {
        let index = usize::from(node);
        if node >= self.machines[index].votes.listed {
            return;
        }
        let keeps_gates = self.broken.is_some_and(Broken::inherits_gates);
        let next = std::mem::replace(&mut self.machines[index].next, Next::Fresh);
        let is_carried = matches!(next, Next::Carried(_));
        if !is_carried && !keeps_gates {
            for group in 0..usize::from(self.plan.groups) {
                self.write_gate(node, group, 0, Instant::ZERO);
            }
        }
        let forgets = self.rng.chance(700);
        let (now, generation) = (self.now, self.plan.generation);
        let machine = &mut self.machines[index];
        machine.is_up = true;
        machine.life += 1;
        machine.has_opened = [is_carried; GROUPS];
        let local = machine.clock.at(now);
        let mut config = self.plan.config(node, &machine.votes);
        config.wall_ms_at_zero = machine.wall_ms_at_zero;
        config.timing.deadtime = std::time::Duration::from_micros(machine.deadtime_us);
        config.mutated = machine.mutated;
        config.seed = self.rng.next();
        let wall_ms = machine.wall_ms_at_zero + local.0 / MS;
        match next {
            Next::Fresh => {
                machine.disk = match generation {
                    Generation::File => machine.disk + 1,
                    Generation::Time => wall_ms,
                };
            }
            Next::Incarnation(incarnation) => machine.disk = incarnation,
            Next::Carried(carried) => {
                machine.disk = carried.incarnation;
                config.start = agent_core::config::Start::Carried(carried);
            }
        }
        config.incarnation = machine.disk;
        let went_back =
            machine.disk <= machine.highest && !self.broken.is_some_and(Broken::repeats_incarnations);
        machine.highest = machine.highest.max(machine.disk);
        if !is_carried {
            self.oracle.lives(node, went_back);
            (machine.stood_by, machine.in_maintenance) = (false, false);
            machine.addresses = [false; GROUPS];
            machine.kernel.forget(true);
        } else if forgets {
            machine.kernel.forget(false);
        }
        machine.kernel.ours = machine.disk;
        machine.kernel.nodes = (1 << machine.votes.listed) - 1;
        let mut agent = Agent::new(Node::new(&config, local));
        if machine.slewed != 0 {
            agent.inbox.push(Message::Slew { ppm: machine.slewed });
        }
        for group in (0..self.plan.groups).filter(|group| machine.kernel.gates[usize::from(*group)].bar != 0)
        {
            agent.inbox.push(Message::Bar { group });
        }
        machine.agent = Some(agent);
        let disk = machine.disk;
        self.oracle.witness.carried += u64::from(is_carried);
        self.note(|| {
            let how = if is_carried { "with carried state" } else { "afresh" };
            format!("node {node} starts {how}, incarnation {disk}")
        });
        self.wake(node);
    }

    /// The agent of `node` ends, whatever it was doing. Its gates stay.
    pub(super) fn kill(&mut self, node: u8) {
        let now = self.now;
        let machine = &mut self.machines[usize::from(node)];
        let Some(agent) = machine.agent.take() else { return };
        for step in agent.steps {
            if let Step::Send { packet, .. } = step {
                self.pool.leave(packet);
            }
        }
        let in_lease = (0..GROUPS).any(|group| machine.is_open(group, now));
        self.oracle.witness.restarts_in_lease += u64::from(in_lease);
        if self.broken.is_some_and(Broken::leaves_gates_open) {
            for gate in machine.kernel.gates.iter_mut().filter(|gate| gate.expiry != Instant::ZERO) {
                gate.expiry = Instant(u64::MAX / 4);
            }
        }
    }

    /// A paused agent goes on where it was.
    pub(super) fn resume_now(&mut self, node: u8) {
        let life = self.machines[usize::from(node)].life;
        let Some(agent) = self.machines[usize::from(node)].agent.as_mut() else { return };
        agent.is_paused = false;
        self.note(|| format!("node {node} goes on"));
        self.queue.plan(self.now + 1, Due::Read { node, life });
        self.queue.plan(self.now + 2, Due::Act { node, life });
        self.queue.plan(self.now + 3, Due::Round { node, life, timer: None });
    }
}
