//! The beginning and the end of an agent, and its going on after a pause.

use agent_core::config::Start;
use agent_core::{Config, Instant, Node};

use super::machine::{Agent, Machine, Message, Next, Step};
use super::mutation::Broken;
use super::packet::GROUPS;
use super::plan::{Generation, MS};
use super::queue::Due;
use super::world::World;

impl World {
    /// The agent of `node` starts. Without carried state it shuts the gates that it finds before it speaks.
    pub(super) fn start(&mut self, node: u8) {
        let index = usize::from(node);
        if node >= self.machines[index].votes.listed && !self.plan.is_joined(node) {
            return;
        }
        let learns = self.plan.is_joined(node) || (self.plan.joined != 0 && self.rng.chance(400));
        self.machines[index].knows_joined |= learns;
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
        let mut config = self.plan.config(node, &machine.votes, machine.knows_joined);
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
                config.start = Start::Carried(carried);
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
        machine.kernel.nodes = (1 << config.nodes.len()) - 1;
        let score = (self.plan.pings != 0).then(|| self.outside.score(node));
        machine.agent = Some(agent(machine, &config, score, local));
        let disk = machine.disk;
        self.oracle.witness.carried += u64::from(is_carried);
        self.note(|| {
            let how = if is_carried { "with carried state" } else { "afresh" };
            format!("node {node} starts {how}, incarnation {disk}")
        });
        self.wake(node);
        self.ping(node);
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

/// The agent of `machine`, and what its shell tells it first.
fn agent(machine: &Machine, config: &Config, score: Option<u8>, local: Instant) -> Agent {
    let mut agent = Agent::new(Node::new(config, local));
    if let Start::Carried(carried) = &config.start {
        agent.take_over(carried, config.nodes.len(), local);
    }
    if let Some(score) = score {
        agent.inbox.push(Message::Reach { score });
    }
    if machine.slewed != 0 {
        agent.inbox.push(Message::Slew { ppm: machine.slewed });
    }
    for (group, gate) in (0..).zip(&machine.kernel.gates) {
        if gate.bar != 0 {
            agent.inbox.push(Message::Bar { group });
        }
    }
    agent
}
