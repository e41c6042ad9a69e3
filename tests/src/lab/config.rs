//! What a cluster of the laboratory looks like, and the TOML that its agents get.
//! The defaults are for tests on a busy machine: slow heartbeats and long deadtimes.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use agent_common::ids::MAX_NODES;

use super::network::Port;
use super::serial::SerialSpec;

/// Names of the nodes, by number.
pub const NODE_NAMES: [&str; MAX_NODES] = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "node24",
    "node25", "node26", "node27", "node28", "node29", "node30", "node31",
];
/// Where each agent serves its metrics, inside its namespace.
pub const METRICS: &str = "127.0.0.1:9694";
/// The group that every cluster of the laboratory has.
pub const GROUP: &str = "web";

/// A cluster to be.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name.
    pub cluster: String,
    /// How many nodes.
    pub nodes: usize,
    /// How many of them, the last ones, vote and never serve.
    pub witnesses: usize,
    /// Time between heartbeats.
    pub keepalive: Duration,
    /// Silence that is death.
    pub deadtime: Duration,
    /// The first deadtime after start.
    pub initdead: Duration,
    /// How heartbeats travel, one entry for each link.
    pub links: Vec<LinkSpec>,
    /// The service addresses; the client asks the first.
    pub addresses: Vec<IpAddr>,
    /// How XDP is attached.
    pub xdp: Xdp,
    /// Whether the agents ask for realtime scheduling.
    pub realtime: bool,
    /// How serial lines join the nodes, if they do.
    pub serial: Option<SerialSpec>,
    /// Ping groups, each with the router on one of the bridges as its target.
    pub pings: Vec<PingSpec>,
    /// How long a node reaches more of them before the group moves.
    pub reachtime: Duration,
    /// Who may decide.
    pub policy: Policy,
    /// Lines for the section `[runtime]`, each with its end.
    pub runtime: String,
    /// The file with the daemon's keys, if not the one made for the cluster.
    pub generation: Generation,
    /// Whether service and wires are watched: without, there are no echo servers and no captures, and the cluster counts
    /// as whole by what its agents say.
    pub watched: bool,
}

/// A link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkSpec {
    /// Which of the bridges.
    pub bridge: usize,
    /// How frames reach the peers.
    pub cast: Cast,
    /// Over IPv6 instead of IPv4.
    pub ipv6: bool,
}

/// A ping group. Its target is the last host of the network, which is no node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PingSpec {
    /// Which of the bridges the target is asked on.
    pub bridge: usize,
    /// Over IPv6 instead of IPv4.
    pub ipv6: bool,
    /// No answer for longer is death.
    pub deadtime: Duration,
}

/// How frames of a link reach the peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cast {
    /// A copy for each.
    Unicast,
    /// The same, to the link-local IPv6 addresses.
    LinkLocal,
    /// To the broadcast address.
    Broadcast,
    /// To a group.
    Multicast,
}

/// The `xdp` setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Xdp {
    /// The best there is.
    Auto,
    /// Native.
    Native,
    /// Generic.
    Generic,
    /// A classifier.
    Tcx,
    /// The socket path.
    Off,
}

/// The quorum's policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Two nodes, `tie_break = "always"`.
    TwoNodeAlways,
    /// Two nodes, and the first ping group breaks the tie.
    TwoNodePing,
    /// A majority of votes.
    Majority,
}

/// Where incarnations come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    /// A file in the state directory.
    File,
    /// The time of the start.
    Time,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            cluster: "lab".to_owned(),
            nodes: 2,
            witnesses: 0,
            keepalive: Duration::from_millis(50),
            deadtime: Duration::from_millis(400),
            initdead: Duration::from_secs(1),
            links: vec![LinkSpec::default()],
            addresses: vec![Ipv4Addr::new(10, 77, 0, 100).into()],
            xdp: Xdp::Auto,
            realtime: true,
            serial: None,
            pings: Vec::new(),
            reachtime: Duration::from_secs(5),
            policy: Policy::TwoNodeAlways,
            runtime: String::new(),
            generation: Generation::File,
            watched: true,
        }
    }
}

impl Default for LinkSpec {
    fn default() -> Self {
        Self { bridge: 0, cast: Cast::Unicast, ipv6: false }
    }
}

impl Spec {
    /// How many bridges the links need; the service is on the first.
    pub fn bridges(&self) -> usize {
        let links = self.links.iter().map(|link| link.bridge + 1);
        links.chain(self.pings.iter().map(|ping| ping.bridge + 1)).max().unwrap_or(1)
    }

    /// How many nodes may serve.
    pub fn owners(&self) -> usize {
        self.nodes.saturating_sub(self.witnesses)
    }

    /// The names of its nodes.
    pub fn names(&self) -> &'static [&'static str] {
        NODE_NAMES.get(..self.nodes).unwrap_or(&NODE_NAMES)
    }

    /// The configuration of node `me`, whose files are in `directory`.
    pub fn toml(&self, me: usize, directory: &Path, bpffs: &Path) -> String {
        let mut text = self.head(me, directory);
        for (place, name) in self.names().iter().enumerate() {
            let witness = if place < self.owners() { "" } else { "witness = true\n" };
            let _ = writeln!(text, "[[node]]\nname = \"{name}\"\n{witness}");
        }
        text += match self.policy {
            Policy::TwoNodeAlways => "[quorum]\npolicy = \"two-node\"\ntie_break = \"always\"\n",
            Policy::TwoNodePing => "[quorum]\npolicy = \"two-node\"\ntie_break = \"ping\"\n",
            Policy::Majority => "[quorum]\npolicy = \"majority\"\n",
        };
        for link in &self.links {
            text += &self.link(*link);
        }
        text += &self.serial_link(directory.parent().unwrap_or(directory));
        text += &self.group();
        text += &self.ping_groups();
        text += &self.tail(directory, bpffs);
        text
    }

    fn head(&self, me: usize, directory: &Path) -> String {
        format!(
            "[cluster]\nname = \"{}\"\nkey_file = \"{}/keys.toml\"\nnode = \"{}\"\n\
             [timing]\nkeepalive = \"{}us\"\ndeadtime = \"{}us\"\nwarntime = \"{}us\"\ninitdead = \"{}us\"\n\
             reachtime = \"{}us\"\n",
            self.cluster,
            directory.display(),
            self.names().get(me).unwrap_or(&"nobody"),
            self.keepalive.as_micros(),
            self.deadtime.as_micros(),
            (self.deadtime / 2).as_micros(),
            self.initdead.as_micros(),
            self.reachtime.as_micros(),
        )
    }

    fn link(&self, link: LinkSpec) -> String {
        let interface = Port { host: 0, bridge: link.bridge }.interface();
        let mut text = format!("[[link]]\ninterface = \"{interface}\"\n");
        match (link.cast, link.ipv6) {
            (Cast::Unicast, ipv6) => {
                let peers = self.names().iter().enumerate().map(|(host, name)| {
                    format!("{name} = \"{}\"", Port { host, bridge: link.bridge }.address(ipv6))
                });
                let peers = peers.collect::<Vec<_>>().join(", ");
                let _ = writeln!(text, "type = \"ucast\"\npeers = {{ {peers} }}");
            }
            (Cast::LinkLocal, _) => {
                let peers = self.names().iter().enumerate().map(|(host, name)| {
                    format!("{name} = \"{}\"", Port { host, bridge: link.bridge }.link_local())
                });
                let peers = peers.collect::<Vec<_>>().join(", ");
                let _ = writeln!(text, "type = \"ucast\"\npeers = {{ {peers} }}");
            }
            (Cast::Broadcast, _) => text += "type = \"bcast\"\n",
            (Cast::Multicast, false) => text += "type = \"mcast\"\ngroup = \"239.77.0.1\"\n",
            (Cast::Multicast, true) => text += "type = \"mcast\"\ngroup = \"ff02::7:77\"\n",
        }
        text
    }

    /// The link over all cables; their ends are in the directory that has all nodes'.
    fn serial_link(&self, root: &Path) -> String {
        let Some(serial) = self.serial else { return String::new() };
        let devices = self.names().iter().enumerate().map(|(node, name)| {
            let devices = serial.devices(root, node, self.nodes);
            let devices: Vec<String> =
                devices.iter().map(|device| format!("\"{}\"", device.display())).collect();
            format!("{name} = [{}]", devices.join(", "))
        });
        let devices = devices.collect::<Vec<_>>().join(", ");
        format!("[[link]]\ntype = \"serial\"\nbaud = {}\ndevices = {{ {devices} }}\n", serial.baud)
    }

    fn group(&self) -> String {
        let prefer = self
            .names()
            .iter()
            .take(self.owners())
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let mut text = format!("[[group]]\nname = \"{GROUP}\"\nprefer = [{prefer}]\nauto_failback = false\n");
        for address in &self.addresses {
            let prefix = if address.is_ipv4() { 24 } else { 64 };
            let _ = writeln!(
                text,
                "[[group.resource]]\ntype = \"ip\"\naddress = \"{address}/{prefix}\"\ninterface = \"eth0\""
            );
        }
        text
    }

    /// The host that is pinged: the observer, behind the client.
    pub fn router(&self) -> usize {
        self.nodes + 1
    }

    fn ping_groups(&self) -> String {
        let mut text = String::new();
        for (place, ping) in self.pings.iter().enumerate() {
            let target = Port { host: self.router(), bridge: ping.bridge }.address(ping.ipv6);
            let _ = writeln!(
                text,
                "[[ping]]\nname = \"router{place}\"\ntargets = [\"{target}\"]\ndeadtime = \"{}us\"",
                ping.deadtime.as_micros()
            );
        }
        text
    }

    fn tail(&self, directory: &Path, bpffs: &Path) -> String {
        let xdp = match self.xdp {
            Xdp::Auto => "auto",
            Xdp::Native => "native",
            Xdp::Generic => "generic",
            Xdp::Tcx => "tcx",
            Xdp::Off => "off",
        };
        let generation = match self.generation {
            Generation::File => "file",
            Generation::Time => "time",
        };
        let here = directory.display();
        format!(
            "[control]\nsocket = \"{here}/xbeat.sock\"\n[metrics]\nlisten = \"{METRICS}\"\n\
             [runtime]\nrealtime = {}\nstate_dir = \"{here}/state\"\nbpffs = \"{}\"\nxdp = \"{xdp}\"\n\
             generation = \"{generation}\"\n{}",
            self.realtime,
            bpffs.display(),
            self.runtime,
        )
    }
}
