//! One peer: its state, its present life (incarnation) and the table it published in it. A peer is judged by its newest
//! reading only, so that an observer who slept cannot call it dead for it (invariants I2 and I3).
//!
//! ```text
//!            heard                  overdue                silent
//! Unknown ----------> Up <------------------------> Late ---------> Dead
//!    |                 | ^          heard                            ^ |
//!    |                 | +-------------------- heard ----------------|-+
//!    |     says it goes v                                            |
//!    |              Leaving ----------------- silent ----------------+
//!    +---------------------- initdead is over -----------------------+
//! ```
//! `heard`: a frame that counts and is younger than the announced deadtime. `silent`: a reading later than the newest
//! counting stamp plus the announced deadtime. Saying that it goes leads to Leaving from every state, and being heard
//! otherwise leads back to Up.

mod links;
mod shown;
mod sign;
mod verdict;
mod voter;

use core::time::Duration;

use agent_common::ids::{MAX_GROUPS, MAX_LINKS};
use agent_common::{Ack, Beat, Claim, GroupId, NodeId, NodeSet, NodeState};

use crate::action::Change;
use crate::event::Reading;
use crate::link::Link;
use crate::mutation::{Mutated, Mutation};
use crate::queue::Actions;
use crate::rules::Rules;
use crate::snapshot::PeerState;
use crate::time::Instant;

pub(crate) use sign::{Sign, next};

/// When a deadline has passed without a reading that is late enough, ask again after this.
pub(crate) const REREAD: Duration = Duration::from_millis(1);

/// What a reading brought that the rest of the node must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The peer's state, life or table changed: groups must be looked at.
    pub(crate) changed: bool,
    /// A frame that counts was taken.
    pub(crate) counted: bool,
    /// It began a life of a higher incarnation.
    pub(crate) reborn: bool,
    /// It came back from the dead: held addresses want announcing.
    pub(crate) returned: bool,
    /// A new incarnation waits for our acknowledgement.
    pub(crate) greet: bool,
}

/// The table that a peer published in its present incarnation.
#[derive(Clone, Debug)]
struct Table {
    /// Version of `claims`, 0 for none.
    known: u32,
    /// Version that its newest frame names.
    current: u32,
    claims: [Claim; MAX_GROUPS],
}

const NO_CLAIMS: [Claim; MAX_GROUPS] = [Claim { epoch: 0, candidate: 0, flags: 0 }; MAX_GROUPS];

/// One other node.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    id: NodeId,
    state: PeerState,
    heard: bool,
    incarnation: u64,
    seq: u64,
    accepted: u64,
    read_at: Instant,
    counts_at: Option<Instant>,
    /// Whether its present life has ever counted.
    is_counted: bool,
    /// The first sign of a life that does not count yet. A reading shows one life only: what the earlier one sent last
    /// may have counted and is gone from the slot, so that life is taken to have ended no earlier than this (I2).
    reborn_at: Option<Instant>,
    /// When this process took it over as living. What came in between may have been lost with the slots, so its silence begins
    /// there, unless the first reading goes on where the process before had read (I2).
    spared: Option<Instant>,
    deadtime: Duration,
    /// What it says of its life.
    life: NodeState,
    /// Until then a joining peer is waited for.
    grace_until: Instant,
    grace_over: bool,
    table: Table,
    /// Version of our table that it knows.
    knows_mine: u32,
    /// Our newest heartbeat that it acked in its newest frame that counts.
    acked: Option<u64>,
    /// Its number of the vote configuration.
    number: u16,
    /// Whether it says that decisions are suspended.
    maintenance: bool,
    /// Whom it holds dead.
    holds_dead: NodeSet,
    /// How many ping groups it reaches.
    score: u8,
    mutated: Mutated,
    /// Highest epoch in its tables.
    epoch: u64,
    links: [Link; MAX_LINKS],
    check_at: Instant,
}

impl Peer {
    /// A peer that was never heard.
    pub(crate) fn new(id: NodeId, rules: &Rules) -> Self {
        Self {
            id,
            state: PeerState::Unknown,
            heard: false,
            incarnation: 0,
            seq: 0,
            accepted: 0,
            read_at: Instant::ZERO,
            counts_at: None,
            is_counted: false,
            reborn_at: None,
            spared: None,
            deadtime: rules.initdead,
            life: NodeState::Joining,
            grace_until: Instant::NEVER,
            grace_over: false,
            table: Table { known: 0, current: 0, claims: NO_CLAIMS },
            knows_mine: 0,
            acked: None,
            number: 0,
            maintenance: false,
            holds_dead: NodeSet::EMPTY,
            score: 0,
            mutated: rules.mutated,
            epoch: 0,
            links: [Link::default(); MAX_LINKS],
            check_at: rules.unknown_until,
        }
    }

    /// Who it is.
    pub(crate) const fn id(&self) -> NodeId {
        self.id
    }

    /// Its state.
    pub(crate) const fn state(&self) -> PeerState {
        self.state
    }

    /// Heard within its deadtime, and not on its way out.
    pub(crate) const fn is_alive(&self) -> bool {
        matches!(self.state, PeerState::Up | PeerState::Late)
    }

    /// Whether it may be given a group. A node that joins is waited for, but not longer than a deadtime.
    pub(crate) const fn is_eligible(&self) -> bool {
        self.is_alive()
            && match self.life {
                NodeState::Up => true,
                NodeState::Joining => !self.grace_over,
                NodeState::Standby | NodeState::Leaving => false,
            }
    }

    /// Whether the table that its newest frame speaks of is known.
    pub(crate) const fn table_is_known(&self) -> bool {
        self.table.known == self.table.current
    }

    /// What it claims for `group` in its newest table.
    pub(crate) fn claim(&self, group: GroupId) -> Claim {
        self.table.claims.get(group.index()).copied().unwrap_or_default()
    }

    /// The version of our table that it knows, 0 for none.
    pub(crate) const fn knows_mine(&self) -> u32 {
        self.knows_mine
    }

    /// The highest epoch it ever showed.
    pub(crate) const fn highest_epoch(&self) -> u64 {
        self.epoch
    }

    /// When a fresh reading is needed.
    pub(crate) const fn check_at(&self) -> Instant {
        self.check_at
    }

    /// What we acknowledge of it, if it was heard.
    pub(crate) fn ack(&self) -> Option<Ack> {
        self.heard.then_some(Ack { incarnation: self.incarnation, seq: self.seq, table: self.table.known })
    }

    /// Takes a reading: being heard works at once, silence waits for [`Peer::judge`].
    pub(crate) fn read(&mut self, reading: &Reading, rules: &Rules, now: Instant, out: &mut Actions) -> News {
        let mut news = News::default();
        if reading.read_at < self.read_at {
            return news;
        }
        if self.read_at == Instant::ZERO && self.goes_on(reading) {
            self.spared = None;
        }
        self.read_at = reading.read_at;
        if reading.heard && reading.beat.incarnation >= self.incarnation {
            if reading.beat.incarnation > self.incarnation || !self.heard {
                self.begin_life(&reading.beat, now, out);
                let was_there = self.is_alive() || self.state == PeerState::Leaving;
                self.reborn_at = was_there.then_some(reading.heard_at.min(reading.read_at));
                news = News { changed: true, greet: true, reborn: true, ..news };
            }
            // *What counts*: (incarnation, sequence) above everything heard before, by this process or the one before it: the
            // kernel's window may be younger, and take an old frame for the newest.
            let is_newer = news.greet || reading.beat.seq > self.seq;
            self.seq = self.seq.max(reading.beat.seq);
            self.accepted = reading.accepted;
            // What was stamped before our start cannot have acknowledged this life of ours.
            if let Some(at) = reading.counts_at.filter(|at| *at >= rules.started_at)
                && is_newer
                && self.counts_at.is_none_or(|before| at >= before)
            {
                news.counted = true;
                self.count(at, &reading.beat, rules, &mut news);
                self.hear(at, rules, now, &mut news, out);
            }
        }
        self.read_links(reading, rules, now, out);
        if news.counted {
            self.hear_echo(&reading.beat, rules);
        }
        self.check_at = self.next_check(rules);
        news
    }

    /// Judges the silence of the newest reading; true when the rest of the node must know. Without a reading that is
    /// late enough nothing is judged and the next look is [`REREAD`] from `now`.
    pub(crate) fn judge(&mut self, rules: &Rules, now: Instant, out: &mut Actions) -> bool {
        let before = self.state;
        if self.read_at >= self.dead_at(rules) {
            self.enter(next(before, Sign::Silent), now, out);
        } else if self.read_at >= self.late_at(rules) {
            self.enter(next(before, Sign::Overdue), now, out);
        }
        let mut changed = before != self.state;
        if !self.grace_over && self.grace_until <= now {
            self.grace_over = true;
            changed = true;
        }
        self.check_at = self.next_check(rules);
        if self.check_at <= now {
            self.check_at = now.after(REREAD);
        }
        changed
    }

    /// A higher incarnation: everything of the lower is forgotten, its claims first.
    fn begin_life(&mut self, beat: &Beat, now: Instant, out: &mut Actions) {
        if self.heard {
            out.tell(now, Change::Restarted { peer: self.id, incarnation: beat.incarnation });
        }
        self.heard = true;
        self.incarnation = beat.incarnation;
        self.seq = beat.seq;
        self.life = NodeState::Joining;
        self.grace_until = Instant::NEVER;
        self.grace_over = false;
        if !self.mutated.is(Mutation::VersionsWithoutIncarnation) {
            self.table = Table { known: 0, current: beat.votes_version, claims: NO_CLAIMS };
        }
        self.knows_mine = 0;
        self.acked = None;
        self.is_counted = false;
        self.links.iter_mut().for_each(Link::restart);
    }

    /// Takes the words of a frame that counts.
    fn count(&mut self, at: Instant, beat: &Beat, rules: &Rules, news: &mut News) {
        self.counts_at = Some(at);
        self.is_counted = true;
        self.reborn_at = None;
        self.deadtime = Duration::from_micros(u64::from(beat.deadtime_us)).min(rules.initdead);
        if self.life != beat.state {
            self.life = beat.state;
            news.changed = true;
        }
        match self.life {
            NodeState::Joining => self.grace_until = self.grace_until.min(at.after(self.deadtime)),
            NodeState::Up | NodeState::Standby | NodeState::Leaving => self.grace_until = Instant::NEVER,
        }
        if let Some(ack) = beat.ack_of(rules.me)
            && (ack.incarnation == rules.incarnation || self.mutated.is(Mutation::AcksWithoutIncarnation))
        {
            self.knows_mine = ack.table;
            self.acked = Some(ack.seq);
        }
        let maintenance = beat.flags & Beat::MAINTENANCE != 0;
        let holds_dead = beat.view.unwrap_or_default();
        let said = (beat.vote_number, maintenance, holds_dead, beat.score);
        news.changed |= (self.number, self.maintenance, self.holds_dead, self.score) != said;
        (self.number, self.maintenance, self.holds_dead, self.score) = said;
        if self.table.current != beat.votes_version {
            self.table.current = beat.votes_version;
            news.changed = true;
        }
        if beat.has_claims && self.table.known != beat.votes_version {
            self.table.known = beat.votes_version;
            self.table.claims = beat.claims;
            let highest = beat.claims.iter().map(|claim| claim.epoch).max().unwrap_or(0);
            self.epoch = self.epoch.max(highest);
            news.changed = true;
        }
    }

    /// A new counting stamp leads to Up or Leaving, if the reading still finds it young enough.
    fn hear(&mut self, at: Instant, rules: &Rules, now: Instant, news: &mut News, out: &mut Actions) {
        if self.read_at > at.after(self.deadtime) {
            return;
        }
        let sign = match self.life {
            NodeState::Joining | NodeState::Up | NodeState::Standby => Sign::Heard,
            NodeState::Leaving => Sign::Left,
        };
        let overdue = self.read_at > at.after(rules.warntime);
        if sign == Sign::Heard && overdue && self.state == PeerState::Late {
            return;
        }
        let before = self.state;
        self.enter(next(before, sign), now, out);
        news.changed |= before != self.state;
        news.returned |= before == PeerState::Dead && self.is_alive();
    }

    fn enter(&mut self, to: PeerState, now: Instant, out: &mut Actions) {
        let from = self.state;
        if from == to {
            return;
        }
        self.state = to;
        let silent = self.newest().map_or(Duration::ZERO, |at| now.since(at));
        out.tell(now, Change::Peer { peer: self.id, from, to, silent, deadtime: self.deadtime });
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
