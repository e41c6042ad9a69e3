//! Where a pair of peers runs: two nodes, a client that asks for the service, and a capture at each port of the nodes.

use std::net::IpAddr;
use std::time::Duration;

use agent_tests::lab::capture::{Capture, Direction, Signs};
use agent_tests::lab::client::Client;
use agent_tests::lab::echo::Echo;
use agent_tests::lab::network::{Network, Port};
use agent_tests::lab::observer::Observer;
use agent_tests::lab::scratch::Scratch;
use anyhow::{Context as _, Result, ensure};

use super::{Asks, Options, SERVICE};

/// Number of the host from which [`Bed::observer`] asks.
const OBSERVER: usize = 3;
const SELDOM: Duration = Duration::from_millis(20);

/// The place.
pub struct Bed {
    /// The client, on the third host.
    pub client: Client,
    /// At the nodes' ports on the first link; empty where the options say so.
    pub captures: Vec<Capture>,
    /// At their ports on the others.
    more_captures: Vec<(Port, Capture)>,
    /// The wires.
    pub network: Network,
    _echoes: [Echo; 2],
    pub(super) scratch: Scratch,
}

impl Asks {
    /// Between two questions.
    pub const fn interval(self) -> Option<Duration> {
        match self {
            Self::Often => Some(Duration::from_millis(1)),
            Self::Seldom => Some(SELDOM),
            Self::Never => None,
        }
    }
}

impl Bed {
    pub(super) fn new(options: Options) -> Result<Self> {
        let scratch = Scratch::new()?;
        let network = Network::new(&["n0", "n1", "client", "observer"], options.links)?;
        let echoes = [Echo::start(network.host(0)?, 0)?, Echo::start(network.host(1)?, 1)?];
        let client = match options.client.interval() {
            Some(interval) => Client::start_every(network.host(2)?, SERVICE.into(), interval)?,
            None => Client::silent(),
        };
        let mut captures = Vec::new();
        let mut more_captures = Vec::new();
        let links = if options.captures { options.links } else { 0 };
        for (bridge, host) in (0..links).flat_map(|bridge| [(bridge, 0), (bridge, 1)]) {
            let port = Port { host, bridge };
            let capture = Capture::start(&network, port)?;
            if bridge == 0 { captures.push(capture) } else { more_captures.push((port, capture)) }
        }
        Ok(Self { client, captures, more_captures, network, _echoes: echoes, scratch })
    }

    /// Starts asking both nodes for the service, by their hardware addresses, from a host of its own.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn observer(&self) -> Result<Observer> {
        let nodes = [self.network.host(0)?, self.network.host(1)?];
        Observer::start(self.network.host(OBSERVER)?, OBSERVER, &nodes, SERVICE.into())
    }

    fn captures_of(&self, node: usize) -> impl Iterator<Item = &Capture> {
        let more = self.more_captures.iter().filter(move |(port, _)| port.host == node);
        self.captures.get(node).into_iter().chain(more.map(|(_, capture)| capture))
    }

    pub(super) fn forget(&self) {
        self.captures.iter().for_each(Capture::clear);
        self.more_captures.iter().for_each(|(_, capture)| capture.clear());
        self.client.forget_lateness();
    }

    /// When the newest sign of life of `of` went to `to`, on any link, no later than `until_ns`.
    pub(super) fn last_heard_ns(&self, of: usize, to: usize, until_ns: u64) -> Option<u64> {
        let sources: Vec<IpAddr> =
            (0..self.network.bridges()).map(|bridge| Port { host: of, bridge }.ipv4().into()).collect();
        let newest = |capture: &Capture| {
            let frames = capture.frames(0, |frame| {
                let is_from = sources.iter().any(|source| frame.kind.is_peer_at(*source));
                is_from && frame.at_ns <= until_ns && frame.direction == Direction::ToHost
            });
            frames.last().map(|frame| frame.at_ns)
        };
        self.captures_of(to).filter_map(newest).max()
    }

    /// Signs of life of a node that were sent and that came, on all links, since the start.
    pub(super) fn heartbeats(&self, node: usize) -> Result<[Signs; 2]> {
        ensure!(!self.captures.is_empty(), "without captures nothing is counted");
        let sum = |direction| {
            self.captures_of(node).map(|capture| capture.signs(direction)).fold(
                Signs::default(),
                |sum, signs| Signs { frames: sum.frames + signs.frames, bytes: sum.bytes + signs.bytes },
            )
        };
        Ok([sum(Direction::FromHost), sum(Direction::ToHost)])
    }

    /// The node that has the service's address; `None` when none or both have it.
    pub(super) fn owner(&self) -> Result<Option<usize>> {
        let has = |node: usize| -> Result<bool> {
            self.network.host(node)?.run(|| {
                let mut all = nix::ifaddrs::getifaddrs().context("cannot list addresses")?;
                Ok(all.any(|entry| {
                    entry.address.is_some_and(|address| {
                        address.as_sockaddr_in().is_some_and(|address| address.ip() == SERVICE)
                    })
                }))
            })
        };
        Ok(match (has(0)?, has(1)?) {
            (true, false) => Some(0),
            (false, true) => Some(1),
            (true, true) | (false, false) => None,
        })
    }
}
