//! What a seed stands for: the cluster, its timing, its network, and what will be done to it.

use std::time::Duration;

use agent_common::{LinkId, Name, NodeId};
use agent_core::Config;
use agent_core::config::{
    GateKind, GroupConfig, LinkConfig, Mutated, NodeConfig, Policy, Quorum, Start, TieBreak, Timing,
    VoteChange,
};

use crate::sim::Rng;

use super::net::Path;

/// Nanoseconds in a microsecond.
pub(super) const US: u64 = 1000;
/// Nanoseconds in a millisecond.
pub(super) const MS: u64 = 1_000_000;
/// The longest delay that a path has all the time.
const DELAY_MAX: u64 = 300 * MS;
/// About how many frames a run may send.
const FRAMES: u64 = 14_000;

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything that can go wrong, at random.
    Storm,
    /// As a storm, and now and then a machine stands still with its clock.
    Standstill,
    /// As a storm, while votes are added and removed, and a node may never hear of it.
    Voters,
    /// One path is cut in one direction, for ever; nothing else.
    OneWay,
    /// 30 % of all frames are lost; nothing else.
    Lossy,
    /// Which node reaches which ping group changes; nothing else.
    Reach,
    /// Every agent is replaced in turn, with its state, and is not heard for a while after; nothing else.
    Restarts,
}

impl Kind {
    /// Whether nothing but one thing happens.
    pub(super) const fn is_calm(self) -> bool {
        match self {
            Self::Storm | Self::Standstill | Self::Voters => false,
            Self::OneWay | Self::Lossy | Self::Reach | Self::Restarts => true,
        }
    }
}

/// Why a node starts with the incarnation that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// One more than the file says.
    File,
    /// The wall clock's milliseconds.
    Time,
}

/// All that a seed decides before the run begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is done.
    pub kind: Kind,
    /// How many nodes there are at first.
    pub nodes: u8,
    /// Bit for each node that never serves.
    pub witnesses: u32,
    /// How many links.
    pub links: u8,
    /// How many groups.
    pub groups: u8,
    /// Who may decide.
    pub policy: Policy,
    /// Intervals.
    pub timing: Timing,
    /// Whether groups move back.
    pub auto_failback: bool,
    /// Whether every node believes itself the most preferred.
    pub equal_ranks: bool,
    /// How incarnations are made.
    pub(super) generation: Generation,
    /// By node: error of the clock in parts per million.
    pub(super) ppm: [i64; 8],
    /// By node: by how much its wall clock is ahead, milliseconds.
    pub(super) wall_ahead_ms: [u64; 8],
    /// Whether disks and wall clocks go back, so that incarnations are used again.
    pub(super) goes_back: bool,
    /// True nanoseconds during which things go wrong.
    pub(super) storm: u64,
    /// Mean true nanoseconds between two faults.
    pub(super) fault_every: u64,
    /// Mean true nanoseconds between two replays, 0 for no attacker.
    pub(super) replay_every: u64,
    /// What a path is like at first.
    pub(super) path: Path,
    /// Of 1000 rounds, how many are interrupted.
    pub(super) interrupted: u64,
    /// Of 1000 timers, how many are late.
    pub(super) late: u64,
    /// Ping groups that count for the score.
    pub pings: u8,
    /// Two nodes whose tie is broken by ping: whether one of them at a time reaches the ping group.
    pub one_side: bool,
    /// Nodes that join without a vote; their ids come last.
    pub joined: u8,
    /// How many times slower than the node the last link is.
    pub slow: u32,
}

impl Plan {
    /// What `seed` stands for.
    pub fn of(rng: &mut Rng) -> Self {
        let kind = match rng.below(100) {
            0..=64 => Kind::Storm,
            65..=74 => Kind::Standstill,
            75..=84 => Kind::Voters,
            85..=88 => Kind::OneWay,
            89..=92 => Kind::Lossy,
            93..=96 => Kind::Reach,
            _ => Kind::Restarts,
        };
        let calm = kind.is_calm();
        let nodes = match (kind, rng.below(100)) {
            (Kind::OneWay | Kind::Lossy | Kind::Voters | Kind::Reach | Kind::Restarts, roll) => {
                [3, 3, 3, 4, 5][roll as usize % 5]
            }
            (_, 0..=3) => 1,
            (_, 4..=23) => 2,
            (_, 24..=58) => 3,
            (_, 59..=75) => 4,
            (_, 76..=89) => 5,
            (_, 90..=94) => 6,
            _ => 7,
        };
        let links = if calm { 2 } else { [2, 2, 3, 1][rng.below(4) as usize] };
        let groups = [1, 1, 1, 2, 3, 8][rng.below(6) as usize];
        let mut timing = timing(rng, calm);
        if kind == Kind::Restarts {
            timing.initdead = 8 * timing.deadtime;
        }
        let policy = match rng.below(4) {
            0 if nodes == 2 && !calm => Policy::TwoNode(TieBreak::Always),
            1 | 2 if nodes == 2 && !calm => Policy::TwoNode(TieBreak::Ping),
            _ => Policy::Majority,
        };
        let mut witnesses = 0;
        if rng.chance(300) && policy == Policy::Majority {
            (1..nodes).filter(|_| rng.chance(350)).for_each(|node| witnesses |= 1 << node);
        }
        let deadtime = nanos(timing.deadtime);
        let (keepalive, initdead) = (nanos(timing.keepalive), nanos(timing.initdead));
        // An agent that runs late by more than its lease has left loses it, restart or not.
        let often = u64::from(kind != Kind::Restarts);
        let beats = FRAMES / (u64::from(nodes) * u64::from(nodes.max(2) - 1) * u64::from(links));
        Self {
            kind,
            nodes,
            witnesses,
            links,
            groups,
            policy,
            timing,
            auto_failback: rng.chance(350) && kind != Kind::Restarts,
            equal_ranks: rng.chance(200) && kind != Kind::Reach,
            generation: if rng.chance(700) { Generation::File } else { Generation::Time },
            ppm: std::array::from_fn(|_| ppm(rng)),
            wall_ahead_ms: std::array::from_fn(|_| rng.below(20_000)),
            goes_back: rng.chance(200),
            storm: (beats.clamp(200, 1500) * keepalive).max(4 * initdead),
            fault_every: deadtime * [1, 2, 4, 12][rng.below(4) as usize],
            replay_every: if rng.chance(500) && !calm { keepalive * (1 + rng.below(20)) / 4 } else { 0 },
            path: path(rng, keepalive, calm),
            interrupted: [0, 5, 50, 300][rng.below(4) as usize] * often,
            late: [0, 10, 100][rng.below(3) as usize] * often,
            pings: if kind == Kind::Reach || (rng.chance(400) && kind != Kind::Restarts) { 2 } else { 0 },
            one_side: rng.chance(600),
            joined: if !calm && kind != Kind::Voters && rng.chance(250) { 1 } else { 0 },
            slow: if links > 1 && rng.chance(250) { 3 + rng.below(15) as u32 } else { 1 },
        }
    }

    /// Machines there are, the one whose vote is added later included.
    pub(super) fn total(&self) -> u8 {
        self.nodes + u8::from(self.kind == Kind::Voters) + self.joined
    }

    /// Whether `node` has no vote.
    pub(super) fn is_joined(&self, node: u8) -> bool {
        self.joined != 0 && node >= self.nodes
    }

    /// How long a difference in what nodes reach lasts before a group moves for it.
    pub(super) fn dampening(&self) -> Duration {
        3 * self.timing.deadtime
    }

    /// The interval of a link.
    pub(super) fn pace(&self, link: u8) -> Duration {
        self.timing.keepalive * if link + 1 == self.links { self.slow } else { 1 }
    }

    /// Votes that make a majority; 0 where that changes, or another rule holds.
    pub(super) fn majority(&self) -> usize {
        match self.policy {
            Policy::Majority if self.kind != Kind::Voters => usize::from(self.nodes) / 2 + 1,
            Policy::Majority | Policy::TwoNode(_) => 0,
        }
    }

    /// Whether two servers are excluded at all.
    pub(super) fn one_server(&self) -> bool {
        match self.policy {
            Policy::Majority => true,
            Policy::TwoNode(TieBreak::Ping) => self.one_side,
            Policy::TwoNode(TieBreak::Always | TieBreak::Fence) => false,
        }
    }

    /// The configuration of `node` while the votes are `votes`; `knows_joined`: whether it lists those without a vote.
    pub(super) fn config(&self, node: u8, votes: &Votes, knows_joined: bool) -> Config {
        let listed = votes.listed + if knows_joined { self.joined } else { 0 };
        let owners = |node: &u8| self.witnesses >> node & 1 == 0;
        let groups = (0..self.groups).map(|group| {
            let mut prefer: Vec<u8> = (0..votes.listed).filter(owners).collect();
            let first = if self.equal_ranks { node } else { group };
            let turn = prefer.iter().position(|owner| *owner >= first % votes.listed).unwrap_or(0);
            prefer.rotate_left(turn);
            let prefer = prefer.into_iter().filter_map(NodeId::new).collect();
            GroupConfig { prefer, auto_failback: self.auto_failback && !self.equal_ranks, resources: 1 }
        });
        Config {
            me: NodeId::new(node).unwrap_or(NodeId::FIRST),
            name: Name::NONE,
            incarnation: 0,
            wall_ms_at_zero: 0,
            seed: u64::from(node),
            timing: self.timing,
            nodes: (0..listed)
                .map(|node| NodeConfig { witness: !owners(&node), vote: !self.is_joined(node) })
                .collect(),
            links: LinkId::all()
                .take(usize::from(self.links))
                .map(|id| LinkConfig { id, keepalive: self.pace(id.raw()) })
                .collect(),
            quorum: Quorum { policy: self.policy, number: votes.number, change: votes.change },
            groups: groups.collect(),
            reach_dampening: self.dampening(),
            start: Start::Fresh,
            gate: GateKind::Kernel,
            mutated: Mutated::default(),
        }
    }
}

/// The votes of one configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Votes {
    pub(super) number: u16,
    /// Nodes that it lists: the first so many.
    pub(super) listed: u8,
    pub(super) change: Option<VoteChange>,
}

/// Keepalives from 10 ms to 1 s, deadtimes of 3 to 12 of them, an initdead of 1 to 8 deadtimes.
fn timing(rng: &mut Rng, calm: bool) -> Timing {
    let keepalive = [10, 20, 50, 100, 250, 1000][rng.below(6) as usize] * MS;
    let factor = if calm { 5 + rng.below(4) } else { 3 + rng.below(10) };
    let deadtime = keepalive * factor - rng.below(keepalive / 3);
    let initdead = deadtime * [1, 2, 3, 8][rng.below(4) as usize];
    let duration = |ns: u64| Duration::from_micros(ns / US);
    Timing {
        keepalive: duration(keepalive),
        deadtime: duration(deadtime),
        warntime: duration(deadtime * 6 / 10),
        initdead: duration(initdead),
    }
}

/// The error of a clock: its extremes are the cases that matter.
pub(super) fn ppm(rng: &mut Rng) -> i64 {
    match rng.below(5) {
        0 | 1 => 1000,
        2 | 3 => -1000,
        _ => rng.below(2001).cast_signed() - 1000,
    }
}

/// What a path is like: from a quiet cable to a bad line.
pub(super) fn path(rng: &mut Rng, keepalive: u64, calm: bool) -> Path {
    let most = if calm { keepalive / 4 } else { DELAY_MAX.min(keepalive * 4) };
    // The delay's logarithm is spread evenly.
    let mut delay = 5 * US;
    while delay < most && rng.chance(750) {
        delay = delay * 3 / 2 + rng.below(delay);
    }
    let delay = delay.min(most);
    let mut path = Path { delay, jitter: delay / 2 + US, burst: (0, 1024), ..Path::default() };
    if calm {
        return path;
    }
    if rng.chance(300) {
        path.loss = rng.below(500);
    }
    if rng.chance(200) {
        path.burst = (rng.below(60), 30 + rng.below(500));
    }
    if rng.chance(300) {
        path.doubled = rng.below(400);
    }
    if rng.chance(300) {
        path.held_back = (1 + rng.below(100), keepalive * [2, 10, 100][rng.below(3) as usize]);
    }
    path
}

/// A duration in nanoseconds.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
