//! Agents replaced one after the other, with their state, by one that is not heard for a while after its start: nobody is called
//! dead, and every group is served all the time.

use agent_core::{Carried, Operator, PeerState};

use super::machine::Next;
use super::plan::{Kind, nanos};
use super::queue::Due;
use super::report::Invariant;
use super::world::World;

/// How often every agent is replaced.
const TURNS: u64 = 2;
/// Served for less than the whole time by more than this, nanoseconds, is a gap.
const ROUNDING: u64 = 1_000;

impl World {
    /// The first agent is replaced, and all others after it.
    pub(super) fn roll_all(&mut self) {
        self.count_from_now();
        let step = 7 * nanos(self.plan.timing.deadtime);
        let nodes = u64::from(self.plan.nodes);
        for turn in 0..TURNS * nodes {
            self.queue.plan(self.now + 1 + turn * step, Due::Roll { node: (turn % nodes) as u8 });
        }
        self.queue.plan(self.now + (TURNS * nodes + 1) * step, Due::Stage);
    }

    /// The operator wants the agent of `node` replaced.
    pub(super) fn roll(&mut self, node: u8) {
        let machine = &mut self.machines[usize::from(node)];
        let ticket = machine.command(Operator::Pause);
        if let Some(agent) = machine.agent.as_mut() {
            agent.pausing = ticket;
        }
        self.note(|| format!("node {node} is to be replaced"));
        self.wake(node);
    }

    /// The pause is granted: the next agent starts within half a deadtime, and nobody hears it at first.
    pub(super) fn replace(&mut self, node: u8, carried: Carried) {
        self.note(|| format!("node {node}: state handed over"));
        self.kill(node);
        let deadtime = nanos(self.plan.timing.deadtime);
        let machine = &mut self.machines[usize::from(node)];
        machine.next = Next::Carried(Box::new(carried));
        let life = machine.life;
        let wait = 1 + self.rng.below(deadtime / 2);
        self.queue.plan(self.now + wait, Due::Start { node, life });
        for to in (0..self.plan.total()).filter(|to| *to != node) {
            (0..self.plan.links).for_each(|link| self.net.path(node, to, link).cut = true);
        }
        let unheard = self.rng.below(3 * deadtime);
        self.queue.plan(self.now + wait + unheard, Due::Heal);
        self.oracle.witness.rolled += 1;
    }

    /// Nobody is called dead while agents are replaced.
    pub(super) fn dies_in_a_restart(&mut self, node: u8, peer: usize, to: PeerState) {
        if self.plan.kind == Kind::Restarts && self.stage == 1 && to == PeerState::Dead {
            self.violate(
                Invariant::Gap,
                format!("node {node} calls {peer} dead, which is only being replaced"),
            );
        }
    }

    /// Every group was served all the time.
    pub(super) fn check_no_gap(&mut self) {
        self.book();
        let span = self.now - self.counted_from;
        for group in 0..usize::from(self.plan.groups) {
            let missed = span.saturating_sub(self.oracle.served[group]);
            if missed > ROUNDING {
                let text = format!(
                    "group {group} was not served for {} us while agents were replaced",
                    missed / 1000
                );
                return self.violate(Invariant::Gap, text);
            }
        }
    }
}
