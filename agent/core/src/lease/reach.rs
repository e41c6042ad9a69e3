//! Who reaches more of the ping groups gets the group, if the difference lasts (`ipfail` of Linux-HA).
//!
//! The taker watches the holder: once it has reached more for as long as the dampening without a break, it wants the group, and the
//! move is a planned one: gate first. A holder that changes starts the wait anew, so moves of one group are at least the
//! dampening apart. Equal scores move nothing: when both lose a router, both stay where they are. Of several that reach
//! more the best begins, by score and then `prefer`; each further one waits once more.

use core::time::Duration;

use agent_common::NodeId;

use crate::group::Group;
use crate::groups::Scene;
use crate::mutation::Mutation;
use crate::time::Instant;

use super::ask::Facts;

/// What one group's holder reaches, compared with this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Who holds the group and reaches less, and since when without a break.
    ahead_of: Option<(NodeId, Instant)>,
    /// Since when this node reaches no less than the holder; the beginning of time if it always did, `None` while it does.
    level_since: Option<Instant>,
    /// While this node holds the group: since when an owner that could take it reaches more.
    outdone_since: Option<Instant>,
    /// When time alone changes something.
    wake: Instant,
}

impl Reach {
    /// Nothing compared yet.
    pub(crate) const fn new() -> Self {
        Self { ahead_of: None, level_since: Some(Instant::ZERO), outdone_since: None, wake: Instant::NEVER }
    }

    /// When time alone changes something.
    pub(crate) const fn wake(&self) -> Instant {
        self.wake
    }

    /// Nobody else holds the group.
    pub(crate) const fn forget_holder(&mut self) {
        (self.ahead_of, self.wake) = (None, Instant::NEVER);
    }

    /// Compares this node with the holder; true when the group should come here.
    pub(crate) fn compare(
        &mut self,
        holder: NodeId,
        group: &Group,
        facts: &Facts,
        scene: &Scene<'_>,
        now: Instant,
    ) -> bool {
        let (mine, theirs) = (scene.view.score(scene.me), scene.view.score(holder));
        self.wake = Instant::NEVER;
        self.level_since = if mine < theirs { None } else { self.level_since.or(Some(now)) };
        if mine <= theirs {
            self.ahead_of = None;
            return false;
        }
        let since = match self.ahead_of {
            Some((of, since)) if of == holder => since,
            Some(_) | None => now,
        };
        self.ahead_of = Some((holder, since));
        let turn = better(group, facts, scene, holder).saturating_add(1);
        let wait = scene.leases.reach_dampening().saturating_mul(turn);
        let is_broken = scene.leases.mutated().is(Mutation::MoveWithoutDampening);
        let at = if is_broken { since } else { since.after(wait) };
        self.wake = if now < at { at } else { Instant::NEVER };
        now >= at
    }

    /// Whether the group may move back here by itself: this node has not reached less than the holder for the dampening.
    pub(crate) fn may_fail_back(&mut self, dampening: Duration, now: Instant) -> bool {
        match self.level_since {
            None => false,
            Some(Instant::ZERO) => true,
            Some(since) if now >= since.after(dampening) => true,
            Some(since) => {
                self.wake = self.wake.min(since.after(dampening));
                false
            }
        }
    }

    /// Something else keeps this node from wanting the group until `at`.
    pub(crate) fn wait(&mut self, at: Instant) {
        self.wake = self.wake.min(at);
    }

    /// While this node holds the group: looks who reaches more.
    pub(crate) fn watch(&mut self, facts: &Facts, scene: &Scene<'_>, now: Instant) {
        let mine = scene.view.score(scene.me);
        let is_outdone = facts.eligible.iter().any(|node| scene.view.score(node) > mine);
        self.outdone_since = is_outdone.then(|| self.outdone_since.unwrap_or(now));
        // Handed over for what it did not reach, the group does not come back as soon as it is reached again.
        self.level_since = if is_outdone { None } else { self.level_since.or(Some(now)) };
    }

    /// Whether one that wants the group wants it since it reaches more: so it has for a good part of the dampening.
    pub(crate) fn explains(&self, facts: &Facts, scene: &Scene<'_>, now: Instant) -> bool {
        let mine = scene.view.score(scene.me);
        facts.wanting.iter().any(|node| scene.view.score(node) > mine)
            && self.outdone_since.is_some_and(|since| now >= since.after(scene.leases.reach_dampening() / 2))
    }
}

/// How many others could take the group from `holder` for what they reach, and come before this node.
fn better(group: &Group, facts: &Facts, scene: &Scene<'_>, holder: NodeId) -> u32 {
    let (mine, theirs) = (scene.view.score(scene.me), scene.view.score(holder));
    let mut is_before = true;
    let mut better = 0;
    for node in &group.prefer {
        let score = scene.view.score(*node);
        if *node == scene.me {
            is_before = false;
        } else if *node != holder && facts.eligible.contains(*node) && score > theirs {
            better += u32::from(score > mine || (score == mine && is_before));
        }
    }
    better
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
