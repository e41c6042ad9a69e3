//! What `xbeat status --json` prints: an interface that only grows, at the end.
//! Made from the newest snapshot of the core and the counters; read back by the command for its table.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_common::maps::Direction;
use agent_common::{LinkId, NodeId, Reject};
use agent_core::config::GateKind;
use agent_core::{GroupView, Instant, LinkView, NodeView, Snapshot};
use serde::{Deserialize, Serialize};

use super::label;
use super::pings::{self, Ping};
use super::process::Process;
use crate::bridge::{self, KernelView};
use crate::gate::guard;
use crate::links;
use crate::serial::{self, LineSettings};
use crate::settings::{ReceiveMode, Settings};
use crate::stats::{LineStats, Stats};

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// The cluster's name.
    pub cluster: String,
    /// Whether this node is with a majority (or the policy's equal).
    pub quorum: bool,
    /// Who shuts an address whose holder may not serve it: `kernel` or `userspace`.
    pub gate: String,
    /// How each interface receives: `native`, `generic`, `tcx` or `socket`.
    pub xdp: BTreeMap<String, String>,
    /// By node id.
    pub nodes: Vec<Node>,
    /// By group id.
    pub groups: Vec<Group>,
    /// How the agent runs.
    pub realtime: Realtime,
    /// Refused frames by reason, those that are not zero.
    pub rejected: BTreeMap<String, u64>,
    /// This node's own incarnation.
    pub incarnation: u64,
    /// Whether decisions are suspended.
    pub maintenance: bool,
    /// Whether this node is on its way out.
    pub leaving: bool,
    /// Version of the agent.
    pub version: String,
    /// What gates dropped, by address; those that are not zero.
    #[serde(default)]
    pub gate_drops: Vec<GateDrops>,
    /// This node's serial lines.
    #[serde(default)]
    pub lines: Vec<Line>,
    /// The process.
    #[serde(default)]
    pub process: Process,
    /// The network interfaces of the configuration, on this node.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Ping groups, as this node reaches them.
    #[serde(default)]
    pub pings: Vec<Ping>,
}

/// One serial line of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its device.
    pub device: String,
    /// Its link, as in [`Link::link`].
    pub link: String,
    /// `open`, or `lost`: it could not be opened, or is gone, and is looked for twice a second.
    pub state: String,
}

/// A network interface of the configuration, on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `up`, `down` (it is not up, or has no carrier) or `gone` (it is not there).
    pub state: String,
    /// Its index, `null` when it is not there.
    pub index: Option<u32>,
    /// How it receives: `native`, `generic`, `tcx` or `socket`; `null` when it is not there, or carries no link.
    pub receives: Option<String>,
    /// Who guards the service addresses on it: `kernel`, `userspace` or `missing` (nothing is served on it); `null` when
    /// this node has none there.
    pub gate: Option<String>,
    /// The links that can be used on it.
    pub links: Vec<String>,
}

/// Packets that the gate of an address dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateDrops {
    /// The address.
    pub address: String,
    /// Packets to it.
    pub ingress: u64,
    /// Packets from it.
    pub egress: u64,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// `up`, `late`, `dead`, `unknown` or `leaving`; this node itself is `up`, or `leaving`.
    pub state: String,
    /// Whether it votes and never serves.
    pub witness: bool,
    /// Its incarnation, 0 when never heard.
    pub incarnation: u64,
    /// Since its newest heartbeat that counts; `null` when there was none, 0 for this node.
    pub last_heard_ms: Option<u64>,
    /// The links that this node shares with it; none for this node.
    pub links: Vec<Link>,
    /// Whether it joined without being listed: it has no vote.
    #[serde(default)]
    pub joined: bool,
    /// How many ping groups it reaches, as it said last.
    #[serde(default)]
    pub score: u8,
}

/// One link to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Kind and interface, as `ucast:eth0`.
    pub link: String,
    /// `up`, `late`, `dead` or `unknown`.
    pub state: String,
    /// Round trip, `null` until measured.
    pub rtt_us: Option<u64>,
    /// Heartbeats lost, as a fraction of those sent.
    pub loss: f64,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its state on this node: `serving`, `stopped`, `starting`, `stopping` or `failed`.
    pub state: String,
    /// Who owns it in this node's view.
    pub owner: Option<String>,
    /// Its epoch, 0 for none.
    pub epoch: u64,
    /// How long this node's lease still runs, `null` without one.
    pub lease_ms: Option<u64>,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<String>,
    /// Why it is not served here, for people; `null` while it is.
    pub reason: Option<String>,
    /// Who votes for the node that this node votes for, as far as it knows.
    #[serde(default)]
    pub votes: Vec<String>,
}

/// How the agent runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Realtime {
    /// `deadline`, `fifo` or `other`.
    pub scheduling: String,
    /// Whether its memory is locked.
    pub memory_locked: bool,
    /// The latest wake-up of the realtime thread, behind its timer.
    pub lateness_max_us: u64,
}

/// Everything that a status is made of.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Names.
    pub settings: &'a Settings,
    /// Userspace's counters.
    pub stats: &'a Stats,
    /// The kernel's counters.
    pub kernel: &'a dyn KernelView,
    /// How each interface receives.
    pub modes: &'a BTreeMap<String, ReceiveMode>,
    /// The interfaces, in the order of [`links::interfaces`].
    pub interfaces: &'a [links::View],
    /// Who shuts an address whose holder may not serve it.
    pub gate: GateKind,
    /// This process.
    pub process: &'a bridge::Process,
    /// The core's view.
    pub snapshot: &'a Snapshot,
    /// CLOCK_MONOTONIC.
    pub now: Instant,
}

impl Sources<'_> {
    /// The interfaces of the configuration, on this node.
    pub fn interfaces(&self) -> impl Iterator<Item = Interface> {
        links::interfaces(self.settings).into_iter().zip(self.interfaces).map(|(name, view)| {
            let state = match (view.index, view.carries) {
                (0, _) => "gone",
                (_, true) => "up",
                (_, false) => "down",
            };
            let usable = LinkId::all().filter(|link| view.usable & 1 << link.raw() != 0);
            Interface {
                name: name.to_owned(),
                state: state.to_owned(),
                index: (view.index != 0).then_some(view.index),
                receives: view.mode.map(|mode| mode.label().to_owned()),
                gate: view.guard.label().map(str::to_owned),
                links: usable.map(|link| self.settings.link_name(link)).collect(),
            }
        })
    }

    /// Refused frames by reason, kernel and socket path together.
    pub fn rejected(&self) -> Vec<(Reject, u64)> {
        let kernel = self.kernel.counters();
        let count = |reason: &Reject| {
            let kernel = kernel.get(reason.index()).copied().unwrap_or(0);
            kernel.saturating_add(self.stats.socket_counter(reason.index()))
        };
        Reject::ALL.iter().map(|reason| (*reason, count(reason))).collect()
    }

    /// A node of the snapshot; before the first snapshot, nothing is known of it.
    pub fn node(&self, id: NodeId) -> NodeView {
        self.snapshot.nodes.get(id.index()).copied().unwrap_or_default()
    }

    /// The links that this node shares with `peer`.
    pub fn links(&self, peer: NodeId) -> impl Iterator<Item = (LinkId, LinkView)> {
        let view = self.node(peer);
        let me = self.settings.me;
        self.settings
            .links
            .iter()
            .filter(move |link| peer != me && link.reaches(peer) && link.reaches(me))
            .map(move |link| (link.id, view.links.get(link.id.index()).copied().unwrap_or_default()))
    }

    /// What gates dropped, by address.
    pub fn gate_drops(&self) -> impl Iterator<Item = GateDrops> {
        guard::places(self.settings).map(|placed| GateDrops {
            address: placed.address.address.to_string(),
            ingress: self.kernel.gate_drops(placed.place, Direction::Ingress),
            egress: self.kernel.gate_drops(placed.place, Direction::Egress),
        })
    }

    /// Since the newest heartbeat of a node that counts.
    pub fn age(&self, id: NodeId) -> Option<Duration> {
        if id == self.settings.me {
            return Some(Duration::ZERO);
        }
        self.node(id).counts_at.map(|at| self.now.since(at))
    }
}

impl Status {
    /// The present one.
    pub fn of(from: &Sources<'_>) -> Self {
        let Sources { settings, stats, modes, snapshot, .. } = *from;
        let rejected = from.rejected().into_iter().filter(|(_, count)| *count > 0);
        Self {
            node: settings.node_name(settings.me).to_owned(),
            cluster: settings.cluster.clone(),
            quorum: snapshot.quorum,
            gate: label::gate_kind(from.gate).to_owned(),
            xdp: modes.iter().map(|(interface, mode)| (interface.clone(), mode.label().to_owned())).collect(),
            nodes: settings.known_nodes().map(|(id, node)| from.status_of(id, node.witness)).collect(),
            groups: groups(from),
            realtime: Realtime {
                scheduling: label::scheduling(stats.scheduling()).to_owned(),
                memory_locked: stats.memory_locked(),
                lateness_max_us: stats.lateness.read().2 / 1_000,
            },
            rejected: rejected.map(|(reason, count)| (reason.label().to_owned(), count)).collect(),
            incarnation: snapshot.incarnation,
            maintenance: snapshot.maintenance,
            leaving: snapshot.leaving,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gate_drops: from.gate_drops().filter(|drops| drops.ingress + drops.egress > 0).collect(),
            lines: from.lines(),
            process: Process::of(from.process, stats),
            interfaces: from.interfaces().collect(),
            pings: pings::status(from),
        }
    }
}

impl Sources<'_> {
    fn lines(&self) -> Vec<Line> {
        let lines = serial::lines(self.settings).into_iter().zip(&self.stats.lines);
        let line = |(line, stats): (LineSettings, &LineStats)| Line {
            device: line.device.display().to_string(),
            link: self.settings.link_name(line.link),
            state: if stats.open.load(Ordering::Relaxed) != 0 { "open" } else { "lost" }.to_owned(),
        };
        lines.map(line).collect()
    }

    fn status_of(&self, id: NodeId, witness: bool) -> Node {
        let view = self.node(id);
        let own = id == self.settings.me;
        let state = match (own, self.snapshot.leaving) {
            (true, false) => "up",
            (true, true) => "leaving",
            (false, _) => label::peer(view.state),
        };
        let link = |(id, view): (LinkId, LinkView)| Link {
            link: self.settings.link_name(id),
            state: label::link(view.state).to_owned(),
            rtt_us: view.rtt.map(|rtt| whole(rtt.as_micros())),
            loss: f64::from(view.loss_ppm) / 1e6,
        };
        Node {
            name: self.settings.node_name(id).to_owned(),
            state: state.to_owned(),
            witness,
            incarnation: if own { self.snapshot.incarnation } else { view.incarnation },
            last_heard_ms: self.age(id).map(|age| whole(age.as_millis())),
            links: self.links(id).map(link).collect(),
            joined: self.settings.nodes.get(id.index()).is_some_and(|node| node.joined),
            score: view.score,
        }
    }
}

fn groups(from: &Sources<'_>) -> Vec<Group> {
    let group = |(place, settings): (usize, &crate::settings::GroupSettings)| {
        let view: GroupView = from.snapshot.groups.get(place).copied().unwrap_or_default();
        let prefixed =
            |address: &crate::settings::AddressSettings| format!("{}/{}", address.address, address.prefix);
        Group {
            name: settings.name.clone(),
            state: label::group(view.state).to_owned(),
            owner: view.owner.map(|owner| from.settings.node_name(owner).to_owned()),
            epoch: view.epoch,
            lease_ms: view.lease.map(|lease| whole(lease.as_millis())),
            addresses: settings.addresses.iter().map(prefixed).collect(),
            reason: view.reason.map(|reason| label::reason(reason).to_owned()),
            votes: view.votes.iter().map(|node| from.settings.node_name(node).to_owned()).collect(),
        }
    };
    from.settings.groups.iter().enumerate().map(group).collect()
}

fn whole(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
