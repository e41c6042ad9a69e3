//! The run of one seed: machines, network and attacker under true time, one event after the other.

use std::fmt::Write as _;

use agent_core::config::Mutated;

use crate::sim::Rng;

use super::clock::Clock;
use super::kernel::{Kernel, Taken};
use super::machine::{Agent, Machine, Message};
use super::mutation::Broken;
use super::net::Network;
use super::oracle::Oracle;
use super::outside::Outside;
use super::packet::{GROUPS, NODES, Pool};
use super::plan::{MS, Plan, US, Votes};
use super::queue::{Due, Queue};
use super::report::{Invariant, Violation};
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
    pub(super) pool: Pool,
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
    pub(super) slow: bool,
    /// Who reaches what outside of the cluster.
    pub(super) outside: Outside,
}

impl World {
    /// The world of `seed` before anything has happened.
    pub(super) fn new(seed: u64, how: How) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let mut plan = Plan::of(&mut rng);
        if how.short {
            plan.storm /= 3;
        }
        let votes = Votes { number: 1, listed: plan.nodes, change: None };
        let total = plan.total();
        let majority = if how.by_effect { 0 } else { plan.majority() };
        let mut world = Self {
            net: Network::new(plan.path),
            queue: Queue::default(),
            now: 0,
            pool: Pool::default(),
            machines: Vec::with_capacity(NODES),
            oracle: Oracle::new((total, plan.nodes), plan.groups, majority, plan.one_server()),
            broken: how.broken,
            recorded: Vec::new(),
            is_calm: false,
            stage: 0,
            counted_from: 0,
            violation: None,
            trace: how.traced.then(String::new),
            slow: false,
            outside: Outside::default(),
            rng,
            plan,
        };
        for id in 0..total {
            let machine = world.boot(id, votes);
            world.machines.push(machine);
        }
        world.open_outside();
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
        for (link, pace) in machine.kernel.paces_us.iter_mut().zip(0..).take(usize::from(self.plan.links)) {
            *link = u32::try_from(self.plan.pace(pace).as_micros()).unwrap_or(u32::MAX);
        }
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
            Due::Ping { node, life } if self.lives(node, life) => self.ping(node),
            Due::Pong { node, life, sent } if self.lives(node, life) => self.pong(node, sent),
            Due::Ping { .. } | Due::Pong { .. } => {}
            Due::Reached { node } => self.outside.answers(node),
            Due::Outside => self.change_outside(),
            Due::Roll { node } => self.roll(node),
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

    pub(super) fn send(&mut self, node: u8, index: u32, links: u8) {
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
}
