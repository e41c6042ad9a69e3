//! Reading and writing `hosts.toml`: written beside, synced and renamed, so that a crash leaves the old or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use agent_common::ids::MAX_NODES;
use thiserror::Error;

use super::Hosts;

/// Its name in the state directory.
pub const FILE: &str = "hosts.toml";
const TEMPORARY: &str = "hosts.toml.new";
/// Largest file that is read.
const FILE_MAX: u64 = 256 * 1024;
const HEAD: &str = "# Nodes that joined without being listed in the configuration file. Written by the agent;\n\
                    # change it with `xbeat node add` and `xbeat node remove`.\n\n";

/// Why the cache was not read or written.
#[derive(Debug, Error)]
pub enum HostsError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was read and is wrong.
    #[error("{}: {reason}; correct it, or remove it and let the nodes join again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It cannot be written; the old one stands.
    #[error("cannot write {}: {source}; make the directory writable", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads the cache; an empty one where there is none.
///
/// # Errors
/// It cannot be read, or is wrong.
pub fn load(state_dir: &Path) -> Result<Hosts, HostsError> {
    let path = state_dir.join(FILE);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text)) {
        Ok(_) => (),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Hosts::default()),
        Err(source) => return Err(HostsError::Read { path, source }),
    }
    let damaged = |reason| HostsError::Damaged { path: path.clone(), reason };
    let mut hosts: Hosts =
        toml::from_str(&text).map_err(|error| damaged(error.message().trim().to_owned()))?;
    hosts.hosts.sort_by_key(|host| host.id);
    let twice = hosts.hosts.iter().zip(hosts.hosts.iter().skip(1)).find(|(a, b)| a.id == b.id);
    if let Some((a, b)) = twice {
        return Err(damaged(format!("{} and {} have the same id {}", a.name, b.name, a.id)));
    }
    let ids = hosts.hosts.iter().map(|host| host.id).chain(hosts.own);
    if let Some(id) = ids.into_iter().find(|id| usize::from(*id) >= MAX_NODES) {
        return Err(damaged(format!("{id} is no id of a node")));
    }
    match hosts.hosts.iter().find(|host| !crate::config::is_name(&host.name)) {
        Some(host) => Err(damaged(format!("{:?} is no name of a node", host.name))),
        None => Ok(hosts),
    }
}

/// Writes the cache; it lasts on disk when this returns.
///
/// # Errors
/// It cannot be written; the old one stands.
pub fn save(state_dir: &Path, hosts: &Hosts) -> Result<(), HostsError> {
    let path = state_dir.join(FILE);
    write(state_dir, &path, hosts).map_err(|source| HostsError::Write { path, source })
}

fn write(state_dir: &Path, path: &Path, hosts: &Hosts) -> io::Result<()> {
    let text = toml::to_string(hosts).map_err(io::Error::other)?;
    DirBuilder::new().recursive(true).mode(0o755).create(state_dir)?;
    let temporary = state_dir.join(TEMPORARY);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
    file.write_all(HEAD.as_bytes())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(state_dir)?.sync_all()
}
