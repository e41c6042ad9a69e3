//! One node of a steady cluster: every peer is heard once a keepalive, every group is held by whom it prefers, and nothing else
//! happens. What benchmarks of the core run, in a package of its own so that it is built without what tests add to the core.

use std::time::Duration;

use agent_common::{Ack, Claim, LinkId, Name, NodeId, NodeSet, NodeState};
use agent_core::config::{
    GateKind, GroupConfig, LinkConfig, Mutated, NodeConfig, Policy, Quorum, Start, Timing,
};
use agent_core::{Action, Config, Event, Instant, Node, Reading};

/// Groups, spread over all nodes.
pub const GROUPS: usize = 64;
/// Between two rounds.
pub const KEEPALIVE: Duration = Duration::from_millis(10);
/// Rounds until all votes are given.
const ROUNDS_TO_SETTLE: usize = 100;

/// One node, and the slots of its peers.
pub struct Cluster {
    config: Config,
    node: Node,
    slots: Vec<Reading>,
    now: Instant,
}

/// Why there is no cluster to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsteady {
    /// No such number of nodes.
    Nodes,
    /// Fewer groups are held than should be, or more.
    Held {
        /// Held by this node.
        held: usize,
        /// Preferring it.
        expected: usize,
    },
}

impl std::fmt::Display for Unsteady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nodes => write!(f, "a cluster has 2 to 32 nodes"),
            Self::Held { held, expected } => write!(f, "{held} groups are held instead of {expected}"),
        }
    }
}

impl std::error::Error for Unsteady {}

impl Cluster {
    /// A cluster of `nodes`, settled.
    ///
    /// # Errors
    /// It does not settle.
    pub fn new(nodes: u8) -> Result<Self, Unsteady> {
        let config = config(nodes).filter(|_| nodes >= 2).ok_or(Unsteady::Nodes)?;
        let now = Instant(1_000_000_000);
        let slots = (1..nodes).map(|peer| slot(peer, &config, now)).collect();
        let mut cluster = Self { node: Node::new(&config, now), config, slots, now };
        for _ in 0..ROUNDS_TO_SETTLE {
            cluster.beat();
            cluster.hear(heartbeat);
            cluster.tick(tick);
        }
        cluster.steady()?;
        Ok(cluster)
    }

    /// A keepalive passes, and every peer has sent its next heartbeat, which acks ours.
    pub fn beat(&mut self) {
        self.now = self.now.after(KEEPALIVE);
        let mine = self.node.outgoing();
        let ack = Ack { incarnation: mine.incarnation, seq: mine.seq, table: mine.votes_version };
        for slot in &mut self.slots {
            (slot.read_at, slot.heard_at, slot.counts_at) = (self.now, self.now, Some(self.now));
            (slot.accepted, slot.beat.seq) = (slot.accepted + 1, slot.beat.seq + 1);
            slot.beat.acks[0] = ack;
            let link = &mut slot.links[0];
            (link.at, link.seq, link.frames) = (Some(self.now), slot.beat.seq, link.frames + 1);
            slot.beat.has_claims = slot.beat.seq == 1;
            for (theirs, asked) in slot.beat.claims.iter_mut().zip(&mine.claims) {
                if asked.epoch != 0 && asked.candidate == 0 && theirs.epoch != asked.epoch {
                    *theirs = Claim { epoch: asked.epoch, candidate: 0, flags: 0 };
                    slot.beat.votes_version += 1;
                    slot.beat.has_claims = true;
                }
            }
        }
    }

    /// Every peer is heard, each by one call of `heartbeat`.
    pub fn hear(&mut self, heartbeat: fn(&mut Node, &Reading, Instant)) {
        for slot in &self.slots {
            heartbeat(&mut self.node, slot, self.now);
        }
    }

    /// The node decides and sends, by one call of `tick`; what it acquires, it gets.
    pub fn tick(&mut self, tick: fn(&mut Node, Instant) -> Vec<Action>) {
        for action in tick(&mut self.node, self.now) {
            if let Action::Acquire { resource, attempt } = action {
                self.node.handle(Event::Acquired { resource, attempt, result: Ok(()) }, self.now);
            }
        }
        while self.node.poll_action().is_some() {}
    }

    /// How many groups this node holds: all that prefer it.
    ///
    /// # Errors
    /// Others: what was measured was no steady cluster.
    pub fn steady(&self) -> Result<usize, Unsteady> {
        let held = self.node.outgoing().claims.iter().filter(|claim| claim.held()).count();
        let expected = self.config.groups.iter().filter(|group| group.prefer.first() == Some(&id(0))).count();
        if held == expected { Ok(held) } else { Err(Unsteady::Held { held, expected }) }
    }

    /// How many peers it has.
    pub fn peers(&self) -> usize {
        self.slots.len()
    }
}

/// One heartbeat in.
pub fn heartbeat(node: &mut Node, slot: &Reading, now: Instant) {
    node.handle(Event::Reading(slot), now);
    while let Some(action) = node.poll_action() {
        std::hint::black_box(action);
    }
}

/// One round out: leases renewed, a heartbeat sent. Returns what asks for an answer.
pub fn tick(node: &mut Node, now: Instant) -> Vec<Action> {
    node.handle_timeout(now);
    let mut asks = Vec::new();
    while let Some(action) = node.poll_action() {
        if matches!(action, Action::Acquire { .. }) {
            asks.push(action);
        } else {
            std::hint::black_box(action);
        }
    }
    asks
}

fn id(raw: u8) -> NodeId {
    // Below MAX_NODES by construction.
    NodeId::new(raw).unwrap_or(NodeId::FIRST)
}

/// A peer that holds the groups that it comes first in.
fn slot(peer: u8, config: &Config, now: Instant) -> Reading {
    let mut slot = Reading::silent(id(peer), now);
    slot.heard = true;
    slot.links[0].first_seq = 1;
    let beat = &mut slot.beat;
    (beat.incarnation, beat.state, beat.deadtime_us) = (7, NodeState::Up, 50_000);
    (beat.votes_version, beat.has_claims) = (1, true);
    beat.view = Some(NodeSet::EMPTY);
    beat.acked.insert(id(0));
    for (row, group) in beat.claims.iter_mut().zip(&config.groups) {
        if group.prefer.first() == Some(&id(peer)) {
            *row = Claim { epoch: 256 + u64::from(peer), candidate: peer, flags: Claim::HELD };
        }
    }
    slot
}

fn config(nodes: u8) -> Option<Config> {
    NodeId::new(nodes.checked_sub(1)?)?;
    let first = |group: usize| (group % usize::from(nodes)) as u8;
    let prefer = |group| (0..nodes).map(|place| id((first(group) + place) % nodes)).collect();
    Some(Config {
        me: id(0),
        name: Name::NONE,
        incarnation: 100,
        wall_ms_at_zero: 1_700_000_000_000,
        seed: 1,
        timing: Timing {
            keepalive: KEEPALIVE,
            deadtime: Duration::from_millis(50),
            warntime: Duration::from_millis(25),
            initdead: Duration::from_secs(2),
        },
        nodes: vec![NodeConfig::default(); usize::from(nodes)],
        links: vec![LinkConfig { id: LinkId::new(0)?, keepalive: KEEPALIVE }],
        quorum: Quorum { policy: Policy::Majority, number: 0, change: None },
        groups: (0..GROUPS)
            .map(|group| GroupConfig { prefer: prefer(group), auto_failback: false, resources: 1 })
            .collect(),
        reach_dampening: Duration::from_secs(5),
        start: Start::Fresh,
        gate: GateKind::Kernel,
        mutated: Mutated::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Cluster, Unsteady, heartbeat, tick};

    #[test]
    fn clusters_of_every_size_settle_and_stay() {
        for nodes in [2, 8, 32] {
            let mut cluster = Cluster::new(nodes).expect("settled");
            for _ in 0..20 {
                cluster.beat();
                cluster.hear(heartbeat);
                cluster.tick(tick);
            }
            assert_eq!(cluster.steady(), Ok(64usize.div_ceil(usize::from(nodes))), "{nodes} nodes");
        }
    }

    #[test]
    fn a_cluster_that_nobody_hears_is_not_steady() {
        let mut cluster = Cluster::new(3).expect("settled");
        for _ in 0..20 {
            cluster.beat();
            cluster.tick(tick);
        }
        assert!(matches!(cluster.steady(), Err(Unsteady::Held { held: 0, .. })), "{:?}", cluster.steady());
        assert_eq!(Cluster::new(1).err(), Some(Unsteady::Nodes));
    }
}
