//! One cluster on the bench: its nodes, a channel at each port towards a node, and a client that asks a hundred times a second,
//! whose own frames no channel touches.

use std::time::Duration;

use agent_tests::lab::capture::Direction;
use agent_tests::lab::client::Client;
use agent_tests::lab::clock;
use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::config::{LinkSpec, Spec, Xdp};
use agent_tests::lab::events::Events;
use agent_tests::lab::loss::{Channel, Lossy};
use agent_tests::lab::network::{Network, Port};
use anyhow::{Context as _, Result};

use super::machine::Lateness;
use super::{Seen, Setup, Subject};
use crate::peers::{Name, Pair, SERVICE, Said, Setting};

/// Between two probes.
const PROBE: Duration = Duration::from_millis(10);
/// The client's host, behind the nodes.
const CLIENT: Port = Port { host: 2, bridge: 0 };
/// A verdict follows its deadline, however late its thread woke, by less.
const BEHIND_NS: u64 = 100_000_000;
/// What the tap at the port and the stamp in the node may differ by, and the clocks' conversion.
const TAP_NS: u64 = 500_000;

/// A running cluster. Dropped in this order: what hangs on its network first.
pub struct Rig {
    /// What it is.
    pub setup: Setup,
    lossy: Vec<Lossy>,
    client: Option<Client>,
    software: Software,
    address: std::net::IpAddr,
}

enum Software {
    Xbeat { events: Vec<Events>, cluster: Box<Cluster> },
    Peer(Box<Pair>),
}

impl Rig {
    /// Starts the nodes; [`Rig::ready`] afterwards.
    ///
    /// # Errors
    /// Not privileged, or it cannot be started.
    pub fn start(setup: Setup) -> Result<Self> {
        let (software, address) = match setup.subject {
            Subject::Xbeat | Subject::Sockets | Subject::Edge => {
                let mut cluster = Box::new(Cluster::new(spec(&setup))?);
                cluster.start_agent(0)?;
                cluster.start_agent(1)?;
                let address = cluster.address()?;
                (Software::Xbeat { events: Vec::new(), cluster }, address)
            }
            Subject::Peer(name) => {
                let setting = Setting { interval: setup.keepalive(), count: setup.count };
                (Software::Peer(Box::new(Pair::start(name, setting)?)), SERVICE.into())
            }
        };
        Ok(Self { setup, lossy: Vec::new(), client: None, software, address })
    }

    /// Waits until it is whole, and puts channels and client in place. Nothing is lost yet.
    ///
    /// # Errors
    /// It does not become whole, or the channels cannot be put in place.
    pub fn ready(&mut self) -> Result<()> {
        match &mut self.software {
            Software::Xbeat { events, cluster } => {
                cluster.wait_whole().inspect_err(|_| cluster.print_logs())?;
                *events = vec![cluster.events(0)?, cluster.events(1)?];
                cluster.client().stop();
                if self.setup.links > 1 {
                    cluster.stop_captures();
                }
            }
            Software::Peer(pair) => {
                pair.wait_whole()?;
                pair.bed.client.stop();
                pair.bed.captures.iter().for_each(agent_tests::lab::capture::Capture::stop);
            }
        }
        let network = self.software.network();
        let spared = mac(&network.interface(CLIENT)?.1)?;
        self.client = Some(Client::start_every(network.host(CLIENT.host)?, self.address, PROBE)?);
        let mut lossy = Vec::new();
        for bridge in 0..self.setup.links {
            for host in 0..2 {
                lossy.push(Lossy::start(network, Port { host, bridge }, Channel::Independent(0.0), spared)?);
            }
        }
        self.lossy = lossy;
        Ok(())
    }

    /// Loses frames like this from now on.
    ///
    /// # Errors
    /// The channel cannot be set.
    pub fn set(&mut self, channel: Channel) -> Result<()> {
        self.lossy.iter_mut().try_for_each(|lossy| lossy.set(channel))
    }

    /// Frames judged and lost so far.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn frames(&self) -> Result<(u64, u64)> {
        let mut sum = (0, 0);
        for lossy in &self.lossy {
            let counts = lossy.counts()?;
            sum = (sum.0 + counts.passed + counts.lost, sum.1 + counts.lost);
        }
        Ok(sum)
    }

    /// Whether each node sees the other and somebody serves.
    pub fn is_whole(&self) -> bool {
        let serves = self.client.as_ref().is_some_and(|client| client.newest_answer(PROBE * 30).is_some());
        serves
            && match &self.software {
                Software::Xbeat { events, .. } => events.iter().all(|events| {
                    let seen = events.since(0);
                    let is_peer =
                        |event: &&agent_tests::lab::events::Event| event.text("event") == Some("peer");
                    let last = seen.iter().rev().find(is_peer);
                    last.is_none_or(|event| matches!(event.text("to"), Some("up" | "late")))
                }),
                Software::Peer(pair) => peers_are_whole(pair),
            }
    }

    /// Forgets what was captured so far.
    pub fn clear(&self) -> Result<()> {
        match &self.software {
            Software::Xbeat { cluster, .. } => (0..2).try_for_each(|node| {
                cluster.capture(node)?.clear();
                Ok(())
            }),
            Software::Peer(_) => Ok(()),
        }
    }

    /// What happened between these times, apart from the frames.
    ///
    /// # Errors
    /// A capture is missing.
    pub fn seen(&self, from_ns: u64, to_ns: u64, lateness: &Lateness) -> Result<Seen> {
        let mut seen = Seen { seconds: clock::ms_between(from_ns, to_ns) / 1e3, ..Seen::default() };
        let deadtime_ns = clock::ns(self.setup.deadtime());
        for node in 0..2 {
            let mut deaths = self.deaths(node, from_ns);
            deaths.retain(|at_ns| *at_ns < to_ns);
            seen.deaths += deaths.len();
            let is_stalled =
                |at_ns: &&u64| lateness.stalled_between(at_ns.saturating_sub(deadtime_ns), **at_ns);
            seen.stalled += deaths.iter().filter(is_stalled).count();
            if let (Software::Xbeat { cluster, .. }, 1) = (&self.software, self.setup.links) {
                let deadlines = deadlines(cluster, node, deadtime_ns, from_ns)?;
                let within = deadlines.iter().filter(|at_ns| (from_ns..to_ns).contains(*at_ns));
                seen.silences = Some(seen.silences.unwrap_or(0) + within.count());
                seen.behind_ms.extend(deaths.iter().filter_map(|at_ns| behind_ms(&deadlines, *at_ns)));
            }
        }
        if let Some(client) = &self.client {
            (seen.probes, seen.unanswered) = client.lost(from_ns, to_ns);
            let answers = client.answers_since(from_ns);
            let answers: Vec<u8> =
                answers.iter().filter(|answer| answer.sent_ns < to_ns).map(|answer| answer.node).collect();
            seen.moves = answers.windows(2).filter(|pair| pair.first() != pair.last()).count();
        }
        Ok(seen)
    }

    /// When `node` called the other dead.
    fn deaths(&self, node: usize, from_ns: u64) -> Vec<u64> {
        match &self.software {
            Software::Xbeat { events, .. } => {
                let dead = [("event", "peer"), ("to", "dead")];
                let events = events.get(node).map(|events| events.since(from_ns)).unwrap_or_default();
                events.iter().filter(|event| event.has(&dead)).map(|event| event.at_ns).collect()
            }
            Software::Peer(pair) => pair.verdicts(node, from_ns),
        }
    }

    /// What its nodes logged, for a message.
    pub fn print_logs(&self) {
        match &self.software {
            Software::Xbeat { cluster, .. } => cluster.print_logs(),
            Software::Peer(pair) => pair.print_logs(),
        }
    }
}

impl Software {
    fn network(&self) -> &Network {
        match self {
            Self::Xbeat { cluster, .. } => cluster.network(),
            Self::Peer(pair) => &pair.bed.network,
        }
    }
}

fn spec(setup: &Setup) -> Spec {
    Spec {
        cluster: "bench".to_owned(),
        keepalive: setup.keepalive(),
        deadtime: setup.deadtime(),
        links: (0..setup.links).map(|bridge| LinkSpec { bridge, ..LinkSpec::default() }).collect(),
        xdp: if setup.subject == Subject::Sockets { Xdp::Off } else { Xdp::Auto },
        ..Spec::default()
    }
}

fn peers_are_whole(pair: &Pair) -> bool {
    match pair.name {
        Name::Keepalived => {
            let serving = (0..2)
                .filter(|node| pair.log(*node).newest(Said::Serves, Said::Yields) == Some(Said::Serves));
            serving.count() == 1
        }
        Name::Heartbeat | Name::Corosync | Name::Bfdd => {
            (0..2).all(|node| pair.log(node).newest(Said::Dead, Said::Alive) != Some(Said::Dead))
        }
    }
}

/// When the silences between two heartbeats at a node's port became longer than the deadtime.
fn deadlines(cluster: &Cluster, node: usize, deadtime_ns: u64, from_ns: u64) -> Result<Vec<u64>> {
    let other = u8::try_from(cluster.other(node))?;
    let stamps = cluster.capture(node)?.frames(from_ns.saturating_sub(10 * deadtime_ns), |frame| {
        frame.direction == Direction::ToHost && frame.kind.is_heartbeat_of(other)
    });
    let pairs = stamps.iter().zip(stamps.iter().skip(1));
    let silent = pairs.filter(|(before, after)| after.at_ns - before.at_ns > deadtime_ns);
    Ok(silent.map(|(before, _)| before.at_ns + deadtime_ns).collect())
}

/// How far a verdict is behind the deadline of the silence that it belongs to.
fn behind_ms(deadlines: &[u64], death_ns: u64) -> Option<f64> {
    let next = deadlines.partition_point(|at_ns| *at_ns <= death_ns + TAP_NS);
    let deadline_ns = *deadlines.get(next.checked_sub(1)?)?;
    (death_ns < deadline_ns + BEHIND_NS).then(|| clock::ms_between(deadline_ns, death_ns))
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let mut mac = [0; 6];
    for (byte, text) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(text, 16).with_context(|| format!("not a MAC address: {text}"))?;
    }
    Ok(mac)
}
