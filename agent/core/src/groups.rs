//! All groups of this node: collects the facts of those that something happened to, has the owner policy decide, and
//! drives their resources. A steady heartbeat touches none of this.

use alloc::vec::Vec;

use agent_common::ids::MAX_GROUPS;
use agent_common::{Claim, GroupId, NodeId, NodeSet};

use crate::action::{Change, ResourceRef};
use crate::config::Config;
use crate::event::Failure;
use crate::group::{Group, Input, Phase};
use crate::life::Life;
use crate::membership::View;
use crate::outgoing::Outgoing;
use crate::owner::{Decision, Facts, Holder, Mine, OwnerPolicy};
use crate::peer::Peer;
use crate::queue::Actions;
use crate::resource::{Effect, Input as ResourceInput, Resource};
use crate::snapshot::{GroupState, GroupView, Reason};
use crate::time::Instant;

/// A decision may end a phase that another decision waits for; more than this in one round does not happen.
const PASSES: usize = 2;

/// What the groups are judged by.
pub(crate) struct Scene<'a> {
    /// This node.
    pub(crate) me: NodeId,
    /// Who is here.
    pub(crate) view: &'a View,
    /// The peers themselves.
    pub(crate) peers: &'a [Peer],
    /// Where this node is in its life.
    pub(crate) life: Life,
    /// Whether it has been with a majority for long enough to know who holds what.
    pub(crate) is_settled: bool,
    /// Milliseconds since 1970.
    pub(crate) wall_ms: u64,
}

/// One group with its place in the list of resources, and what was last said of it.
#[derive(Clone, Debug)]
struct Entry {
    group: Group,
    first: usize,
    end: usize,
    wake: Instant,
    shown: (GroupState, Option<NodeId>),
    holder: Option<Holder>,
}

/// All groups.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    entries: Vec<Entry>,
    resources: Vec<Resource>,
    /// Bit for each group that must be looked at.
    dirty: u64,
    wake: Instant,
    stuck: bool,
    highest_epoch: u64,
}

impl Groups {
    /// The groups of `config`, nothing of them here.
    pub(crate) fn new(config: &Config) -> Self {
        let mut groups = Self {
            entries: Vec::with_capacity(config.groups.len().min(MAX_GROUPS)),
            resources: Vec::new(),
            dirty: 0,
            wake: Instant::NEVER,
            stuck: false,
            highest_epoch: 0,
        };
        for (id, group) in GroupId::all().zip(&config.groups) {
            let first = groups.resources.len();
            let end = first + usize::from(group.resources);
            groups.resources.resize(end, Resource::new());
            let group = Group::new(id, group);
            let shown = (GroupState::Stopped, None);
            groups.entries.push(Entry { group, first, end, wake: Instant::NEVER, shown, holder: None });
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

    /// Whether a resource could not be released.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Whether nothing is here.
    pub(crate) fn are_at_rest(&self) -> bool {
        self.entries.iter().all(|entry| entry.group.is_at_rest())
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

    /// Somebody removed a resource.
    pub(crate) fn vanished(&mut self, at: ResourceRef, now: Instant, out: &mut Actions) {
        let Some((entry, resource)) = find(&mut self.entries, &mut self.resources, at) else { return };
        let before = resource.state();
        let repair = resource.feed(ResourceInput::Vanished, now);
        entry.group.emit(at.index, repair, out);
        if before == crate::resource::State::Held {
            out.tell(now, Change::Vanished { resource: at });
        }
        self.dirty |= 1 << at.group.index();
    }

    /// A resource was found here. One that is about to be acquired is adopted, any other is released.
    pub(crate) fn found(&mut self, at: ResourceRef, now: Instant, out: &mut Actions) {
        let Some((entry, resource)) = find(&mut self.entries, &mut self.resources, at) else { return };
        match entry.group.phase() {
            Phase::Starting | Phase::Serving => return,
            Phase::Stopped | Phase::Stopping | Phase::Failing | Phase::Failed => {}
        }
        entry.group.feed(Input::Stray);
        let effect = resource.feed(ResourceInput::Found, now);
        entry.group.emit(at.index, effect, out);
        self.dirty |= 1 << at.group.index();
    }

    /// Looks at every group that something happened to; true when the table changed.
    pub(crate) fn review(
        &mut self,
        policy: &impl OwnerPolicy,
        scene: &Scene<'_>,
        table: &mut Outgoing,
        now: Instant,
        out: &mut Actions,
    ) -> bool {
        if self.wake <= now {
            for (entry, bit) in self.entries.iter().zip(0_u32..64) {
                self.dirty |= u64::from(entry.wake <= now) << bit;
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
            let mut highest = self.highest_epoch;
            entry.review(policy, scene, resources, &mut highest, now, out);
            self.highest_epoch = highest;
            changed |= table.claim(entry.group.id, entry.group.claim(scene.me));
        }
        self.wake = self.entries.iter().map(|entry| entry.wake).fold(Instant::NEVER, Instant::min);
        self.stuck = self.resources.iter().any(Resource::is_stuck);
        changed
    }

    /// The groups for people.
    pub(crate) fn view_into(&self, out: &mut Vec<GroupView>) {
        out.clear();
        out.extend(self.entries.iter().map(Entry::view));
    }
}

impl Entry {
    fn review(
        &mut self,
        policy: &impl OwnerPolicy,
        scene: &Scene<'_>,
        resources: &mut [Resource],
        highest: &mut u64,
        now: Instant,
        out: &mut Actions,
    ) {
        for _ in 0..PASSES {
            self.group.rest_until(now);
            let before = self.group.phase();
            let facts = self.facts(scene);
            let (decision, holder) = (policy.decide(&facts), facts.holder);
            self.holder = holder;
            if decision == Decision::Serve && before == Phase::Stopped {
                *highest = scene.peers.iter().map(Peer::highest_epoch).fold(*highest, u64::max);
                *highest = epoch_above(*highest, scene.wall_ms, scene.me);
                self.group.take(*highest);
            }
            self.apply(decision);
            self.group.drive(resources, now, out);
            if self.group.phase() == before {
                break;
            }
        }
        self.announce(scene, resources, out);
        self.wake = self.group.wake(resources);
        self.show(scene.me, resources, now, out);
    }

    fn apply(&mut self, decision: Decision) {
        let (asks, reason) = match decision {
            Decision::Serve => (false, None),
            Decision::Ask => (true, Some(Reason::Asking)),
            Decision::Rest(reason) => {
                self.group.feed(Input::Yield);
                (false, Some(reason))
            }
        };
        self.group.asks = asks;
        self.group.reason = match self.group.phase() {
            Phase::Failing | Phase::Failed => Some(Reason::Failed),
            Phase::Stopped | Phase::Starting | Phase::Serving | Phase::Stopping => reason,
        };
    }

    /// All that the owner policy may know of this group.
    fn facts<'a>(&'a self, scene: &Scene<'_>) -> Facts<'a> {
        let group = &self.group;
        let mut facts = Facts {
            me: scene.me,
            prefer: &group.prefer,
            auto_failback: group.auto_failback,
            mine: self.mine(scene),
            standing: scene.view.standing,
            eligible: NodeSet(scene.view.eligible.0 & group.owners.0),
            unread: NodeSet(scene.view.unread.0 & group.owners.0),
            wanting: NodeSet::EMPTY,
            holder: None,
        };
        for peer in scene.peers.iter().filter(|peer| peer.is_alive()) {
            let claim = peer.claim(group.id);
            if !claim.is_some() {
                continue;
            }
            if claim.candidate != peer.id().raw() {
                facts.eligible.remove(peer.id());
            } else if claim.held() {
                let is_higher = facts.holder.is_none_or(|other| claim.epoch > other.epoch);
                facts.holder = if is_higher {
                    Some(Holder { node: peer.id(), epoch: claim.epoch })
                } else {
                    facts.holder
                };
            } else if claim.flags & Claim::WANT != 0 {
                facts.wanting.insert(peer.id());
            }
        }
        facts
    }

    const fn mine(&self, scene: &Scene<'_>) -> Mine {
        if scene.life.is_leaving() {
            return Mine::Leaving;
        }
        if self.group.epoch() != 0 {
            return Mine::Holds { epoch: self.group.epoch() };
        }
        if matches!(self.group.phase(), Phase::Failed) {
            return Mine::Failed;
        }
        match scene.life {
            Life::Up if scene.is_settled => Mine::Free { failed_here: self.group.failed_here() },
            Life::Joining | Life::Up => Mine::Joining,
            Life::Yielding { .. } | Life::Telling { .. } | Life::Gone => Mine::Leaving,
        }
    }

    /// The winner announces again once the rival has let go, or after a peer returned that claims nothing.
    fn announce(&mut self, scene: &Scene<'_>, resources: &[Resource], out: &mut Actions) {
        let has_rival = self.holder.is_some();
        if self.group.epoch() == 0 {
            self.group.announce = false;
        } else if has_rival {
            self.group.announce = true;
        }
        let unread = scene.view.unread.0 & self.group.owners.0 != 0;
        if self.group.announce && !has_rival && !unread && self.group.phase() == Phase::Serving {
            self.group.announce = false;
            self.group.announce_again(resources, out);
        }
    }

    /// Tells a change of what people see.
    fn show(&mut self, me: NodeId, resources: &[Resource], now: Instant, out: &mut Actions) {
        let (owner, epoch) = self.owner(me);
        let to = self.group.state(resources);
        let (from, before) = core::mem::replace(&mut self.shown, (to, owner));
        if (from, before) != (to, owner) {
            out.tell(now, Change::Group { group: self.group.id, from, to, owner, epoch });
        }
    }

    /// The owner and the epoch in this node's view.
    fn owner(&self, me: NodeId) -> (Option<NodeId>, u64) {
        let epoch = self.group.epoch();
        match self.holder {
            Some(holder) if holder.epoch > epoch => (Some(holder.node), holder.epoch),
            Some(_) | None if epoch != 0 => (Some(me), epoch),
            Some(_) | None => (None, 0),
        }
    }

    fn view(&self) -> GroupView {
        let (state, owner) = self.shown;
        let epoch = self.holder.map_or(0, |holder| holder.epoch).max(self.group.epoch());
        GroupView { state, owner, epoch, lease: None, reason: self.group.reason }
    }
}

/// An epoch that no node ever used: above `highest`, and with the node's own id in the low byte.
fn epoch_above(highest: u64, wall_ms: u64, me: NodeId) -> u64 {
    const TIME_MAX: u64 = u64::MAX >> 8;
    let time = wall_ms.max((highest >> 8).saturating_add(1)).min(TIME_MAX);
    time << 8 | u64::from(me.raw())
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
