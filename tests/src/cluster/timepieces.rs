//! What happens to clocks: they drift, are slewed, and stand still with their machine.

use super::machine::Message;
use super::plan::{self, MS};
use super::queue::Due;
use super::world::World;

impl World {
    /// A clock goes faster or slower from now on; or it is slewed for a while, and the agent knows before it begins.
    pub(super) fn drift(&mut self, node: u8) {
        let machine = &mut self.machines[usize::from(node)];
        if machine.slewed == 0 && machine.agent.is_some() && self.rng.chance(300) {
            let ppm = 501 + self.rng.below(83_333).cast_signed();
            let ppm = if self.rng.chance(500) { ppm } else { -ppm };
            self.machines[usize::from(node)].tell(Message::Slew { ppm });
            self.wake(node);
        } else if machine.slewed == 0 {
            let ppm = plan::ppm(&mut self.rng);
            self.set_rate(node, ppm);
        }
    }

    /// The agent has been told: the slewing begins.
    pub(super) fn slew(&mut self, node: u8, ppm: i64) {
        if self.is_calm || self.machines[usize::from(node)].slewed == ppm {
            return;
        }
        self.machines[usize::from(node)].slewed = ppm;
        if ppm != 0 {
            self.oracle.slewed(node, ppm);
            self.set_rate(node, ppm);
            let span = self.deadtimes(12);
            self.queue.plan(self.now + 1 + span, Due::Unslew { node });
        }
    }

    /// The slewing is over, and then the agent is told.
    pub(super) fn unslew(&mut self, node: u8) {
        let ppm = self.plan.ppm[usize::from(node)];
        if std::mem::take(&mut self.machines[usize::from(node)].slewed) != 0 {
            self.oracle.slewed(node, 0);
            self.set_rate(node, ppm);
            self.machines[usize::from(node)].tell(Message::Slew { ppm: 0 });
            self.wake(node);
        }
    }

    fn set_rate(&mut self, node: u8, ppm: i64) {
        let (index, now) = (usize::from(node), self.now);
        (0..usize::from(self.plan.groups)).for_each(|group| {
            self.oracle.settle(&self.machines[index], group, now);
        });
        self.machines[index].clock.drift(now, ppm);
        (0..usize::from(self.plan.groups)).for_each(|group| {
            self.oracle.resume(&self.machines[index], group, now);
        });
        self.note(|| format!("node {node}: its clock errs by {ppm} ppm"));
    }

    /// The whole machine stands still, its clock too.
    pub(super) fn freeze(&mut self, node: u8) {
        let span = 1 + self.deadtimes(6);
        let (index, now) = (usize::from(node), self.now);
        if self.machines[index].is_frozen {
            return;
        }
        (0..usize::from(self.plan.groups)).for_each(|group| {
            self.oracle.settle(&self.machines[index], group, now);
        });
        let machine = &mut self.machines[index];
        machine.clock.stop(now);
        (machine.is_frozen, machine.thaws_at) = (true, now + span);
        self.note(|| format!("node {node}: the machine stands still for {} ms", span / MS));
        self.queue.plan(now + span, Due::Thaw { node });
    }

    /// It goes on.
    pub(super) fn thaw(&mut self, node: u8) {
        let (index, now) = (usize::from(node), self.now);
        let machine = &mut self.machines[index];
        if !machine.is_frozen {
            return;
        }
        machine.clock.go(now);
        machine.is_frozen = false;
        let machine = &self.machines[index];
        self.oracle.thaw(machine, now);
        (0..usize::from(self.plan.groups)).for_each(|group| self.oracle.resume(machine, group, now));
        self.note(|| format!("node {node}: the machine goes on"));
    }
}
