//! All groups of this node: each with its claim and its resources. Looks at those that something happened to; a steady heartbeat
//! renews leases and touches nothing else.

mod shown;

use alloc::vec::Vec;

use agent_common::ids::MAX_GROUPS;
use agent_common::{GroupId, NodeId};

use crate::action::{Action, Change, ResourceRef};
use crate::config::{Config, GateKind, Start};
use crate::event::Failure;
use crate::group::{Group, Input, Phase};
use crate::lease::Leases;
use crate::lease::ask::Facts;
use crate::lease::tenure::{Order, Tenure};
use crate::life::Life;
use crate::membership::View;
use crate::mutation::Mutated;
use crate::outgoing::Outgoing;
use crate::peer::Peer;
use crate::queue::Actions;
use crate::resource::{Effect, Input as ResourceInput, Resource};
use crate::snapshot::{GroupState, GroupView};
use crate::time::Instant;

/// A decision may end a phase that another decision waits for; more than this in one round does not happen.
const PASSES: usize = 3;

/// What the groups are judged by.
pub(crate) struct Scene<'a> {
    /// This node.
    pub(crate) me: NodeId,
    /// Who is here.
    pub(crate) view: &'a View,
    /// The peers themselves.
    pub(crate) peers: &'a [Peer],
    /// Heartbeats sent and promises received.
    pub(crate) leases: &'a Leases,
    /// Where this node is in its life.
    pub(crate) life: Life,
    /// Whether decisions are suspended.
    pub(crate) maintenance: bool,
    /// Milliseconds since 1970.
    pub(crate) wall_ms: u64,
    /// The round's time.
    pub(crate) now: Instant,
}

/// One group with its place in the list of resources, and what was last said of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) group: Group,
    pub(crate) tenure: Tenure,
    first: usize,
    end: usize,
    /// When the resources, and when anything wants to be looked at again.
    resources_wake: Instant,
    wake: Instant,
    shown: (GroupState, Option<NodeId>),
    pub(crate) facts: Facts,
    fenced_itself: bool,
}

/// All groups.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    pub(crate) entries: Vec<Entry>,
    resources: Vec<Resource>,
    /// Bit for each group that must be looked at.
    dirty: u64,
    wake: Instant,
    stuck: bool,
}

impl Groups {
    /// The groups of `config`, nothing of them here.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let mut groups = Self {
            entries: Vec::with_capacity(config.groups.len().min(MAX_GROUPS)),
            resources: Vec::new(),
            dirty: 0,
            wake: Instant::NEVER,
            stuck: false,
        };
        for (id, group) in GroupId::all().zip(&config.groups) {
            let first = groups.resources.len();
            let end = first + usize::from(group.resources);
            groups.resources.resize(end, Resource::new());
            let group = Group::new(id, group, &config.nodes);
            let seed = config.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ u64::from(id.raw()) << 40
                ^ u64::from(config.me.raw()) << 48;
            let mut tenure = Tenure::new(id, seed);
            if let Start::Carried(carried) = &config.start
                && let Some(carried) = carried.groups.get(id.index())
            {
                tenure.restore(carried, config.me, now);
            }
            groups.entries.push(Entry {
                group,
                tenure,
                first,
                end,
                resources_wake: Instant::NEVER,
                wake: Instant::NEVER,
                shown: (GroupState::Stopped, None),
                facts: Facts::default(),
                fenced_itself: false,
            });
        }
        groups.mark_all();
        groups
    }

    /// Every group must be looked at.
    pub(crate) fn mark_all(&mut self) {
        for (_, bit) in self.entries.iter().zip(0_u32..64) {
            self.dirty |= 1 << bit;
        }
    }

    /// Held addresses are announced again once no rival is left.
    pub(crate) fn mark_announce(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.group.announce = true);
        self.mark_all();
    }

    /// Whether something must be looked at.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.dirty != 0
    }

    /// When something wants to be tried again.
    pub(crate) const fn wake(&self) -> Instant {
        self.wake
    }

    /// Whether a resource could not be released, and nothing but its absence keeps it from answering.
    pub(crate) const fn is_unsafe(&self, gate: GateKind) -> bool {
        match gate {
            GateKind::Kernel => false,
            GateKind::Userspace => self.stuck,
        }
    }

    /// Whether nothing is here and nothing is claimed.
    pub(crate) fn are_at_rest(&self) -> bool {
        self.entries.iter().all(|entry| entry.group.is_at_rest() && !entry.tenure.is_active())
    }

    /// Whether a group waits for a tie-break to take it from a dead peer.
    pub(crate) fn lack_tie_break(&self) -> bool {
        self.entries.iter().any(|entry| entry.tenure.lacks_tie_break())
    }

    /// Bit for each group of which `of` is true.
    pub(crate) fn mask(&self, of: impl Fn(&Entry) -> bool) -> u64 {
        let bits = self.entries.iter().zip(0_u32..64);
        bits.fold(0, |mask, (entry, bit)| mask | u64::from(of(entry)) << bit)
    }

    /// Changes the groups of `mask`, which must be looked at then.
    pub(crate) fn each(&mut self, mask: u64, change: impl Fn(&mut Entry)) {
        let chosen = self.entries.iter_mut().zip(0_u32..64).filter(|(_, bit)| mask & 1 << bit != 0);
        chosen.for_each(|(entry, _)| change(entry));
        self.dirty |= mask & self.mask(|_| true);
    }

    /// The kernel's bar of a group rose.
    pub(crate) fn raise_bar(&mut self, group: GroupId, epoch: u64) {
        if let Some(entry) = self.entries.get_mut(group.index()) {
            entry.tenure.raise_bar(epoch);
            self.dirty |= 1 << group.index();
        }
    }

    /// A node started anew: its votes are gone, and those for its earlier life.
    pub(crate) fn forget(&mut self, node: NodeId, mutated: Mutated) {
        self.entries.iter_mut().for_each(|entry| entry.tenure.forget(node, mutated));
    }

    /// An effect ended.
    pub(crate) fn answer(
        &mut self,
        at: ResourceRef,
        effect: Effect,
        attempt: u32,
        result: Result<(), Failure>,
        now: Instant,
        out: &mut Actions,
    ) {
        let Some((entry, resource)) = find(&mut self.entries, &mut self.resources, at) else { return };
        let before = resource.tries();
        let follow_up = resource.answer(effect, attempt, result, now);
        entry.group.emit(at.index, follow_up, out);
        if let (Err(failure), None, Some(attempts)) = (result, before, resource.tries()) {
            out.tell(now, Change::Failed { resource: at, failure, attempts });
        }
        self.dirty |= 1 << at.group.index();
    }

    /// Somebody removed a resource. *Maintenance*: it is put back when that is over.
    pub(crate) fn vanished(&mut self, at: ResourceRef, maintenance: bool, now: Instant, out: &mut Actions) {
        let Some((entry, resource)) = find(&mut self.entries, &mut self.resources, at) else { return };
        let before = resource.state();
        if maintenance {
            resource.note_missing();
        } else {
            entry.group.emit(at.index, resource.feed(ResourceInput::Vanished, now), out);
        }
        if before == crate::resource::State::Held {
            out.tell(now, Change::Vanished { resource: at });
        }
        self.dirty |= 1 << at.group.index();
    }

    /// A resource was found here. One that is about to be acquired is adopted, any other is released.
    pub(crate) fn found(&mut self, at: ResourceRef, now: Instant, out: &mut Actions) {
        let Some((entry, resource)) = find(&mut self.entries, &mut self.resources, at) else { return };
        self.dirty |= 1 << at.group.index();
        match entry.group.phase() {
            Phase::Starting | Phase::Serving => return,
            // What was carried over is taken up again in this round.
            Phase::Stopped if entry.tenure.is_active() => return,
            Phase::Stopped | Phase::Stopping | Phase::Failing | Phase::Failed => {}
        }
        entry.group.feed(Input::Stray);
        let effect = resource.feed(ResourceInput::Found, now);
        entry.group.emit(at.index, effect, out);
    }

    /// Renews the leases that rest on promises which moved; those that changed by more are looked at.
    pub(crate) fn renew(&mut self, scene: &Scene<'_>, out: &mut Actions) {
        let mut memo = None;
        let mut wake = Instant::NEVER;
        for (entry, bit) in self.entries.iter_mut().zip(0_u32..64) {
            if entry.tenure.awaits_votes() && self.dirty & 1 << bit == 0 {
                if entry.tenure.renew(scene, &mut memo, scene.now, out) {
                    entry.wake = entry.tenure.wake().min(entry.resources_wake);
                } else {
                    self.dirty |= 1 << bit;
                }
            }
            wake = wake.min(entry.wake);
        }
        self.wake = wake;
    }

    /// Looks at every group that something happened to; true when the table changed.
    pub(crate) fn review(&mut self, scene: &Scene<'_>, table: &mut Outgoing, out: &mut Actions) -> bool {
        if self.wake <= scene.now {
            for (entry, bit) in self.entries.iter().zip(0_u32..64) {
                self.dirty |= u64::from(entry.wake <= scene.now) << bit;
            }
        }
        if self.dirty == 0 {
            return false;
        }
        let mut changed = false;
        let dirty = core::mem::take(&mut self.dirty);
        let marked = self.entries.iter_mut().zip(0_u32..64).filter(|(_, bit)| dirty & 1 << bit != 0);
        for (entry, _) in marked {
            let resources = self.resources.get_mut(entry.first..entry.end).unwrap_or_default();
            entry.review(scene, resources, out);
            changed |= table.claim(entry.group.id, entry.tenure.row(scene.me));
        }
        self.wake = self.entries.iter().map(|entry| entry.wake).fold(Instant::NEVER, Instant::min);
        self.stuck = self.resources.iter().any(Resource::is_stuck);
        changed
    }

    /// The groups for people.
    pub(crate) fn view_into(&self, me: NodeId, peers: &[Peer], out: &mut Vec<GroupView>, now: Instant) {
        out.clear();
        out.extend(self.entries.iter().map(|entry| entry.view(me, peers, now)));
    }
}

impl Entry {
    fn review(&mut self, scene: &Scene<'_>, resources: &mut [Resource], out: &mut Actions) {
        let now = scene.now;
        if !scene.maintenance {
            self.repair(resources, now, out);
        }
        for _ in 0..PASSES {
            self.group.rest_until(now);
            let before = (self.group.phase(), self.tenure.phase());
            self.facts = Facts::of(&self.group, scene);
            match self.tenure.review(&self.group, &self.facts, scene, now, out) {
                Order::Serve => self.group.feed(Input::Take),
                Order::Keep => {}
                Order::Rest => self.group.feed(Input::Yield),
            }
            self.group.drive(resources, now, out);
            if (self.group.phase(), self.tenure.phase()) == before {
                break;
            }
        }
        self.announce(resources, out);
        self.fence_itself(scene, resources, out);
        self.resources_wake = self.group.wake(resources);
        self.wake = self.resources_wake.min(self.tenure.wake());
        self.show(scene.me, resources, now, out);
    }

    /// Puts back what was removed while nothing was repaired.
    fn repair(&mut self, resources: &mut [Resource], now: Instant, out: &mut Actions) {
        for (resource, index) in resources.iter_mut().zip(0_u8..) {
            if resource.take_missing() {
                self.group.emit(index, resource.feed(ResourceInput::Vanished, now), out);
            }
        }
    }

    /// A lost lease that cannot be withdrawn: no gate in the kernel is there to shut.
    fn fence_itself(&mut self, scene: &Scene<'_>, resources: &[Resource], out: &mut Actions) {
        let is_stuck = scene.leases.gate() == GateKind::Userspace
            && self.tenure.lease().is_none()
            && resources.iter().any(Resource::is_stuck);
        if is_stuck && !self.fenced_itself {
            out.push(Action::SelfFence { group: self.group.id });
        }
        self.fenced_itself = is_stuck;
    }

    /// The winner announces again once the rival has let go, or after a peer returned that claims nothing.
    fn announce(&mut self, resources: &[Resource], out: &mut Actions) {
        let has_rival = self.facts.holder.is_some();
        if self.tenure.lease().is_none() {
            self.group.announce = false;
        } else if has_rival {
            self.group.announce = true;
        }
        let unread = !self.facts.unread.is_empty();
        if self.group.announce && !has_rival && !unread && self.group.phase() == Phase::Serving {
            self.group.announce = false;
            self.group.announce_again(resources, out);
        }
    }
}

/// The group and the resource of `at`, if they exist.
fn find<'a>(
    entries: &'a mut [Entry],
    resources: &'a mut [Resource],
    at: ResourceRef,
) -> Option<(&'a mut Entry, &'a mut Resource)> {
    let entry = entries.get_mut(at.group.index())?;
    let place = entry.first + usize::from(at.index);
    let resource = (place < entry.end).then(|| resources.get_mut(place)).flatten()?;
    Some((entry, resource))
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
