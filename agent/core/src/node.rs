//! The node: takes events, keeps the peers, and decides once a round what they mean. The parts know nothing of each
//! other; what passes between them passes here.

mod handover;
mod hearing;
mod sending;
mod shown;

use alloc::vec::Vec;
use core::time::Duration;

use agent_common::{Beat, NodeId};

use crate::action::{Action, Change};
use crate::command::Commands;
use crate::config::{Config, Start};
use crate::event::Event;
use crate::groups::{Groups, Scene};
use crate::lease::Leases;
use crate::life::{self, Life};
use crate::membership::{Standing, View};
use crate::outgoing::Outgoing;
use crate::pacer::Pacer;
use crate::peer::Peer;
use crate::queue::Actions;
use crate::resource::Effect;
use crate::rules::Rules;
use crate::time::Instant;
use crate::timers::{Punctuality, Timer};

/// All decisions of one node. See the crate's contract for the order of calls.
#[derive(Debug)]
pub struct Node {
    rules: Rules,
    nodes: usize,
    deadtime: Duration,
    wall_ms_at_zero: u64,
    now: Instant,
    pub(crate) life: Life,
    /// All other nodes, by id.
    pub(crate) peers: Vec<Peer>,
    /// When each of them wants a fresh reading, and the earliest of these.
    checks: Vec<Instant>,
    peers_at: Instant,
    view: View,
    pub(crate) view_is_old: bool,
    /// How many ping groups this node reaches.
    pub(crate) score: u8,
    pub(crate) groups: Groups,
    pub(crate) leases: Leases,
    pub(crate) commands: Commands,
    /// Whether the operator suspended decisions here; and whether they are, here or at a living peer.
    pub(crate) maintenance: bool,
    pub(crate) is_suspended: bool,
    /// Links that took the newest heartbeat, as far as is known.
    sent_links: u8,
    was_sent: bool,
    pub(crate) outgoing: Outgoing,
    pub(crate) pacer: Pacer,
    punctuality: Punctuality,
    pub(crate) actions: Actions,
    outlived: Option<u64>,
}

impl Node {
    /// A node that starts at `now`, holds nothing and has heard nobody. `config` is validated by who makes it; what is
    /// beyond the bounds of the ids is ignored.
    pub fn new(config: &Config, now: Instant) -> Self {
        let rules = Rules::new(config, now);
        let ids = NodeId::all().take(config.nodes.len()).filter(|id| *id != config.me);
        let mut peers: Vec<Peer> = ids.map(|id| Peer::new(id, &rules)).collect();
        let leases = Leases::new(config, now);
        let (mut life, mut maintenance, mut score) = (Life::Joining, false, 0);
        if let Start::Carried(carried) = &config.start {
            maintenance = carried.maintenance;
            score = carried.score;
            // Whoever hands over has heard everybody out.
            life = Life::Up;
            for peer in &mut peers {
                let known = carried.peers.iter().find(|known| known.node == peer.id());
                known.into_iter().for_each(|known| peer.restore(known, &rules, now));
            }
        }
        let checks: Vec<Instant> = peers.iter().map(Peer::check_at).collect();
        Self {
            nodes: config.nodes.len(),
            deadtime: config.timing.deadtime,
            wall_ms_at_zero: config.wall_ms_at_zero,
            now,
            life,
            peers_at: checks.iter().copied().fold(Instant::NEVER, Instant::min),
            checks,
            peers,
            score,
            view: View::default(),
            view_is_old: true,
            groups: Groups::new(config, now),
            leases,
            commands: Commands::default(),
            maintenance,
            is_suspended: maintenance,
            sent_links: 0,
            was_sent: false,
            outgoing: Outgoing::new(config),
            pacer: Pacer::new(config, now),
            punctuality: Punctuality::new(config.timing.keepalive, now),
            actions: Actions::new(config),
            outlived: None,
            rules,
        }
    }

    /// Takes one event. What it means is decided by the [`Node::handle_timeout`] that ends the round.
    /// Nothing is taken after [`Action::Finished`].
    pub fn handle(&mut self, event: Event<'_>, now: Instant) {
        let now = self.advance(now);
        if self.life == Life::Gone {
            return;
        }
        match event {
            Event::Reading(reading) => self.read(reading, now),
            Event::SendFailed { link } => self.send_failed(link),
            // Without its carrier a link carries nothing, and what is not heard is judged by its stamps alone.
            Event::Carrier { link: _, up: false } => {}
            Event::Carrier { link, up: true } => self.pacer.came_up(link, now),
            Event::Acquired { resource, attempt, result } => {
                self.groups.answer(resource, Effect::Acquire, attempt, result, now, &mut self.actions);
            }
            Event::Released { resource, attempt, result } => {
                self.groups.answer(resource, Effect::Release, attempt, result, now, &mut self.actions);
            }
            Event::Vanished { resource } => {
                self.groups.vanished(resource, self.is_suspended, now, &mut self.actions);
            }
            Event::Found { resource } => self.groups.found(resource, now, &mut self.actions),
            Event::Operator { ticket, what } => self.obey(ticket, what, now),
            Event::Bar { group, epoch } => self.groups.raise_bar(group, epoch),
            Event::Slew { ppm } => {
                self.leases.slewed(ppm, now);
                self.groups.mark_all();
            }
            Event::Reach { score } => self.reach(score),
            Event::Fenced { peer: _, done } => self.tie_break(|two_node| two_node.fenced(done, now)),
            Event::Ping { reached } => self.tie_break(|two_node| two_node.pinged(reached)),
        }
    }

    /// Ends a round: judges what is due, decides, and sends. Does nothing before [`Node::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        if now >= self.poll_timeout() {
            if let Some(by) = self.punctuality.begin(now) {
                self.actions.tell(now, Change::Late { by });
            }
            self.judge(now);
            self.review(now);
            self.send(now);
        }
        self.punctuality.end(self.poll_timeout());
    }

    /// The next thing to do, oldest first; drain to `None` after every call.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    /// When to call [`Node::handle_timeout`] next. Not later than now while something fed waits for a decision.
    pub fn poll_timeout(&self) -> Instant {
        if self.life == Life::Gone {
            return Instant::NEVER;
        }
        Timer::ALL.iter().map(|timer| self.deadline(*timer)).fold(Instant::NEVER, Instant::min)
    }

    /// The content of the pending [`Action::Send`]; valid until the next call that changes the node. Its keepalive is the
    /// node's: a slower link puts its own into the frame.
    pub const fn outgoing(&self) -> &Beat {
        self.outgoing.beat()
    }

    /// When a fresh reading of `peer` is needed at the latest: a late or dead verdict on it or on one of its links hangs
    /// on it. `None` when nothing does.
    pub fn peer_deadline(&self, peer: NodeId) -> Option<Instant> {
        let peer = self.peers.get(self.place(peer)?)?;
        Some(peer.check_at()).filter(|at| *at != Instant::NEVER)
    }

    /// The incarnation that this node must start over with, because a peer has acknowledged a heartbeat of it above all
    /// that it has sent: a clock or a file went back. `None` while all is well.
    pub const fn outlived_by(&self) -> Option<u64> {
        self.outlived
    }

    /// The number of the vote configuration that is in force here; `None` while this node may neither vote nor ask. Worth keeping:
    /// a node that once got there may start with [`crate::config::Quorum::change`] `None`, since numbers never go back.
    pub fn vote_number(&self) -> Option<u16> {
        let voters = self.leases.voters();
        voters.may_take_part().then(|| voters.number())
    }

    /// Time never goes back.
    fn advance(&mut self, now: Instant) -> Instant {
        self.leases.after_sending(now);
        self.now = self.now.max(now);
        self.now
    }

    fn deadline(&self, timer: Timer) -> Instant {
        match timer {
            Timer::Review if self.view_is_old || self.groups.is_dirty() || self.leases.is_moved() => self.now,
            Timer::Review => Instant::NEVER,
            Timer::Send => self.pacer.wake(),
            Timer::Peers => self.peers_at,
            Timer::Groups => self.groups.wake(),
            Timer::Leave => self.life.wake(),
            Timer::Votes => self.leases.voters().wake().min(self.commands.wake()),
        }
    }

    /// Decides what the peers' changes mean for this node's life and for the groups.
    fn review(&mut self, now: Instant) {
        if self.leases.review_voters(&self.peers, now) || self.leases.hearing_changed(now) {
            self.view_is_old = true;
        }
        if self.view_is_old {
            self.view_is_old = false;
            let had = self.view.standing == Standing::With;
            self.view = View::of(self.rules.me, self.score, &self.peers, &self.leases, now);
            let have = self.view.standing == Standing::With;
            if had != have {
                self.actions.tell(now, Change::Quorum { have });
            }
            self.is_suspended = self.maintenance || self.peers.iter().any(Peer::is_in_maintenance);
            self.groups.mark_all();
        }
        if self.view.unknown.is_empty() {
            self.live(life::Input::AllKnown, now);
        }
        self.review_groups(now);
        self.order_fence(now);
        self.review_commands(now);
        self.shorten(now);
        if self.groups.is_dirty() || self.leases.is_moved() {
            self.review_groups(now);
        }
        if self.groups.are_at_rest() {
            self.live(life::Input::AtRest, now);
        }
        self.live(life::Input::Tick, now);
    }

    /// Renews what rests on promises that moved, and looks at the groups that something happened to.
    pub(crate) fn review_groups(&mut self, now: Instant) {
        let moved = self.leases.take_moved();
        let scene = Scene {
            me: self.rules.me,
            view: &self.view,
            peers: &self.peers,
            leases: &self.leases,
            life: self.life,
            maintenance: self.is_suspended,
            wall_ms: self.wall_ms_at_zero.saturating_add(now.0 / 1_000_000),
            now,
        };
        if moved {
            self.groups.renew(&scene, &mut self.actions);
        }
        if self.groups.review(&scene, &mut self.outgoing, &mut self.actions) {
            self.pacer.tell();
        }
    }

    /// Moves this node's life on; a change of what the heartbeats say is news.
    pub(crate) fn live(&mut self, input: life::Input, now: Instant) {
        let before = self.life;
        self.life = life::next(before, input, now);
        if before.state() != self.life.state() {
            self.pacer.tell();
            // The last words change no decision: what is held then could not be released.
            if !matches!(self.life, Life::Telling { .. } | Life::Gone) {
                self.groups.mark_all();
            }
        }
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
