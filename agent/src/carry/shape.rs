//! The configuration as far as a carried state rests on it: names in order of id, and what is fixed while state lives.
//! Written beside the state, so that the next process can tell whether the state is still about the same cluster.

use std::path::PathBuf;

use agent_core::config::{Policy, TieBreak};
use serde::{Deserialize, Serialize};

use crate::settings::{AddressSettings, Generation, Medium, Settings, VoteChange, XdpSetting};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The cluster's name.
    pub cluster: String,
    /// This node's name.
    pub node: String,
    /// By node id.
    pub nodes: Vec<NodeShape>,
    /// `policy`, with its `tie_break`.
    pub policy: String,
    /// `number` of the vote configuration.
    pub number: u16,
    /// Its `change`.
    pub change: Option<String>,
    /// The bound of every announced deadtime, microseconds.
    pub initdead_us: u64,
    /// By link id.
    pub links: Vec<LinkShape>,
    /// By group id.
    pub groups: Vec<GroupShape>,
    /// Where incarnations come from.
    pub generation: String,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Where gate and programs are pinned.
    pub bpffs: PathBuf,
    /// How XDP is attached.
    pub xdp: String,
    /// The watchdog, if any.
    pub watchdog: Option<PathBuf>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShape {
    /// Its name.
    pub name: String,
    /// Whether it has a vote.
    pub votes: bool,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkShape {
    /// As `status` calls it.
    pub name: String,
    /// All that makes its frames arrive: kind, interface, port, addresses.
    pub path: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupShape {
    /// Its name.
    pub name: String,
    /// Whether this node may own it.
    pub owned: bool,
    /// Its addresses.
    pub addresses: Vec<AddressSettings>,
}

impl Shape {
    /// Of a configuration.
    pub fn of(settings: &Settings) -> Self {
        let runtime = &settings.runtime;
        Self {
            cluster: settings.cluster.clone(),
            node: settings.node_name(settings.me).to_owned(),
            nodes: settings
                .nodes
                .iter()
                .take(settings.listed())
                .map(|node| NodeShape { name: node.name.clone(), votes: true })
                .collect(),
            policy: policy(settings.quorum.policy).to_owned(),
            number: settings.quorum.number,
            change: settings.vote_change.as_ref().map(|change| match change {
                VoteChange::Added(node) => format!("+{}", settings.node_name(*node)),
                VoteChange::Removed(name) => format!("-{name}"),
            }),
            initdead_us: u64::try_from(settings.timing.initdead.as_micros()).unwrap_or(u64::MAX),
            links: settings
                .links
                .iter()
                .map(|link| LinkShape {
                    name: settings.link_name(link.id),
                    path: path(&link.medium, settings),
                })
                .collect(),
            groups: settings
                .groups
                .iter()
                .map(|group| GroupShape {
                    name: group.name.clone(),
                    owned: group.prefer.contains(&settings.me),
                    addresses: group.addresses.clone(),
                })
                .collect(),
            generation: generation(runtime.generation).to_owned(),
            state_dir: runtime.state_dir.clone(),
            bpffs: runtime.bpffs.clone(),
            xdp: xdp(runtime.xdp).to_owned(),
            watchdog: settings.watchdog.clone(),
        }
    }
}

const fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Majority => "majority",
        Policy::TwoNode(TieBreak::Fence) => "two-node, fence",
        Policy::TwoNode(TieBreak::Ping) => "two-node, ping",
        Policy::TwoNode(TieBreak::Always) => "two-node, always",
    }
}

const fn generation(generation: Generation) -> &'static str {
    match generation {
        Generation::File => "file",
        Generation::Time => "time",
    }
}

const fn xdp(xdp: XdpSetting) -> &'static str {
    match xdp {
        XdpSetting::Auto => "auto",
        XdpSetting::Native => "native",
        XdpSetting::Generic => "generic",
        XdpSetting::Tcx => "tcx",
        XdpSetting::Off => "off",
    }
}

/// Where this node hears the link. What peers are added to it changes nothing for those that are there.
fn path(medium: &Medium, settings: &Settings) -> String {
    match medium {
        Medium::Network(network) => {
            let to = match &network.cast {
                crate::settings::Cast::Unicast { addresses } => {
                    let own = addresses.get(settings.me.index()).copied().flatten();
                    own.map_or_else(String::new, |own| own.to_string())
                }
                crate::settings::Cast::Broadcast => "broadcast".to_owned(),
                crate::settings::Cast::Multicast { group, .. } => group.to_string(),
            };
            format!("{} {} port {} at {to}", network.cast.label(), network.interface, network.port)
        }
        Medium::Serial(serial) => {
            let own = serial.devices.get(settings.me.index());
            format!("serial {own:?} {} baud, rtscts {}", serial.baud, serial.rtscts)
        }
    }
}
