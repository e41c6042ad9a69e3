//! Why a claim ends, and how this node wants one (design: Planned moves, Maintenance).

use crate::action::{Change, GateBy};
use crate::group::{FAILED_PAUSE, Group, Phase as GroupPhase};
use crate::groups::Scene;
use crate::lease::ask::Facts;
use crate::lease::phase::{Input, Phase};
use crate::mutation::Mutation;
use crate::queue::Actions;
use crate::snapshot::{LeaseReason, Reason};
use crate::time::Instant;
use agent_common::{NodeId, NodeSet};
use core::time::Duration;

use super::Tenure;

/// Least time between two tries of taking a group over for the operator.
const TAKEOVER_PAUSE: Duration = Duration::from_secs(1);

impl Tenure {
    /// *Planned moves*: the taker sets `want`; the holder closes the gate, then releases; the taker asks. It wants the group for
    /// the operator, to have it back, or because it reaches more.
    pub(super) fn wish(&mut self, group: &Group, facts: &Facts, scene: &Scene<'_>, now: Instant) {
        let Some(holder) = facts.holder else { return self.reach.forget_holder() };
        let before = |node: NodeId| group.prefer.iter().position(|other| *other == node);
        let mine = before(scene.me);
        let moves_back = group.auto_failback && mine.is_some() && mine < before(holder.node);
        let pause = if self.takeover { TAKEOVER_PAUSE } else { FAILED_PAUSE };
        let may = mine.is_some()
            && !scene.maintenance
            && !scene.life.is_leaving()
            && scene.life != crate::life::Life::Joining
            && scene.leases.is_heard(now)
            && scene.leases.voters().may_take_part();
        let paused_until = self.wished_at.map_or(Instant::ZERO, |at| at.after(pause));
        let reaches_more = self.reach.compare(holder.node, group, facts, scene, now);
        let dampening = scene.leases.reach_dampening();
        let comes_back = moves_back && self.reach.may_fail_back(dampening, now);
        let by_itself = (comes_back || reaches_more) && !self.standby && !group.failed_here();
        let would = may && group.phase() == GroupPhase::Stopped && (self.takeover || by_itself);
        self.wants = would && now >= paused_until;
        if would && !self.wants {
            self.reach.wait(paused_until);
        }
    }

    /// Why the claim must end now. *Maintenance* suspends decisions, never leases.
    pub(super) fn must_end(
        &self,
        group: &Group,
        facts: &Facts,
        scene: &Scene<'_>,
        now: Instant,
    ) -> Option<LeaseReason> {
        let is_higher = facts.holder.is_some_and(|holder| holder.epoch > self.epoch);
        let asks_disturb =
            scene.leases.mutated().is(Mutation::AskShutsHolderGate) && !facts.asking.is_empty();
        if is_higher || self.bar > self.epoch || asks_disturb {
            return Some(LeaseReason::Rival);
        }
        if self.phase == Phase::Asking && facts.holder.is_some() {
            return Some(LeaseReason::Rival);
        }
        if scene.life.is_leaving() {
            return Some(LeaseReason::Leaving);
        }
        if !group.owners.contains(scene.me) || !scene.leases.voters().may_take_part() {
            return Some(LeaseReason::NotOurs);
        }
        match group.phase() {
            GroupPhase::Failing | GroupPhase::Failed => return Some(LeaseReason::Failed),
            GroupPhase::Stopped | GroupPhase::Starting | GroupPhase::Serving | GroupPhase::Stopping => {}
        }
        if scene.maintenance {
            return None;
        }
        if self.standby && !facts.eligible.is_empty() {
            return Some(LeaseReason::Standby);
        }
        if facts.wanting.is_empty() || self.takeover {
            return None;
        }
        let is_outdone = self.reach.explains(facts, scene, now);
        Some(if is_outdone { LeaseReason::Connectivity } else { LeaseReason::Handover })
    }

    /// *Planned moves*: gate first, always; no deadtime passes.
    pub(super) fn close(&mut self, reason: LeaseReason, now: Instant, out: &mut Actions) {
        let was = self.phase;
        self.enter(Input::Close, now);
        self.reason = Some(match reason {
            LeaseReason::Leaving => Reason::Leaving,
            LeaseReason::Standby => Reason::Standby,
            LeaseReason::Handover => Reason::Failback,
            LeaseReason::Connectivity => Reason::Connectivity,
            LeaseReason::Failed => Reason::Failed,
            LeaseReason::NotOurs => Reason::VotesChanging,
            LeaseReason::Rival
            | LeaseReason::Majority
            | LeaseReason::TieBreak
            | LeaseReason::Resumed
            | LeaseReason::Expired
            | LeaseReason::PingLost => Reason::Rival,
        });
        let by = if self.bar > self.epoch { GateBy::Kernel } else { GateBy::Agent };
        self.write_gate(by, now, out);
        if was == Phase::Holding {
            out.tell(now, Change::Lease { group: self.group, held: false, reason });
        }
        if self.phase == Phase::Idle {
            (self.epoch, self.asked, self.votes, self.granted) = (0, 0, NodeSet::EMPTY, false);
        }
    }
}
