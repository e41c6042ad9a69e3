//! When a node asks for a group (design: Asking): the facts of the group, the conditions, the wait, the backoff.
//!
//! *Asking*: a node asks if its own vote is free, its hold-off is over, it hears nobody hold or ask (G), and a majority has acked
//! heartbeats of it that are not yet past their `until`: the deaf and the unheard do not ask. Candidates wait their rank x 2
//! keepalives. Who has not won within a deadtime releases and waits rank + random keepalives. An ask disturbs no holder.

use core::time::Duration;

use agent_common::{Claim, NodeId, NodeSet};

use crate::group::{Group, Phase as GroupPhase};
use crate::groups::Scene;
use crate::life::Life;
use crate::membership::View;
use crate::mutation::Mutation;
use crate::snapshot::{PeerState, Reason};
use crate::time::Instant;

use super::two_node::Other;
use super::vote::Ballot;

/// A peer that holds a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Who.
    pub(crate) node: NodeId,
    /// At which epoch.
    pub(crate) epoch: u64,
}

/// What the peers say of one group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// Who holds it at the highest epoch.
    pub(crate) holder: Option<Holder>,
    /// Who asks for it or holds it.
    pub(crate) asking: NodeSet,
    /// Owners whose newest table is not known.
    pub(crate) unread: NodeSet,
    /// Owners that want it handed over.
    pub(crate) wanting: NodeSet,
    /// Owners, this node not included, that could take it.
    pub(crate) eligible: NodeSet,
    /// More preferred owners that have only just started.
    pub(crate) joining: NodeSet,
    /// The highest epoch in their tables.
    pub(crate) highest: u64,
}

impl Facts {
    /// All that `scene` says of `group`.
    pub(crate) fn of(group: &Group, scene: &Scene<'_>) -> Self {
        let mut facts = Self {
            eligible: NodeSet(scene.view.eligible.0 & group.owners.0),
            unread: NodeSet(scene.view.unread.0 & group.owners.0),
            ..Self::default()
        };
        for peer in scene.peers {
            // Who is at a number whose asks get no vote here could not win what is handed over to it, and blocks nobody by asking.
            let voters = scene.leases.voters();
            let may_win = voters.accepts_asker(peer.number()) && !voters.is_joined(peer.id());
            if !may_win {
                facts.eligible.remove(peer.id());
            }
            let claim = peer.claim(group.id);
            facts.highest = facts.highest.max(claim.epoch);
            // One that leaves and still holds is waited for: it counts as dead once it is silent.
            let is_here = peer.is_alive() || peer.state() == PeerState::Leaving;
            if !is_here {
                continue;
            }
            if peer.asks(group.id) && (may_win || claim.held()) {
                facts.asking.insert(peer.id());
                if claim.held() && facts.holder.is_none_or(|other| claim.epoch > other.epoch) {
                    facts.holder = Some(Holder { node: peer.id(), epoch: claim.epoch });
                }
            }
            if claim.flags & Claim::WANT != 0 && facts.eligible.contains(peer.id()) {
                facts.wanting.insert(peer.id());
            }
            if peer.is_joining() && group.owners.contains(peer.id()) {
                facts.joining.insert(peer.id());
            }
        }
        facts
    }
}

/// The wait of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Since when nothing but the wait keeps it from asking.
    since: Option<Instant>,
    /// Not before.
    pub(crate) backoff_until: Instant,
    /// Asks in a row that were not won.
    tries: u32,
    /// Keepalives that it waits longer than its rank after such an ask, once nobody else asks: those who collided do not again.
    stagger: u32,
    random: u64,
}

/// Why a node does not ask, and when that may change by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) reason: Reason,
    pub(crate) until: Instant,
}

impl Blocked {
    const fn by(reason: Reason) -> Self {
        Self { reason, until: Instant::NEVER }
    }
}

/// How this node wants the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// By `want`: for the operator, or to have it back.
    pub(crate) wants: bool,
    /// Put on standby here.
    pub(crate) standby: bool,
}

impl Patience {
    /// With a random state of its own.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { since: None, backoff_until: Instant::ZERO, tries: 0, stagger: 0, random: seed | 1 }
    }

    /// Whether `group` may be asked for now.
    ///
    /// # Errors
    /// What keeps this node from it.
    pub(crate) fn may_ask(
        &mut self,
        group: &Group,
        facts: &Facts,
        wish: Wish,
        ballot: &Ballot,
        scene: &Scene<'_>,
        now: Instant,
    ) -> Result<(), Blocked> {
        if let Err(blocked) = may_be_candidate(group, facts, wish, ballot, scene, now) {
            self.since = None;
            return Err(blocked);
        }
        let since = *self.since.get_or_insert(now);
        let rank = rank(group, facts, wish, scene.me, scene.view);
        let keepalives = (2 * rank).saturating_add(self.stagger);
        let at = since.after(scene.leases.keepalive().saturating_mul(keepalives)).max(self.backoff_until);
        if now < at {
            let reason = if rank > 0 { Reason::OtherPreferred } else { Reason::Waiting };
            return Err(Blocked { reason, until: at });
        }
        if self.tries > 0 && is_futile(group, scene) {
            return Err(Blocked::by(Reason::VoteElsewhere));
        }
        tie_break(scene, now)
    }

    /// An ask was won.
    pub(crate) const fn won(&mut self) {
        (self.since, self.tries, self.stagger, self.backoff_until) = (None, 0, 0, Instant::ZERO);
    }

    /// An ask was not won within a deadtime: waits rank + random keepalives.
    pub(crate) fn lost(&mut self, group: &Group, facts: &Facts, wish: Wish, scene: &Scene<'_>, now: Instant) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let spread = 2 * u64::try_from(group.prefer.len()).unwrap_or(1).max(1);
        let random = u32::try_from(self.random % spread).unwrap_or(0);
        let keepalives =
            rank(group, facts, wish, scene.me, scene.view).saturating_add(random).saturating_add(1);
        self.backoff_until = now.after(scene.leases.keepalive().saturating_mul(keepalives));
        self.stagger = u32::try_from((self.random >> 32) % spread).unwrap_or(0);
        self.tries = self.tries.saturating_add(1);
        self.since = None;
    }
}

/// Everything but the wait.
fn may_be_candidate(
    group: &Group,
    facts: &Facts,
    wish: Wish,
    ballot: &Ballot,
    scene: &Scene<'_>,
    now: Instant,
) -> Result<(), Blocked> {
    let mut others = group.owners;
    others.remove(scene.me);
    let leases = scene.leases;
    if !group.owners.contains(scene.me) {
        return Err(Blocked::by(Reason::NotAnOwner));
    }
    if scene.life.is_leaving() {
        return Err(Blocked::by(Reason::Leaving));
    }
    match group.phase() {
        GroupPhase::Stopped => {}
        GroupPhase::Failing | GroupPhase::Failed => return Err(Blocked::by(Reason::Failed)),
        GroupPhase::Starting | GroupPhase::Serving | GroupPhase::Stopping => {
            return Err(Blocked::by(Reason::LeaseLost));
        }
    }
    if !facts.asking.is_empty() {
        return Err(Blocked::by(Reason::HeldElsewhere));
    }
    if scene.maintenance {
        return Err(Blocked::by(Reason::Maintenance));
    }
    // Joining keeps a node from asking too, so that the hold-off of its own vote is needed only when all were heard.
    if scene.life == Life::Joining && !leases.mutated().is(Mutation::OwnVoteAlwaysAfterRestart) {
        return Err(Blocked::by(Reason::Joining));
    }
    if !leases.hold_off().is_over_for_me(others, now) {
        return Err(Blocked { reason: Reason::HeldOff, until: leases.hold_off().until() });
    }
    if !leases.voters().may_take_part() {
        return Err(Blocked::by(Reason::VotesChanging));
    }
    if !facts.unread.is_empty() {
        return Err(Blocked::by(Reason::TableUnknown));
    }
    if !ballot.is_free(group.id, scene.peers, leases) {
        // Another's death is judged later while the clock is slewed: look again.
        return Err(Blocked { reason: Reason::VoteElsewhere, until: now.after(leases.keepalive()) });
    }
    if wish.standby && !facts.eligible.is_empty() {
        return Err(Blocked::by(Reason::Standby));
    }
    let before_me = group.prefer.iter().take_while(|node| **node != scene.me);
    if before_me.clone().any(|node| facts.joining.contains(*node)) && !wish.wants {
        return Err(Blocked::by(Reason::OtherPreferred));
    }
    let alone = leases.two_node().is_some() && leases.other(scene.peers) != Other::Heard;
    if !alone && !leases.is_heard(now) {
        return Err(Blocked::by(Reason::NoQuorum));
    }
    if !alone && !voters_count(scene) {
        return Err(Blocked::by(Reason::VotesChanging));
    }
    Ok(())
}

/// *Changing the votes*: whether those whose votes count at this node's number are a majority; who lags does not ask.
fn voters_count(scene: &Scene<'_>) -> bool {
    let voters = scene.leases.voters();
    let mut counting = NodeSet::EMPTY;
    counting.insert(scene.me);
    let peers = scene.peers.iter().filter(|peer| peer.is_alive() && voters.counts_voter(peer.number()));
    peers.for_each(|peer| counting.insert(peer.id()));
    voters.is_majority(counting)
}

/// How many come before this node: those that want the group, then those that reach more, then those before it in `prefer`. Who
/// is on standby comes last.
fn rank(group: &Group, facts: &Facts, wish: Wish, me: NodeId, view: &View) -> u32 {
    let mine = (wish.wants, view.score(me));
    let comes_first = |node: NodeId, is_before: bool| {
        let theirs = (facts.wanting.contains(node), view.score(node));
        wish.standby || theirs > mine || (theirs == mine && is_before)
    };
    let mut is_before = true;
    let mut rank = 0;
    for node in &group.prefer {
        if *node == me {
            is_before = false;
        } else if facts.eligible.contains(*node) && comes_first(*node, is_before) {
            rank += 1;
        }
    }
    rank
}

/// After an ask that was not won: whether the votes that could come are no majority, since living voters name another that they
/// do not hold dead. A holder that only this node does not hear is then left in peace.
fn is_futile(group: &Group, scene: &Scene<'_>) -> bool {
    let mut possible = NodeSet::EMPTY;
    possible.insert(scene.me);
    for peer in scene.peers.iter().filter(|peer| peer.is_alive()) {
        let claim = peer.claim(group.id);
        let named = NodeId::new(claim.candidate).filter(|node| claim.epoch != 0 && *node != scene.me);
        let is_bound = named.is_some_and(|node| {
            let other = scene.peers.iter().find(|peer| peer.id() == node);
            let has_released = other.is_some_and(|other| other.is_alive() && !other.asks(group.id));
            !peer.holds_dead().contains(node) && !has_released
        });
        if !is_bound {
            possible.insert(peer.id());
        }
    }
    scene.leases.two_node().is_none() && !scene.leases.voters().is_majority(possible)
}

/// Two nodes: what the configuration names must have spoken before a group is taken from a dead peer.
fn tie_break(scene: &Scene<'_>, now: Instant) -> Result<(), Blocked> {
    let Some(two_node) = scene.leases.two_node() else { return Ok(()) };
    match scene.leases.other(scene.peers) {
        Other::Heard => Ok(()),
        other @ (Other::Left | Other::Dead) => {
            if two_node.may_take(other, scene.leases.deadtime(), now) {
                Ok(())
            } else {
                Err(Blocked { reason: Reason::TieBreak, until: two_node.wake().max(now.after(PAUSE)) })
            }
        }
    }
}

/// Least time between two looks at a tie-break that has not spoken.
const PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
