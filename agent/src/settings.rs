//! What the configuration means: names resolved to ids, intervals checked, addresses parsed. No TOML from here on.
//! Made by `config` from the file, read by every thread; never changed after start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use agent_common::{GroupId, LinkId, NodeId};
use agent_core::ResourceRef;
use agent_core::config::{Quorum, Timing};

/// One configuration, valid as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The cluster's name.
    pub cluster: String,
    /// First four bytes of SHA-256 of the name.
    pub cluster_id: u32,
    /// This node.
    pub me: NodeId,
    /// By node id.
    pub nodes: Vec<NodeSettings>,
    /// Intervals.
    pub timing: Timing,
    /// Who may decide.
    pub quorum: Quorum,
    /// The vote that was added or removed since the number before [`Quorum::number`].
    pub vote_change: Option<VoteChange>,
    /// By link id.
    pub links: Vec<LinkSettings>,
    /// By group id.
    pub groups: Vec<GroupSettings>,
    /// Ping groups, at most [`PINGS_MAX`].
    pub pings: Vec<PingSettings>,
    /// The ping group that breaks the tie of two nodes: its place in [`Settings::pings`].
    pub tie_break_ping: Option<usize>,
    /// How long a node must reach more ping groups than a group's holder before the group moves to it.
    pub reachtime: Duration,
    /// Which nodes may join that the file does not list.
    pub autojoin: Autojoin,
    /// Where the keys are.
    pub key_file: PathBuf,
    /// Control socket.
    pub control_socket: PathBuf,
    /// Where `/metrics` is served, if anywhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Watchdog device, if any.
    pub watchdog: Option<PathBuf>,
    /// How the agent runs.
    pub runtime: RuntimeSettings,
}

impl Settings {
    /// A node's name, empty for an id that is not configured.
    pub fn node_name(&self, node: NodeId) -> &str {
        self.nodes.get(node.index()).map_or("", |node| node.name.as_str())
    }

    /// How many nodes the file lists: these vote, and their ids come first.
    pub fn listed(&self) -> usize {
        self.nodes.iter().take_while(|node| !node.joined).count()
    }

    /// The nodes that have a name, by id: those listed, and those that joined.
    pub fn known_nodes(&self) -> impl Iterator<Item = (NodeId, &NodeSettings)> {
        NodeId::all().zip(&self.nodes).filter(|(_, node)| !node.name.is_empty())
    }

    /// A group's name, empty for an id that is not configured.
    pub fn group_name(&self, group: GroupId) -> &str {
        self.groups.get(group.index()).map_or("", |group| group.name.as_str())
    }

    /// The address that a resource stands for.
    pub fn address(&self, resource: ResourceRef) -> Option<&AddressSettings> {
        self.groups.get(resource.group.index())?.addresses.get(usize::from(resource.index))
    }

    /// The interfaces that links use on this node, once each, at most [`agent_common::ids::MAX_LINKS`].
    pub fn link_interfaces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for network in self.links.iter().filter_map(LinkSettings::network) {
            if !names.contains(&network.interface.as_str()) {
                names.push(&network.interface);
            }
        }
        names
    }

    /// How `status`, events and metrics call a link: `ucast:eth0`, and `ucast:eth0#3` for the third link of the
    /// file when an earlier one of the same kind has the same interface.
    pub fn link_name(&self, link: LinkId) -> String {
        let Some(settings) = self.links.get(link.index()) else { return String::new() };
        let name = settings.title(self.me);
        let same = |other: &&LinkSettings| other.title(self.me) == name;
        if self.links.iter().take(link.index()).any(|other| same(&other)) {
            format!("{name}#{}", link.index() + 1)
        } else {
            name
        }
    }
}

/// One change of the voters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoteChange {
    /// This node got a vote.
    Added(NodeId),
    /// A node of this name, no longer listed, lost its vote.
    Removed(String),
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its name.
    pub name: String,
    /// Votes, never serves.
    pub witness: bool,
    /// Not listed: it joined, or may yet, and then has no name. It neither votes nor serves.
    pub joined: bool,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// Its id: the place in [`Settings::links`].
    pub id: LinkId,
    /// Its own interval: the node's, or longer where the line cannot carry that. Announced in its frames.
    pub keepalive: Duration,
    /// What carries its frames.
    pub medium: Medium,
}

/// What carries the frames of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// UDP over an interface.
    Network(NetworkLink),
    /// Serial lines.
    Serial(SerialLink),
}

/// A link over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkLink {
    /// Interface that it uses.
    pub interface: String,
    /// UDP port.
    pub port: u16,
    /// How frames reach the peers.
    pub cast: Cast,
}

/// A link over serial lines: one line, or several that join the nodes in a chain or a ring, over which nodes forward
/// each other's frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialLink {
    /// By node id: the devices of its lines, none for a node that is not on the link.
    pub devices: Vec<Vec<PathBuf>>,
    /// Bits a second.
    pub baud: u32,
    /// Whether RTS/CTS flow control is used.
    pub rtscts: bool,
    /// Frames are forwarded at most as often as there are nodes, and this much more.
    pub hopfudge: u8,
}

impl LinkSettings {
    /// The UDP link, if it is one.
    pub const fn network(&self) -> Option<&NetworkLink> {
        match &self.medium {
            Medium::Network(network) => Some(network),
            Medium::Serial(_) => None,
        }
    }

    /// The serial link, if it is one.
    pub const fn serial(&self) -> Option<&SerialLink> {
        match &self.medium {
            Medium::Serial(serial) => Some(serial),
            Medium::Network(_) => None,
        }
    }

    /// Whether the node is on the link.
    pub fn reaches(&self, node: NodeId) -> bool {
        match &self.medium {
            Medium::Network(network) => network.cast.reaches(node),
            Medium::Serial(serial) => serial.devices.get(node.index()).is_some_and(|lines| !lines.is_empty()),
        }
    }

    /// As `type` has it, and where it is on this node: `ucast:eth0`, `serial:ttyS0`.
    fn title(&self, me: NodeId) -> String {
        match &self.medium {
            Medium::Network(network) => format!("{}:{}", network.cast.label(), network.interface),
            Medium::Serial(serial) => {
                let device = serial.devices.get(me.index()).and_then(|lines| lines.first());
                let shown = device.map_or_else(|| "none".to_owned(), |path| path.display().to_string());
                format!("serial:{}", shown.strip_prefix("/dev/").unwrap_or(&shown))
            }
        }
    }
}

/// How frames of a link reach the peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cast {
    /// One copy for each peer.
    Unicast {
        /// By node id, this node included; `None` for a node that is not on this link.
        addresses: Vec<Option<IpAddr>>,
    },
    /// One copy to the interface's IPv4 broadcast address.
    Broadcast,
    /// One copy to a group.
    Multicast {
        /// The group's address.
        group: IpAddr,
        /// Hop limit.
        ttl: u8,
    },
}

impl Cast {
    /// As `type` of a link has it.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unicast { .. } => "ucast",
            Self::Broadcast => "bcast",
            Self::Multicast { .. } => "mcast",
        }
    }

    /// Whether the node is on the link.
    pub fn reaches(&self, node: NodeId) -> bool {
        match self {
            Self::Unicast { addresses } => addresses.get(node.index()).is_some_and(Option::is_some),
            Self::Broadcast | Self::Multicast { .. } => true,
        }
    }
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Its name.
    pub name: String,
    /// Owners, most preferred first.
    pub prefer: Vec<NodeId>,
    /// Whether it moves back by itself.
    pub auto_failback: bool,
    /// Its addresses, in order of start.
    pub addresses: Vec<AddressSettings>,
}

/// A service address.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AddressSettings {
    /// The address.
    pub address: IpAddr,
    /// Prefix length, /32 or /128 when none was written.
    pub prefix: u8,
    /// The interface that gets it.
    pub interface: String,
}

/// Most ping groups: how many a node reaches stands in four bits of its heartbeats.
pub const PINGS_MAX: usize = 15;

/// A ping group: hosts outside of the cluster, of which any one that answers shows that this node is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingSettings {
    /// Its name.
    pub name: String,
    /// The hosts, at most [`PING_TARGETS_MAX`].
    pub targets: Vec<PingTarget>,
    /// Between two requests to one target.
    pub interval: Duration,
    /// No answer for longer: the group is not reached.
    pub deadtime: Duration,
}

/// Most hosts of one ping group.
pub const PING_TARGETS_MAX: usize = 16;

/// A host that is pinged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingTarget {
    /// Its address.
    pub address: IpAddr,
    /// Where a link-local address is; none for others.
    pub interface: Option<String>,
}

impl std::fmt::Display for PingTarget {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.interface {
            Some(interface) => write!(out, "{}%{interface}", self.address),
            None => write!(out, "{}", self.address),
        }
    }
}

/// Which nodes may join that the file does not list. None of them gets a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Autojoin {
    /// None.
    #[default]
    None,
    /// Others; this node itself is listed.
    Other,
    /// Any, this node included.
    Any,
}

/// How the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Whether realtime scheduling and locked memory are asked for.
    pub realtime: bool,
    /// Which scheduling class.
    pub scheduling: Scheduling,
    /// Priority of SCHED_FIFO, 1..=99.
    pub priority: u8,
    /// CPUs that the rt thread is pinned to, empty for all. SCHED_DEADLINE cannot be pinned.
    pub cpus: Vec<usize>,
    /// Where generations and state are kept.
    pub state_dir: PathBuf,
    /// bpffs directory.
    pub bpffs: PathBuf,
    /// How XDP is attached.
    pub xdp: XdpSetting,
    /// Where incarnations come from.
    pub generation: Generation,
    /// Between two refreshes of the announcement of a held address.
    pub announce_refresh: Duration,
}

/// Scheduling class of the rt thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduling {
    /// SCHED_DEADLINE where admitted, else SCHED_FIFO.
    Auto,
    /// SCHED_DEADLINE or nothing.
    Deadline,
    /// SCHED_FIFO or nothing.
    Fifo,
}

/// How XDP is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpSetting {
    /// Native, else generic, else TCX, else the socket path.
    Auto,
    /// Native, else the socket path.
    Native,
    /// Generic, else the socket path.
    Generic,
    /// TCX or clsact ingress, else the socket path.
    Tcx,
    /// The socket path.
    Off,
}

/// Where incarnations come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// A counter in the state directory, synced before the first frame.
    File,
    /// Milliseconds since 1970 at start.
    Time,
}

/// How a link's frames are received in fact; `status` shows it for each interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReceiveMode {
    /// Native XDP.
    Native,
    /// Generic XDP.
    Generic,
    /// A classifier on TCX or clsact ingress.
    Tcx,
    /// A UDP socket with kernel stamps.
    Socket,
}

impl ReceiveMode {
    /// As `status --json` and the metrics write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
            Self::Socket => "socket",
        }
    }
}
