//! The cache in the settings: joined nodes behind the listed ones, and room for those that may yet join. The core knows every
//! id from its start, so that a node joins without anything being started anew: what it lacks is only a name.

use agent_common::NodeId;
use agent_common::ids::MAX_NODES;

use super::file::{self, HostsError};
use super::{Hosts, Listed};
use crate::settings::{Autojoin, Cast, Medium, NodeSettings, Settings};

/// Names of the nodes that the file lists, by id.
fn listed(settings: &Settings) -> Vec<String> {
    settings.nodes.iter().take(settings.listed()).map(|node| node.name.clone()).collect()
}

/// Puts the nodes that joined behind those of the file, with their addresses. `own`: this node, when the file does not
/// list it. What contradicts the file, which may have grown since, is left out.
pub fn let_join(settings: &mut Settings, hosts: &Hosts, own: Option<(NodeId, &str)>) {
    let names = listed(settings);
    let fits = |id: u8, name: &str| Hosts::default().check(name, id, Listed(&names)).is_ok();
    let joined: Vec<(u8, &str)> = hosts
        .hosts
        .iter()
        .map(|host| (host.id, host.name.as_str()))
        .filter(|(id, name)| fits(*id, name) && own.is_none_or(|(own, _)| own.raw() != *id))
        .chain(own.map(|(id, name)| (id.raw(), name)))
        .collect();
    let needed = joined.iter().map(|(id, _)| usize::from(*id) + 1).max().unwrap_or(0);
    let room = match settings.autojoin {
        Autojoin::None => needed,
        Autojoin::Other | Autojoin::Any => MAX_NODES,
    };
    let absent = || NodeSettings { name: String::new(), witness: false, joined: true };
    settings.nodes.resize_with(room.max(names.len()), absent);
    for (id, name) in &joined {
        if let Some(node) = settings.nodes.get_mut(usize::from(*id)) {
            (*name).clone_into(&mut node.name);
        }
    }
    for host in hosts.hosts.iter().filter(|host| fits(host.id, &host.name)) {
        for (link, address) in &host.addresses {
            reach(settings, link, host.id, *address);
        }
    }
}

/// Gives a node an address on a link of type ucast; a link of another name or type needs none.
fn reach(settings: &mut Settings, link: &str, node: u8, address: std::net::IpAddr) {
    let ids: Vec<_> = settings.links.iter().map(|link| link.id).collect();
    let Some(place) = ids.iter().position(|id| settings.link_name(*id) == link) else { return };
    let Some(settings) = settings.links.get_mut(place) else { return };
    let Medium::Network(network) = &mut settings.medium else { return };
    let Cast::Unicast { addresses } = &mut network.cast else { return };
    let place = usize::from(node);
    if addresses.len() <= place {
        addresses.resize(place + 1, None);
    }
    if let Some(known) = addresses.get_mut(place) {
        *known = Some(address);
    }
}

/// Keeps the id of this node, if the file does not list it: it has the same at the next start.
///
/// # Errors
/// The cache cannot be read or written.
pub fn keep_own(settings: &Settings) -> Result<(), HostsError> {
    let me = settings.me;
    if !settings.nodes.get(me.index()).is_some_and(|node| node.joined) {
        return Ok(());
    }
    let mut hosts = file::load(&settings.runtime.state_dir)?;
    if hosts.own == Some(me.raw()) {
        return Ok(());
    }
    hosts.own = Some(me.raw());
    file::save(&settings.runtime.state_dir, &hosts)
}

/// What the control thread does with the cache while the agent runs.
pub struct HostLink {
    hosts: Hosts,
    listed: Vec<String>,
    /// Refusals that have been told: each once.
    told: Vec<(NodeId, String)>,
}

/// What came of a node that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// As known.
    Known,
    /// It joins, by this name.
    Joined,
    /// It may not join, and is told for the first time.
    Refused(String),
}

/// Refusals that are remembered at most.
const TOLD_MAX: usize = 256;

impl HostLink {
    /// Of the settings of this process. A cache that cannot be read was an error of the start; it is empty then.
    pub fn new(settings: &Settings) -> Self {
        let hosts = file::load(&settings.runtime.state_dir).unwrap_or_default();
        Self { hosts, listed: listed(settings), told: Vec::new() }
    }

    /// The id of a node that joined.
    pub fn id_of(&self, name: &str) -> Option<NodeId> {
        self.hosts.find(name).and_then(|host| NodeId::new(host.id))
    }

    /// A node was heard that says its name.
    ///
    /// # Errors
    /// The cache could not be written: the node is known until the next start.
    pub fn heard(
        &mut self,
        settings: &Settings,
        node: NodeId,
        name: &str,
        now_s: u64,
    ) -> (Heard, Result<(), HostsError>) {
        let known = settings.node_name(node);
        if !known.is_empty() && known.to_lowercase() == name.to_lowercase() {
            return (Heard::Known, Ok(()));
        }
        let result = if node.index() < self.listed.len() {
            Err(format!(
                "it has the id of {known}: list the nodes in the same order on all, or give it another name or id"
            ))
        } else {
            self.hosts.heard(name, node, Listed(&self.listed), now_s).map_err(|error| error.to_string())
        };
        match result {
            Ok(true) => (Heard::Joined, file::save(&settings.runtime.state_dir, &self.hosts)),
            Ok(false) => (Heard::Joined, Ok(())),
            Err(reason) => {
                let told = (node, name.to_owned());
                if self.told.contains(&told) || self.told.len() >= TOLD_MAX {
                    return (Heard::Known, Ok(()));
                }
                self.told.push(told);
                (Heard::Refused(reason), Ok(()))
            }
        }
    }

    /// See [`Hosts::add`]; on disk when this returns.
    ///
    /// # Errors
    /// For people; the cache is as it was.
    pub fn add(
        &mut self,
        settings: &Settings,
        name: &str,
        id: Option<u8>,
        addresses: std::collections::BTreeMap<String, std::net::IpAddr>,
        now_s: u64,
    ) -> Result<NodeId, String> {
        known_links(settings, addresses.keys())?;
        let (me, own) = (settings.me.raw(), settings.node_name(settings.me));
        if id == Some(me) && name != own {
            return Err(format!("id {me} is this node's own"));
        }
        let mut hosts = self.hosts.clone();
        let id =
            hosts.add(name, id, addresses, Listed(&self.listed), now_s).map_err(|error| error.to_string())?;
        file::save(&settings.runtime.state_dir, &hosts).map_err(|error| error.to_string())?;
        self.hosts = hosts;
        self.told.retain(|(_, told)| told.to_lowercase() != name.to_lowercase());
        NodeId::new(id).ok_or_else(|| "there is no such id".to_owned())
    }

    /// See [`Hosts::remove`]; on disk when this returns.
    ///
    /// # Errors
    /// For people; the cache is as it was.
    pub fn remove(&mut self, settings: &Settings, name: &str, now_s: u64) -> Result<NodeId, String> {
        let mut hosts = self.hosts.clone();
        let id = hosts.remove(name, Listed(&self.listed), now_s).map_err(|error| error.to_string())?;
        file::save(&settings.runtime.state_dir, &hosts).map_err(|error| error.to_string())?;
        self.hosts = hosts;
        NodeId::new(id).ok_or_else(|| "there is no such id".to_owned())
    }
}

/// Addresses are for links that need them.
fn known_links<'n>(settings: &Settings, names: impl Iterator<Item = &'n String>) -> Result<(), String> {
    let ucast: Vec<String> = settings
        .links
        .iter()
        .filter(|link| link.network().is_some_and(|network| matches!(network.cast, Cast::Unicast { .. })))
        .map(|link| settings.link_name(link.id))
        .collect();
    for name in names {
        if !ucast.contains(name) {
            return Err(match ucast.as_slice() {
                [] => format!("there is no link {name}, and none of type ucast: only these need addresses"),
                some => format!("there is no link {name} of type ucast (there are: {})", some.join(", ")),
            });
        }
    }
    Ok(())
}
