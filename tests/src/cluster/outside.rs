//! What nodes reach outside of the cluster: ping groups for their scores, and the one that breaks the tie of two nodes. Every move
//! of a group is judged where nothing else happens.

use agent_common::NodeId;
use agent_core::Instant;
use agent_core::config::{Policy, TieBreak};

use super::machine::Message;
use super::packet::{GROUPS, NODES};
use super::plan::{Kind, nanos};
use super::queue::Due;
use super::report::Invariant;
use super::world::World;

/// How long a node whose ask was not won wants nothing, and a little more.
pub(super) const PEACE: u64 = 11_000_000_000;

/// While one node reaches more than another: since when, and until when, true nanoseconds; the second is `u64::MAX` while it lasts.
type Lead = Option<(u64, u64)>;

/// Who reaches what.
#[derive(Debug, Default)]
pub(super) struct Outside {
    scores: [u8; NODES],
    /// Bit for each node that the tie-breaking ping group answers.
    answered: u8,
    /// By node, and the node that reaches less.
    leads: [[Lead; NODES]; NODES],
    moved_at: [u64; GROUPS],
}

impl Outside {
    /// How many ping groups `node` reaches.
    pub(super) fn score(&self, node: u8) -> u8 {
        self.scores[usize::from(node)]
    }

    /// The tie-breaking ping group answers `node` from now on.
    pub(super) fn answers(&mut self, node: u8) {
        self.answered |= 1 << node;
    }

    fn set(&mut self, node: u8, score: u8, now: u64) {
        self.scores[usize::from(node)] = score;
        for one in 0..NODES {
            for other in 0..NODES {
                let leads = self.scores[one] > self.scores[other];
                let lead = &mut self.leads[one][other];
                *lead = match *lead {
                    Some((_, u64::MAX)) | None if leads => lead.or(Some((now, u64::MAX))),
                    Some((since, u64::MAX)) => Some((since, now)),
                    Some(_) if leads => Some((now, u64::MAX)),
                    Some(_) | None => *lead,
                };
            }
        }
    }
}

impl World {
    fn breaks_by_ping(&self) -> bool {
        self.plan.policy == Policy::TwoNode(TieBreak::Ping)
    }

    /// Everything is reached at first; the tie-breaking group by one, or by both.
    pub(super) fn open_outside(&mut self) {
        (0..self.plan.total()).for_each(|node| self.outside.set(node, self.plan.pings, 0));
        self.outside.answered = if self.plan.one_side { 1 } else { 3 };
    }

    /// What a node reaches changes, in a storm.
    pub(super) fn reach_something(&mut self, node: u8) {
        if self.breaks_by_ping() && self.rng.chance(500) {
            return self.move_answers(node);
        }
        let score = self.rng.below(u64::from(self.plan.pings) + 1) as u8;
        self.reach(node, score);
    }

    /// The tie-breaking group stops answering, and answers others later: where one side at a time reaches it, after all that was
    /// held for the last answer is over.
    fn move_answers(&mut self, node: u8) {
        let wait = nanos(self.plan.timing.initdead);
        if self.plan.one_side {
            // While nobody is answered, an earlier change is still under way.
            if std::mem::take(&mut self.outside.answered) != 0 {
                self.note(|| format!("the ping group will answer node {node}"));
                self.queue.plan(self.now + wait + wait / 25 + 5_000_000, Due::Reached { node: node % 2 });
            }
        } else {
            self.outside.answered &= !(1 << node);
            let wait = self.rng.below(2 * wait);
            self.queue.plan(self.now + 1 + wait, Due::Reached { node });
        }
    }

    /// The faults end.
    pub(super) fn reach_all(&mut self) {
        if self.plan.pings != 0 {
            (0..self.plan.total()).for_each(|node| self.reach(node, self.plan.pings));
        }
        if !self.plan.one_side {
            self.outside.answered = 3;
        }
    }

    fn reach(&mut self, node: u8, score: u8) {
        self.outside.set(node, score, self.now);
        self.note(|| format!("node {node} reaches {score} ping groups"));
        self.machines[usize::from(node)].tell(Message::Reach { score });
        self.wake(node);
    }

    /// A request leaves, and the next one is planned.
    pub(super) fn ping(&mut self, node: u8) {
        if !self.breaks_by_ping() {
            return;
        }
        let deadtime = nanos(self.plan.timing.deadtime);
        let machine = &self.machines[usize::from(node)];
        let (life, sent) = (machine.life, machine.clock.at(self.now).0);
        if self.outside.answered >> node & 1 == 1 {
            let delay = self.rng.below(deadtime / 8);
            self.queue.plan(self.now + 1 + delay, Due::Pong { node, life, sent });
        }
        self.queue.plan(self.now + deadtime / 4, Due::Ping { node, life });
    }

    /// An answer arrives.
    pub(super) fn pong(&mut self, node: u8, sent: u64) {
        self.machines[usize::from(node)].tell(Message::Ping { sent: Instant(sent) });
        self.wake(node);
    }

    /// A part of [`Kind::Reach`]: nodes reach more and less, then nothing changes any more, then the best have the groups.
    pub(super) fn reach_stage(&mut self, stage: u32) {
        let dampening = nanos(self.plan.dampening());
        match stage {
            1 => {
                self.queue.plan(self.now + 1, Due::Outside);
                self.queue.plan(self.now + self.plan.storm.max(20 * dampening), Due::Stage);
            }
            2 => {
                self.is_calm = true;
                let settled = dampening * (2 * u64::from(self.plan.nodes) + 2);
                // Who asked and has not won leaves the next holder in peace for ten seconds.
                let more = 40 * nanos(self.plan.timing.keepalive) + PEACE;
                self.queue.plan(self.now + settled + more, Due::Stage);
            }
            _ => self.check_best(),
        }
    }

    /// What nodes reach changes again and again: one of them, or all alike.
    pub(super) fn change_outside(&mut self) {
        if self.is_calm {
            return;
        }
        let score = self.rng.below(u64::from(self.plan.pings) + 1) as u8;
        if self.rng.chance(200) {
            (0..self.plan.nodes).for_each(|node| self.reach(node, score));
        } else {
            let node = self.rng.below(u64::from(self.plan.nodes)) as u8;
            self.reach(node, score);
        }
        let dampening = nanos(self.plan.dampening());
        let most = [dampening / 2, 2 * dampening, 6 * dampening][self.rng.below(3) as usize];
        let wait = self.rng.below(most);
        self.queue.plan(self.now + 1 + wait, Due::Outside);
    }

    /// A group has moved: to who has reached more for long enough, or back to where it is preferred.
    pub(super) fn judge_move(&mut self) {
        let Some((group, from, to)) = self.oracle.moved.take() else { return };
        let before = std::mem::replace(&mut self.outside.moved_at[group], self.now);
        if self.plan.kind != Kind::Reach || self.stage == 0 {
            return;
        }
        // Clocks err, and a change is known to others a little later.
        let least = nanos(self.plan.dampening()) / 1000 * 998;
        let slack = 10 * nanos(self.plan.timing.keepalive);
        let lead = self.outside.leads[usize::from(to)][usize::from(from)];
        let has_led = lead.is_some_and(|(since, until)| {
            let seen = self.now.min(until.saturating_add(slack));
            self.now == seen && self.now - since >= least
        });
        let prefer = self.plan.config(to, &self.machines[0].votes, false).groups[group].prefer.clone();
        let place = |node: u8| prefer.iter().position(|other| NodeId::raw(*other) == node);
        let behind = self.outside.leads[usize::from(from)][usize::from(to)];
        let is_behind = behind.is_some_and(|(since, until)| {
            // A lead that others could not hear of is none.
            until - since > slack
                && self.now - since > slack
                && until.saturating_add(least) > self.now + slack
        });
        let moves_back =
            self.plan.auto_failback && !self.plan.equal_ranks && place(to) < place(from) && !is_behind;
        if moves_back || (has_led && self.now - before >= least) {
            return;
        }
        let text = format!(
            "group {group} went from {from} to {to}, {} us after the last move, lead {lead:?}, behind {behind:?}",
            (self.now - before) / 1000
        );
        self.violate(Invariant::Reach, text);
    }

    /// Each group is where most is reached.
    fn check_best(&mut self) {
        for group in 0..usize::from(self.plan.groups) {
            let Some(holder) = self.holder(group) else { return };
            let owners = (0..self.plan.nodes).filter(|node| self.plan.witnesses >> node & 1 == 0);
            let best = owners.map(|node| self.outside.score(node)).max().unwrap_or(0);
            if self.outside.score(holder) < best {
                let text = format!("node {holder} serves group {group} and reaches less than {best}");
                return self.violate(Invariant::Reach, text);
            }
        }
    }
}
