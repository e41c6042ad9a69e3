//! The node: takes events, keeps the peers, and decides once a round what they mean. The parts know nothing of each
//! other; what passes between them passes here.

use alloc::vec::Vec;
use core::time::Duration;

use agent_common::{Beat, NodeId};

use crate::action::{Action, Change};
use crate::config::{Config, Policy};
use crate::event::{Event, Operator, Reading};
use crate::groups::{Groups, Scene};
use crate::life::{self, Life};
use crate::membership::{Standing, View};
use crate::outgoing::Outgoing;
use crate::owner::FirstLiving;
use crate::pacer::Pacer;
use crate::peer::Peer;
use crate::queue::Actions;
use crate::resource::Effect;
use crate::rules::Rules;
use crate::snapshot::{NodeView, PeerState, Snapshot};
use crate::time::Instant;
use crate::timers::{Punctuality, Timer};

/// All decisions of one node. See the crate's contract for the order of calls.
#[derive(Debug)]
pub struct Node {
    rules: Rules,
    policy: Policy,
    nodes: usize,
    deadtime: Duration,
    wall_ms_at_zero: u64,
    now: Instant,
    life: Life,
    /// All other nodes, by id.
    peers: Vec<Peer>,
    /// When each of them wants a fresh reading, and the earliest of these.
    checks: Vec<Instant>,
    peers_at: Instant,
    view: View,
    view_is_old: bool,
    /// A node back from a minority takes nothing before this, or before it hears everybody: the first peer it hears may
    /// give it a majority before the holder is heard.
    settles_at: Option<Instant>,
    groups: Groups,
    owner: FirstLiving,
    outgoing: Outgoing,
    pacer: Pacer,
    punctuality: Punctuality,
    actions: Actions,
    outlived: Option<u64>,
}

impl Node {
    /// A node that starts at `now`, holds nothing and has heard nobody. `config` is validated by who makes it; what is
    /// beyond the bounds of the ids is ignored.
    pub fn new(config: &Config, now: Instant) -> Self {
        let rules = Rules::new(config, now);
        let ids = NodeId::all().take(config.nodes.len()).filter(|id| *id != config.me);
        let peers: Vec<Peer> = ids.map(|id| Peer::new(id, &rules)).collect();
        Self {
            policy: config.quorum.policy,
            nodes: config.nodes.len(),
            deadtime: config.timing.deadtime,
            wall_ms_at_zero: config.wall_ms_at_zero,
            now,
            life: Life::Joining,
            checks: peers.iter().map(Peer::check_at).collect(),
            peers_at: if peers.is_empty() { Instant::NEVER } else { rules.unknown_until },
            peers,
            view: View::default(),
            view_is_old: true,
            settles_at: None,
            groups: Groups::new(config),
            owner: FirstLiving,
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
            Event::SendFailed { link: _ } => {}
            Event::Carrier { link: _, up } => {
                if up {
                    self.pacer.tell();
                }
            }
            Event::Acquired { resource, attempt, result } => {
                self.groups.answer(resource, Effect::Acquire, attempt, result, now, &mut self.actions);
            }
            Event::Released { resource, attempt, result } => {
                self.groups.answer(resource, Effect::Release, attempt, result, now, &mut self.actions);
            }
            Event::Vanished { resource } => self.groups.vanished(resource, now, &mut self.actions),
            Event::Found { resource } => self.groups.found(resource, now, &mut self.actions),
            Event::Operator(Operator::Leave) => self.live(life::Input::Leave, now),
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

    /// Fills `out` with what this node thinks at `now`. Allocates only what `out` lacks.
    pub fn snapshot_into(&self, out: &mut Snapshot, now: Instant) {
        out.at = now.max(self.now);
        out.incarnation = self.rules.incarnation;
        out.quorum = self.view.standing == Standing::With;
        out.maintenance = false;
        out.leaving = self.life.is_leaving();
        out.nodes.clear();
        out.nodes.resize(self.nodes, NodeView::default());
        for peer in &self.peers {
            if let Some(view) = out.nodes.get_mut(peer.id().index()) {
                *view = peer.view(&self.rules);
            }
        }
        if let Some(own) = out.nodes.get_mut(self.rules.me.index()) {
            own.state = PeerState::Up;
            own.incarnation = self.rules.incarnation;
            own.deadtime = self.deadtime;
        }
        self.groups.view_into(&mut out.groups);
    }

    /// Time never goes back.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn deadline(&self, timer: Timer) -> Instant {
        match timer {
            Timer::Review if self.view_is_old || self.groups.is_dirty() => self.now,
            Timer::Review => Instant::NEVER,
            Timer::Settle => self.settles_at.unwrap_or(Instant::NEVER),
            Timer::Send => self.pacer.wake(),
            Timer::Peers => self.peers_at,
            Timer::Groups => self.groups.wake(),
            Timer::Leave => self.life.wake(),
        }
    }

    fn read(&mut self, reading: &Reading, now: Instant) {
        let id = reading.beat.node;
        if let Some(ack) = reading.beat.ack_of(self.rules.me).filter(|_| reading.heard)
            && (ack.incarnation, ack.seq) > (self.rules.incarnation, self.outgoing.beat().seq)
        {
            self.outlived = self.outlived.max(ack.incarnation.checked_add(1));
        }
        let Some(place) = self.place(id) else { return };
        let (Some(peer), Some(check)) = (self.peers.get_mut(place), self.checks.get_mut(place)) else {
            return;
        };
        let news = peer.read(reading, &self.rules, now, &mut self.actions);
        *check = peer.check_at();
        self.view_is_old |= news.changed;
        if news.returned {
            self.groups.mark_announce();
        }
        if news.greet {
            self.pacer.tell();
        }
        self.peers_at = self.checks.iter().copied().fold(Instant::NEVER, Instant::min);
    }

    fn judge(&mut self, now: Instant) {
        if self.peers_at > now {
            return;
        }
        for (peer, check) in self.peers.iter_mut().zip(&mut self.checks).filter(|(_, check)| **check <= now) {
            self.view_is_old |= peer.judge(&self.rules, now, &mut self.actions);
            *check = peer.check_at();
        }
        self.peers_at = self.checks.iter().copied().fold(Instant::NEVER, Instant::min);
    }

    /// Where a node stands in the list of peers, which leaves out this one.
    const fn place(&self, id: NodeId) -> Option<usize> {
        let (id, me) = (id.index(), self.rules.me.index());
        if id == me {
            None
        } else if id > me {
            Some(id - 1)
        } else {
            Some(id)
        }
    }

    /// Decides what the peers' changes mean for this node's life and for the groups.
    fn review(&mut self, now: Instant) {
        if self.view_is_old {
            self.view_is_old = false;
            self.look_around(now);
        }
        if self.settles_at.is_some_and(|at| at <= now) {
            self.settles_at = None;
            self.groups.mark_all();
        }
        if self.view.unknown.is_empty() {
            self.live(life::Input::AllKnown, now);
        }
        let scene = Scene {
            me: self.rules.me,
            view: &self.view,
            peers: &self.peers,
            life: self.life,
            is_settled: self.settles_at.is_none(),
            wall_ms: self.wall_ms_at_zero.saturating_add(now.0 / 1_000_000),
        };
        if self.groups.review(&self.owner, &scene, &mut self.outgoing, now, &mut self.actions) {
            self.pacer.tell();
        }
        if self.groups.are_at_rest() {
            self.live(life::Input::AtRest, now);
        }
        self.live(life::Input::Tick, now);
    }

    /// Somebody came, went or said something: who is here now?
    fn look_around(&mut self, now: Instant) {
        let had = self.view.standing == Standing::With;
        self.view = View::of(self.rules.me, self.nodes, &self.peers, self.policy);
        let have = self.view.standing == Standing::With;
        if had != have {
            self.actions.tell(now, Change::Quorum { have });
            self.settles_at = have.then(|| now.after(self.deadtime));
        }
        if self.view.dead.is_empty() {
            self.settles_at = None;
        }
        self.groups.mark_all();
    }

    /// Moves this node's life on; a change of what the heartbeats say is news.
    fn live(&mut self, input: life::Input, now: Instant) {
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

    fn send(&mut self, now: Instant) {
        let due = self.pacer.take(now);
        if due.beat && !self.groups.is_stuck() {
            self.actions.push(Action::PetWatchdog);
        }
        if due.links != 0 {
            self.outgoing.build(self.life.state(), &self.view, &self.peers, now);
            self.actions.push(Action::Send { links: due.links });
            self.life = life::next(self.life, life::Input::Sent, now);
            match self.life {
                Life::Telling { .. } => self.pacer.tell(),
                Life::Gone => self.actions.push(Action::Finished),
                Life::Joining | Life::Up | Life::Yielding { .. } => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
