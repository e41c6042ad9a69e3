//! The host cache, `hosts.toml` in the state directory: nodes that joined without being listed in the configuration file,
//! the id that this node gave itself, and who was removed. Written whole and synced; read once at the start.

mod file;
mod settings;

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_common::NodeId;
use agent_common::ids::MAX_NODES;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use file::{FILE, HostsError, load, save};
pub use settings::{Heard, HostLink, keep_own, let_join};

/// Names that are kept out at most, the oldest are forgotten first.
const REMOVED_MAX: usize = 64;

/// What is in the cache. Ids are those on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// The id that this node gave itself, if the file does not list it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub own: Option<u8>,
    /// By id.
    #[serde(rename = "host", skip_serializing_if = "Vec::is_empty", default)]
    pub hosts: Vec<Host>,
    /// Who may not join by itself.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub removed: Vec<Removed>,
}

/// A node that joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// When it was taken in, seconds since 1970.
    pub joined: u64,
    /// Its addresses, by the name of the link, for links of type ucast.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub addresses: BTreeMap<String, IpAddr>,
}

/// A node that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// Its name.
    pub name: String,
    /// When, seconds since 1970.
    pub at: u64,
}

/// Why a node is not taken in, or not removed. The cache is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// Nothing that a node may be called.
    #[error("`{0}` cannot be a node's name: write 1 to 63 letters, digits, '.', '_' or '-'")]
    Name(String),
    /// A node of the file, by this name.
    #[error("node {0} is listed in the configuration file")]
    Listed(String),
    /// A node of the file has the id.
    #[error("id {id} belongs to node {holder} of the configuration file: ids below {listed} are its")]
    ListedId {
        /// The id.
        id: u8,
        /// Who has it.
        holder: String,
        /// How many are listed.
        listed: usize,
    },
    /// The name is taken.
    #[error(
        "the name {name} belongs to a node with id {id}, which joined earlier: `xbeat node remove {name}` frees it"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Whose id.
        id: u8,
    },
    /// The id is taken.
    #[error(
        "id {id} belongs to {holder}, which joined earlier: give {name} another one, on {name}: `xbeat node add {name} --id N`"
    )]
    IdTaken {
        /// The id.
        id: u8,
        /// Who has it.
        holder: String,
        /// Who wants it.
        name: String,
    },
    /// It was removed.
    #[error("{0} was removed: `xbeat node add {0}` lets it join again")]
    Removed(String),
    /// No id is left.
    #[error("all {MAX_NODES} ids are taken: remove a node that joined with `xbeat node remove NAME`")]
    Full,
    /// Nobody of this name.
    #[error("no node called {0} has joined")]
    Unknown(String),
    /// Beyond the ids that there are.
    #[error("{0} is no id of a node: ids are 0 to 31")]
    NoId(u8),
}

/// Who comes from the configuration file: names by id.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a>(pub &'a [String]);

impl Listed<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|listed| same(listed, name))
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

impl Hosts {
    /// The node with this name that joined.
    pub fn find(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| same(&host.name, name))
    }

    /// Who joined with this id.
    pub fn at(&self, id: u8) -> Option<&Host> {
        self.hosts.iter().find(|host| host.id == id)
    }

    /// A node was heard that says its name and id. `Ok(true)`: it is new, and now in the cache.
    ///
    /// # Errors
    /// It may not join.
    pub fn heard(
        &mut self,
        name: &str,
        id: NodeId,
        listed: Listed<'_>,
        now_s: u64,
    ) -> Result<bool, JoinError> {
        let id = id.raw();
        self.check(name, id, listed)?;
        if self.removed.iter().any(|removed| same(&removed.name, name)) {
            return Err(JoinError::Removed(name.to_owned()));
        }
        if self.find(name).is_some() {
            return Ok(false);
        }
        self.insert(Host { name: name.to_owned(), id, joined: now_s, addresses: BTreeMap::new() });
        Ok(true)
    }

    /// An operator adds a node, or says more of one: its id, its addresses. Returns its id.
    ///
    /// # Errors
    /// The name or the id is taken.
    pub fn add(
        &mut self,
        name: &str,
        id: Option<u8>,
        addresses: BTreeMap<String, IpAddr>,
        listed: Listed<'_>,
        now_s: u64,
    ) -> Result<u8, JoinError> {
        let known = self.find(name).cloned();
        let id = match (id, &known) {
            (Some(id), _) => id,
            (None, Some(host)) => host.id,
            (None, None) => self.free_id(name, listed).ok_or(JoinError::Full)?,
        };
        let others = Self {
            hosts: self.hosts.iter().filter(|host| !same(&host.name, name)).cloned().collect(),
            ..Self::default()
        };
        others.check(name, id, listed)?;
        self.removed.retain(|removed| !same(&removed.name, name));
        self.hosts.retain(|host| !same(&host.name, name));
        let mut host =
            known.unwrap_or(Host { name: name.to_owned(), id, joined: now_s, addresses: BTreeMap::new() });
        host.id = id;
        host.addresses.extend(addresses);
        self.insert(host);
        Ok(id)
    }

    /// An operator removes a node that joined; it may not join again by itself. Returns its id.
    ///
    /// # Errors
    /// Nobody of this name joined.
    pub fn remove(&mut self, name: &str, listed: Listed<'_>, now_s: u64) -> Result<u8, JoinError> {
        if listed.has(name) {
            return Err(JoinError::Listed(name.to_owned()));
        }
        let host = self.find(name).cloned().ok_or_else(|| JoinError::Unknown(name.to_owned()))?;
        self.hosts.retain(|other| other.id != host.id);
        self.removed.push(Removed { name: host.name, at: now_s });
        if self.removed.len() > REMOVED_MAX {
            self.removed.remove(0);
        }
        Ok(host.id)
    }

    /// The id that a node of this name gives itself: a free one, the same at every start and, but for others that took it, on
    /// every machine, so that nothing has to be heard first and two that join at once seldom take the same.
    pub fn free_id(&self, name: &str, listed: Listed<'_>) -> Option<u8> {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(name.to_lowercase().as_bytes());
        let number = digest.iter().take(4).fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
        let free: Vec<u8> =
            (0..MAX_NODES).skip(listed.0.len()).filter_map(|id| u8::try_from(id).ok()).collect();
        let first = number.checked_rem(free.len())?;
        free.iter()
            .cycle()
            .skip(first)
            .take(free.len())
            .copied()
            .find(|id| self.at(*id).is_none() && self.own != Some(*id))
    }

    /// Whether (name, id) contradicts what is known; the same pair does not.
    fn check(&self, name: &str, id: u8, listed: Listed<'_>) -> Result<(), JoinError> {
        if !crate::config::is_name(name) {
            return Err(JoinError::Name(name.chars().filter(|c| !c.is_control()).take(MAX_NODES).collect()));
        }
        if listed.has(name) {
            return Err(JoinError::Listed(name.to_owned()));
        }
        if NodeId::new(id).is_none() {
            return Err(JoinError::NoId(id));
        }
        if let Some(holder) = listed.0.get(usize::from(id)) {
            return Err(JoinError::ListedId { id, holder: holder.clone(), listed: listed.0.len() });
        }
        match (self.find(name), self.at(id)) {
            (Some(host), _) if host.id != id => {
                Err(JoinError::NameTaken { name: host.name.clone(), id: host.id })
            }
            (_, Some(host)) if !same(&host.name, name) => {
                Err(JoinError::IdTaken { id, holder: host.name.clone(), name: name.to_owned() })
            }
            (_, _) => Ok(()),
        }
    }

    fn insert(&mut self, host: Host) {
        self.hosts.push(host);
        self.hosts.sort_by_key(|host| host.id);
    }
}

#[cfg(test)]
mod tests;
