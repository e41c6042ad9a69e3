//! The heartbeat that this node sends: built in place, once for each send. The table of claims goes along until every
//! living peer knows it, and now and then for those that are not heard but may hear; the name and what was measured of a
//! link go along now and then.

use core::time::Duration;

use agent_common::ids::{MAX_LINKS, MAX_NODES};
use agent_common::{Beat, Claim, Echo, GroupId, LinkId, Name, NodeSet, NodeState};

use crate::config::{Config, Start};
use crate::membership::View;
use crate::peer::Peer;
use crate::time::Instant;

/// While a peer that is not alive lacks the table it goes along with this many heartbeats after each change, and then with every
/// one whose number this divides: it may hear us though we do not hear it, and then it must learn what we hold. The first
/// are what raises the bar in the kernel of a holder whose agent stands still, before that one goes on.
pub(crate) const TABLE_EVERY: u64 = 8;

/// The name goes along while this node joins, and with every heartbeat whose number this divides.
pub(crate) const NAME_EVERY: u64 = 64;
/// Least time between two heartbeats that say what was measured of a link.
pub(crate) const ECHO_SPACING: Duration = Duration::from_millis(100);

/// What a heartbeat says of this node itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    /// Its life.
    pub(crate) state: NodeState,
    /// Whether decisions are suspended.
    pub(crate) maintenance: bool,
    /// Number of the vote configuration in force.
    pub(crate) vote_number: u16,
    /// The deadtime that it announces.
    pub(crate) deadtime: Duration,
    /// How many ping groups it reaches.
    pub(crate) score: u8,
}

/// The links that carry a heartbeat (bit = link id).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carriers {
    /// All of them.
    pub(crate) all: u8,
    /// Those that are slower than the node.
    pub(crate) slow: u8,
}

/// The heartbeat and its counters.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    beat: Beat,
    /// Nothing was sent by this process: its first frame carries its asks, whoever seems to be there.
    is_first: bool,
    /// The first heartbeat for which the table is no longer fresh.
    stale_from: u64,
    name: Name,
    /// No measure is told before.
    echo_from: Instant,
    /// The link whose turn it is.
    echo_turn: usize,
}

impl Outgoing {
    /// A heartbeat that says nothing yet. The table starts at version 1: 0 stands for "none known".
    pub(crate) fn new(config: &Config) -> Self {
        let mut beat = Beat::empty(config.me);
        beat.incarnation = config.incarnation;
        beat.keepalive_us = micros(config.timing.keepalive);
        beat.deadtime_us = micros(config.timing.deadtime);
        beat.votes_version = 1;
        if let Start::Carried(carried) = &config.start {
            (beat.seq, beat.votes_version) = (carried.seq, carried.votes_version.max(1));
        }
        Self {
            beat,
            is_first: true,
            stale_from: 0,
            name: config.name,
            echo_from: Instant::ZERO,
            echo_turn: 0,
        }
    }

    /// The number of the next heartbeat.
    pub(crate) const fn next_seq(&self) -> u64 {
        self.beat.seq.saturating_add(1)
    }

    /// The heartbeat as last built.
    pub(crate) const fn beat(&self) -> &Beat {
        &self.beat
    }

    /// Sets one row of the table; true when that changed it.
    pub(crate) fn claim(&mut self, group: GroupId, claim: Claim) -> bool {
        let Some(row) = self.beat.claims.get_mut(group.index()).filter(|row| **row != claim) else {
            return false;
        };
        *row = claim;
        self.beat.votes_version = self.beat.votes_version.checked_add(1).unwrap_or(1);
        self.stale_from = self.next_seq().saturating_add(TABLE_EVERY);
        true
    }

    /// Builds the next heartbeat.
    pub(crate) fn build(
        &mut self,
        words: Words,
        view: &View,
        peers: &[Peer],
        carriers: Carriers,
        now: Instant,
    ) {
        let echo = self.echo(peers, carriers, now);
        let beat = &mut self.beat;
        beat.seq = beat.seq.saturating_add(1);
        beat.sent_ns = now.0;
        beat.state = words.state;
        beat.flags = if words.maintenance { Beat::MAINTENANCE } else { 0 };
        beat.vote_number = words.vote_number;
        beat.deadtime_us = micros(words.deadtime);
        beat.score = words.score;
        let says_name = words.state == NodeState::Joining || beat.seq.is_multiple_of(NAME_EVERY);
        beat.name = if says_name { self.name } else { Name::NONE };
        beat.echo = echo;
        beat.view = Some(view.dead);
        beat.has_claims = core::mem::take(&mut self.is_first);
        let is_due = beat.seq < self.stale_from || beat.seq.is_multiple_of(TABLE_EVERY);
        for peer in peers {
            if let (Some(ack), Some(slot)) = (peer.ack(), beat.acks.get_mut(peer.id().index())) {
                *slot = ack;
                beat.acked.insert(peer.id());
            }
            let lacks = peer.knows_mine() != beat.votes_version;
            beat.has_claims |= lacks && (peer.is_alive() || is_due);
        }
    }

    /// What was measured of one link, the links in turn. It makes the heartbeat longer, so it spares slow links while a faster
    /// one is heard.
    fn echo(&mut self, peers: &[Peer], carriers: Carriers, now: Instant) -> Option<Echo> {
        if now < self.echo_from {
            return None;
        }
        let fast = carriers.all & !carriers.slow;
        if carriers.slow != 0 && peers.iter().any(|peer| peer.is_heard_on(fast)) {
            return None;
        }
        self.echo_from = now.after(ECHO_SPACING);
        let turn = self.echo_turn;
        let links = LinkId::all().chain(LinkId::all()).skip(turn).take(MAX_LINKS);
        let echo = links.filter_map(|link| measured(link, peers)).next()?;
        self.echo_turn = (echo.link.index() + 1) % MAX_LINKS;
        Some(echo)
    }
}

/// The delays of all peers that are heard on `link`, if there are any.
fn measured(link: LinkId, peers: &[Peer]) -> Option<Echo> {
    let mut echo = Echo { link, nodes: NodeSet::EMPTY, delay_ns: [0; MAX_NODES] };
    for peer in peers {
        if let (Some(delay), Some(slot)) = (peer.delay(link), echo.delay_ns.get_mut(peer.id().index())) {
            *slot = delay;
            echo.nodes.insert(peer.id());
        }
    }
    (!echo.nodes.is_empty()).then_some(echo)
}

/// A duration as it is announced.
fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
