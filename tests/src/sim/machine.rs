//! One machine: a kernel that receives, validates and stamps frames and keeps addresses, and an agent that may be paused,
//! killed and started anew. What the kernel has outlives the agent's pauses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_common::ids::{MAX_LINKS, MAX_NODES};
use agent_common::maps::{ClusterConfig, KeyState, PeerSlot};
use agent_common::window::{PeerWindow, Slots, Windows};
use agent_common::wire::{FRAME_MAX, cluster_id, decode, encode};
use agent_common::{Accepted, Beat, GroupId, KeyId, Keys, LinkId, Name, NodeId, Reject, receive};
use agent_core::config::{
    GateKind, GroupConfig, LinkConfig, Mutated, NodeConfig, Policy, Quorum, Start, Timing,
};
use agent_core::{Config, Event, Failure, Instant, LinkReading, Node, Operator, Reading, ResourceRef};

/// What the machines of a world have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes, all of them owners.
    pub nodes: u8,
    /// How many links join them.
    pub links: u8,
    /// How many groups, each with one address and the same `prefer`: the nodes in order.
    pub groups: u8,
    /// The rule of quorum.
    pub policy: Policy,
    /// Whether groups move back.
    pub auto_failback: bool,
    /// Intervals.
    pub timing: Timing,
    /// What shuts the addresses. The kernel's gates here have no bars: what the agents write must do.
    pub gate: GateKind,
    /// A rule of the core that is broken on purpose.
    pub mutated: Mutated,
}

impl Setup {
    /// `nodes` nodes on two links with one group; 10 ms keepalive, 50 ms deadtime.
    pub fn new(nodes: u8, policy: Policy) -> Self {
        Self {
            nodes,
            links: 2,
            groups: 1,
            policy,
            auto_failback: false,
            timing: Timing {
                keepalive: Duration::from_millis(10),
                deadtime: Duration::from_millis(50),
                warntime: Duration::from_millis(25),
                initdead: Duration::from_millis(500),
            },
            gate: GateKind::Userspace,
            mutated: Mutated::default(),
        }
    }

    fn config(&self, me: NodeId, incarnation: u64) -> Config {
        let keepalive = self.timing.keepalive;
        let links = LinkId::all().take(usize::from(self.links));
        let group = GroupConfig {
            prefer: NodeId::all().take(usize::from(self.nodes)).collect(),
            auto_failback: self.auto_failback,
            resources: 1,
        };
        Config {
            me,
            name: Name::NONE,
            incarnation,
            wall_ms_at_zero: 1_700_000_000_000,
            seed: 1,
            timing: self.timing,
            nodes: vec![NodeConfig::default(); usize::from(self.nodes)],
            links: links.map(|id| LinkConfig { id, keepalive }).collect(),
            quorum: Quorum { policy: self.policy, number: 0, change: None },
            groups: vec![group; usize::from(self.groups)],
            reach_dampening: Duration::from_secs(5),
            start: Start::Fresh,
            gate: self.gate,
            mutated: self.mutated,
        }
    }
}

/// What the agent finds besides the slots when it runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    /// An effect ended.
    Ended { resource: ResourceRef, attempt: u32, acquires: bool, result: Result<(), Failure> },
    /// An address was removed by somebody.
    Vanished { resource: ResourceRef },
    /// The operator wants the node to leave.
    Leave,
}

impl Message {
    /// The event that the core is fed.
    pub(super) const fn event(self) -> Event<'static> {
        match self {
            Self::Ended { resource, attempt, acquires: true, result } => {
                Event::Acquired { resource, attempt, result }
            }
            Self::Ended { resource, attempt, acquires: false, result } => {
                Event::Released { resource, attempt, result }
            }
            Self::Vanished { resource } => Event::Vanished { resource },
            Self::Leave => Event::Operator { ticket: 0, what: Operator::Leave },
        }
    }
}

/// A running (or paused) agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) node: Node,
    /// By node id: the slot's generation at the last reading.
    pub(super) seen: [u64; MAX_NODES],
    pub(super) inbox: Vec<Message>,
    pub(super) is_paused: bool,
    /// The number of the armed timer.
    pub(super) armed: u64,
    /// Until then lateness is the pause's fault.
    pub(super) excused_until: u64,
}

/// What the kernel has truly received of a peer that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) deadtime: Duration,
}

/// One machine.
pub(super) struct Machine {
    pub(super) id: NodeId,
    /// Its clock is the world's plus this.
    offset: u64,
    pub(super) life: u64,
    pub(super) agent: Option<Agent>,
    pub(super) addresses: BTreeSet<ResourceRef>,
    /// Until when the gate of each group is open, by this machine's clock.
    pub(super) gates: BTreeMap<GroupId, Instant>,
    /// The effects are carried out one after the other: the last one planned is done then.
    pub(super) busy_until: u64,
    pub(super) heard: BTreeMap<NodeId, Heard>,
    cluster: ClusterConfig,
    key: KeyState,
    keys: Box<Keys>,
    windows: Box<Windows>,
    slots: Box<Slots>,
}

impl Machine {
    /// A machine whose agent does not run yet.
    pub(super) fn new(id: NodeId, setup: &Setup, offset: u64) -> Self {
        let key = KeyState::from_secret(&[7; 32]);
        let mut keys = Box::new([KeyState::default(); 256]);
        keys[1] = key;
        let initdead = setup.timing.initdead.as_micros();
        Self {
            id,
            offset,
            life: 0,
            agent: None,
            addresses: BTreeSet::new(),
            gates: BTreeMap::new(),
            busy_until: 0,
            heard: BTreeMap::new(),
            cluster: ClusterConfig {
                cluster: cluster_id("sim"),
                nodes: (1 << setup.nodes) - 1,
                incarnation: 0,
                deadtime_max_us: u32::try_from(initdead).unwrap_or(u32::MAX),
                me: u32::from(id.raw()),
            },
            key,
            keys,
            windows: Box::new([PeerWindow::default(); MAX_NODES]),
            slots: Box::new([PeerSlot::EMPTY; MAX_NODES]),
        }
    }

    /// The machine's clock at the world's `at_ns`.
    pub(super) const fn clock(&self, at_ns: u64) -> Instant {
        Instant(at_ns + self.offset)
    }

    /// The world's time at the machine's `at`.
    pub(super) const fn world_ns(&self, at: Instant) -> u64 {
        at.0.saturating_sub(self.offset)
    }

    /// Starts the agent with a new incarnation. Addresses left by an earlier one are removed before it speaks.
    pub(super) fn start(&mut self, setup: &Setup, at_ns: u64) {
        self.life += 1;
        self.addresses.clear();
        self.gates.clear();
        self.heard.clear();
        self.cluster.incarnation = self.life;
        self.windows.fill(PeerWindow::default());
        self.slots.fill(PeerSlot::EMPTY);
        self.agent = Some(Agent {
            node: Node::new(&setup.config(self.id, self.life), self.clock(at_ns)),
            seen: [0; MAX_NODES],
            inbox: Vec::new(),
            is_paused: false,
            armed: 0,
            excused_until: at_ns,
        });
    }

    /// A frame arrives.
    pub(super) fn receive(&mut self, link: LinkId, frame: &[u8], at_ns: u64) -> Result<Accepted, Reject> {
        let stamp = self.clock(at_ns);
        let (windows, slots) = (&mut self.windows, &mut self.slots);
        let accepted = receive(frame, link, &self.cluster, &self.keys, windows, slots, stamp.0)?;
        let slot = &self.slots[accepted.node.index()];
        if accepted.newest && slot.counts_ns != 0 {
            let deadtime = Duration::from_micros(u64::from(decode(slot.body())?.deadtime_us));
            self.heard.insert(accepted.node, Heard { at: Instant(slot.counts_ns), deadtime });
        }
        Ok(accepted)
    }

    /// When the newest frame of a life arrived that does not count yet: its first sign may keep the node alive, since
    /// the slot no longer shows what the earlier life sent last.
    pub(super) fn reborn(&self, peer: NodeId) -> Option<Instant> {
        let slot = &self.slots[peer.index()];
        (slot.counts_ns == 0 && slot.heard_ns != 0).then_some(Instant(slot.heard_ns))
    }

    /// The generation of a peer's slot.
    pub(super) const fn generation(&self, peer: NodeId) -> u64 {
        self.slots[peer.index()].generation
    }

    /// A reading of a peer's slot at `read_at`.
    pub(super) fn read(&self, peer: NodeId, read_at: Instant) -> Reading {
        let slot = &self.slots[peer.index()];
        let Ok(beat) = decode(slot.body()) else { return Reading::silent(peer, read_at) };
        let mut links = [LinkReading::default(); MAX_LINKS];
        for (link, slot) in links.iter_mut().zip(&slot.links) {
            let at = (slot.stamp_ns != 0).then_some(Instant(slot.stamp_ns));
            *link = LinkReading {
                at,
                seq: slot.seq,
                first_seq: slot.first_seq,
                frames: slot.frames,
                sent_ns: slot.sent_ns,
                keepalive_us: u32::try_from(slot.keepalive_us).unwrap_or(0),
            };
        }
        Reading {
            read_at,
            heard: true,
            heard_at: Instant(slot.heard_ns),
            counts_at: (slot.counts_ns != 0).then_some(Instant(slot.counts_ns)),
            accepted: slot.accepted,
            links,
            beat,
        }
    }

    /// The frame of `beat` for `link`.
    pub(super) fn frame(&self, beat: &Beat, link: LinkId, out: &mut [u8; FRAME_MAX]) -> Option<usize> {
        Some(encode(beat, link, beat.keepalive_us, self.cluster.cluster, KeyId::new(1)?, &self.key, out))
    }
}
