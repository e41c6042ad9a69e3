//! A peer among those that are starved: a pair of it, with the processes of each node on one CPU. It is made anew for each phase,
//! since not every one of them comes back by itself after a fault.

use agent_tests::lab::capture::Capture;
use agent_tests::lab::network::Network;
use anyhow::{Context as _, Result};

use super::probe::Asker;
use super::subject::RIVAL_SERVICE;
use super::{COUNT, KEEPALIVE};
use crate::peers::{Asks, Name, Options, Pair, Setting};

/// The client's place.
const CLIENT: usize = 2;

/// A pair of a peer.
pub struct Rival {
    pair: Pair,
}

impl Rival {
    /// The setting nearest to the agents' that it takes.
    pub fn setting(name: Name) -> Setting {
        let same = Setting { interval: KEEPALIVE, count: COUNT };
        let software = name.software();
        if software.takes(same) { same } else { software.fastest() }
    }

    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: Name, cpus: &[usize]) -> Result<Self> {
        let cpus = cpus.first().zip(cpus.get(1)).map(|(one, other)| [*one, *other]);
        let options = Options { cpus, client: Asks::Never, ..Options::default() };
        Ok(Self { pair: Pair::start_with(name, Self::setting(name), options)? })
    }

    /// Whoever asks for its service.
    ///
    /// # Errors
    /// Not privileged.
    pub fn asker(&self) -> Result<Asker> {
        Asker::new(self.pair.bed.network.host(CLIENT)?, RIVAL_SERVICE)
    }

    /// Waits until it is whole: who serves.
    ///
    /// # Errors
    /// It does not become whole.
    pub fn settle(&self) -> Result<usize> {
        self.pair.wait_whole().with_context(|| format!("{} did not come up", self.pair.name.label()))
    }

    /// Silence that is death to a node.
    pub fn deadtime(&self, node: usize) -> std::time::Duration {
        self.pair.deadtime(node)
    }

    /// The wires.
    pub const fn network(&self) -> &Network {
        &self.pair.bed.network
    }

    /// When `node` declared the other dead.
    pub fn verdicts(&self, node: usize, from_ns: u64) -> Vec<u64> {
        self.pair.verdicts(node, from_ns)
    }

    /// At the port of a node.
    pub fn capture(&self, node: usize) -> Option<&Capture> {
        self.pair.bed.captures.get(node)
    }
}
