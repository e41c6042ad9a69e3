//! A whole cluster: network, agents, the service on every node and a client that asks for it.
//! [`scenario`] is how a test gets one; it says `SKIP: reason` where the machine cannot, and prints the logs on failure.

use std::net::IpAddr;
use std::time::Duration;

use agent_common::Reject;
use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::agent::{Agent, new_keys};
use super::capture::Capture;
use super::client::Client;
use super::clock;
use super::config::{GROUP, Spec};
use super::echo::Echo;
use super::events::Events;
use super::metrics::Metrics;
use super::netns::Netns;
use super::network::{Network, Port};
use super::observer::Observer;
use super::scratch::Scratch;
use super::serial::Cable;

/// How long a cluster may take to come up or to become whole again. Generous: the machine may be busy.
pub const SETTLE: Duration = Duration::from_secs(20);
/// Between two looks whether a cluster is whole.
const LOOK: Duration = Duration::from_millis(50);
/// How long an agent may take to end in order.
pub const STOP: Duration = Duration::from_secs(10);

/// A cluster in a network. Dropped in this order: agents, service, client, network, files.
#[derive(Debug)]
pub struct Cluster {
    agents: Vec<Agent>,
    /// Keeps the service running.
    _echoes: Vec<Echo>,
    client: Client,
    captures: Vec<Capture>,
    cables: Vec<Cable>,
    network: Network,
    spec: Spec,
    keys: String,
    scratch: Scratch,
}

/// A test that panics leaves no other trace of what the agents did.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
    }
}

/// Runs `body` with a cluster whose agents are not yet started.
///
/// # Errors
/// What `body` returned, or the machine refused the set-up.
pub fn scenario(spec: Spec, body: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    if crate::privileged::skip() {
        return Ok(());
    }
    let mut cluster = Cluster::new(spec)?;
    let outcome = body(&mut cluster);
    if outcome.is_err() {
        cluster.print_logs();
    }
    outcome
}

impl Cluster {
    /// Network, files, service and client; no agent runs yet.
    ///
    /// # Errors
    /// Not privileged, or the daemon was not built.
    pub fn new(spec: Spec) -> Result<Self> {
        let scratch = Scratch::new()?;
        let mut names = spec.names().to_vec();
        names.extend(["client", "observer"]);
        let network = Network::new(&names, spec.bridges())?;
        let keys = new_keys(scratch.root())?;
        let count = spec.serial.map_or(0, |serial| serial.cables(spec.nodes));
        let baud = spec.serial.map_or(0, |serial| serial.baud);
        let cables =
            (0..count).map(|cable| Cable::new(scratch.root(), cable, baud)).collect::<Result<_>>()?;
        let mut agents = Vec::new();
        let mut echoes = Vec::new();
        let mut captures = Vec::new();
        for (node, name) in spec.names().iter().enumerate() {
            let directory = scratch.root().join(name);
            let bpffs = scratch.bpffs().unwrap_or(scratch.root()).join(name);
            std::fs::create_dir_all(&bpffs).context("cannot make the bpffs directory")?;
            agents.push(Agent::new(name, &directory, &spec.toml(node, &directory, &bpffs), &keys)?);
            if !spec.watched {
                continue;
            }
            echoes.push(Echo::start(network.host(node)?, u8::try_from(node)?)?);
            captures.push(Capture::start(&network, Port { host: node, bridge: 0 })?);
        }
        let address = *spec.addresses.first().ok_or_else(|| anyhow!("the cluster serves no address"))?;
        let client = Client::start(network.host(spec.nodes)?, address)?;
        Ok(Self { agents, _echoes: echoes, client, captures, cables, network, spec, keys, scratch })
    }

    /// Starts all agents and waits until the cluster is whole and somebody serves; says who.
    ///
    /// # Errors
    /// It did not come up in time.
    pub fn start(&mut self) -> Result<usize> {
        for node in 0..self.spec.nodes {
            self.start_agent(node)?;
        }
        self.wait_whole()
    }

    /// Starts the agent of one node.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start_agent(&mut self, node: usize) -> Result<()> {
        let netns = self.network.host(node)?;
        self.agents.get_mut(node).ok_or_else(|| anyhow!("there is no node {node}"))?.start(netns)
    }

    /// Waits until every agent sees every peer up, all name the same owner, and it answers the client; says who.
    ///
    /// # Errors
    /// It did not happen in time.
    pub fn wait_whole(&mut self) -> Result<usize> {
        let end_ns = clock::now_ns() + clock::ns(SETTLE);
        loop {
            for agent in &mut self.agents {
                if let Some(status) = agent.has_ended()? {
                    bail!("the agent of {} ended with {status}", agent.name());
                }
            }
            match self.owner_if_whole() {
                Ok(owner) => return Ok(owner),
                Err(error) if clock::now_ns() >= end_ns => {
                    return Err(error).context("the cluster did not become whole");
                }
                // Each look starts processes: not too often, they take time from the agents.
                Err(_) => clock::pause(LOOK)?,
            }
        }
    }

    /// The owner on which all agents agree, if all see each other up and it answers the client.
    ///
    /// # Errors
    /// What is missing.
    pub fn owner_if_whole(&self) -> Result<usize> {
        let mut owner = None;
        for agent in &self.agents {
            let status = agent.status()?;
            let nodes = status.get("nodes").and_then(Value::as_array).context("status lists no nodes")?;
            for node in nodes {
                let name = node.get("name").and_then(Value::as_str).unwrap_or_default();
                let state = node.get("state").and_then(Value::as_str).unwrap_or_default();
                if state != "up" {
                    bail!("{} sees {name} {state}", agent.name());
                }
            }
            let said = self.owner_of(&status)?;
            if *owner.get_or_insert(said) != said {
                bail!("{} names another owner", agent.name());
            }
        }
        let owner = owner.context("no agent runs")?;
        if self.spec.watched {
            self.expect_service_from(owner)?;
        }
        Ok(owner)
    }

    /// The owner of the group in one node's status.
    ///
    /// # Errors
    /// Nobody, or nobody that is known.
    pub fn owner_of(&self, status: &Value) -> Result<usize> {
        let groups = status.get("groups").and_then(Value::as_array).context("status lists no groups")?;
        let is_wanted = |group: &&Value| group.get("name").and_then(Value::as_str) == Some(GROUP);
        let group = groups.iter().find(is_wanted).context("status does not list the group")?;
        let name = group.get("owner").and_then(Value::as_str).context("nobody owns the group")?;
        self.spec
            .names()
            .iter()
            .position(|node| *node == name)
            .with_context(|| format!("the owner is {name}"))
    }

    /// # Errors
    /// The client's newest answer is of another node, or there is none.
    pub fn expect_service_from(&self, node: usize) -> Result<()> {
        let answer =
            self.client.newest_answer(Duration::from_millis(500)).context("the client gets no answer")?;
        if usize::from(answer.node) != node {
            bail!("node {} answers the client, not {node}", answer.node);
        }
        Ok(())
    }

    /// The nodes that have the service address on an interface.
    ///
    /// # Errors
    /// iproute2 failed.
    pub fn holders(&self) -> Result<Vec<usize>> {
        let address = self.address()?;
        let mut holders = Vec::new();
        for node in 0..self.spec.nodes {
            if self.network.host(node)?.has_address(address)? {
                holders.push(node);
            }
        }
        Ok(holders)
    }

    /// What `observer` says of `node` in its status.
    ///
    /// # Errors
    /// Its agent does not answer.
    pub fn seen(&self, observer: usize, node: usize) -> Result<Value> {
        let status = self.agent(observer)?.status()?;
        let nodes = status.get("nodes").and_then(Value::as_array).context("status lists no nodes")?;
        nodes.get(node).cloned().with_context(|| format!("status does not list {}", self.name(node)))
    }

    /// How many frames `observer` has refused for a reason.
    ///
    /// # Errors
    /// Its agent does not answer.
    pub fn rejected(&self, observer: usize, reason: Reject) -> Result<u64> {
        let status = self.agent(observer)?.status()?;
        let rejected = status.get("rejected").context("status lists no refusals")?;
        Ok(rejected.get(reason.label()).and_then(Value::as_u64).unwrap_or(0))
    }

    /// Waits until `observer` sees `node` in a state.
    ///
    /// # Errors
    /// It did not happen within `limit`.
    pub fn wait_state(&self, observer: usize, node: usize, state: &str, limit: Duration) -> Result<()> {
        let what = format!("{} to be {state} to {}", self.name(node), self.name(observer));
        clock::wait_for(&what, limit, || {
            let seen = self.seen(observer, node)?;
            Ok((seen.get("state").and_then(Value::as_str) == Some(state)).then_some(()))
        })
    }

    /// Waits until `node` answers the client.
    ///
    /// # Errors
    /// It did not happen within `limit`.
    pub fn wait_service_from(&self, node: usize, limit: Duration) -> Result<()> {
        let what = format!("an answer of {}", self.name(node));
        clock::wait_for(&what, limit, || Ok(self.expect_service_from(node).ok()))
    }

    /// The events of one node.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn events(&self, node: usize) -> Result<Events> {
        let events = self.agent(node)?.events(self.network.host(node)?)?;
        // The follower must be connected before what it is to see.
        clock::pause(Duration::from_millis(200))?;
        Ok(events)
    }

    /// The metrics of one node.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn metrics(&self, node: usize) -> Result<Metrics> {
        Metrics::scrape(self.network.host(node)?)
    }

    /// An agent.
    ///
    /// # Errors
    /// No such node.
    pub fn agent(&self, node: usize) -> Result<&Agent> {
        self.agents.get(node).ok_or_else(|| anyhow!("there is no node {node}"))
    }

    /// An agent, to start and stop it.
    ///
    /// # Errors
    /// No such node.
    pub fn agent_mut(&mut self, node: usize) -> Result<&mut Agent> {
        self.agents.get_mut(node).ok_or_else(|| anyhow!("there is no node {node}"))
    }

    /// A node's namespace.
    ///
    /// # Errors
    /// No such node.
    pub fn host(&self, node: usize) -> Result<&Netns> {
        self.network.host(node)
    }

    /// Starts an observer that asks every node which may serve.
    ///
    /// # Errors
    /// No socket can be had.
    pub fn observer(&self) -> Result<Observer> {
        let nodes =
            (0..self.spec.owners()).map(|node| self.network.host(node)).collect::<Result<Vec<_>>>()?;
        let host = self.spec.nodes + 1;
        Observer::start(self.network.host(host)?, host, &nodes, self.address()?)
    }

    /// What passes a node's port on the first bridge.
    ///
    /// # Errors
    /// No such node.
    pub fn capture(&self, node: usize) -> Result<&Capture> {
        self.captures.get(node).ok_or_else(|| anyhow!("there is no node {node}"))
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The serial cable that starts at a node.
    ///
    /// # Errors
    /// There is none.
    pub fn cable(&self, node: usize) -> Result<&Cable> {
        self.cables.get(node).ok_or_else(|| anyhow!("there is no cable {node}"))
    }

    /// The wires.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Ends the client and the captures: they take time from the agents whose cost is measured.
    pub fn stop_watching(&self) {
        self.client.stop();
        self.captures.iter().for_each(Capture::stop);
    }

    /// Ends the captures alone, where nobody looks at the wire.
    pub fn stop_captures(&self) {
        self.captures.iter().for_each(Capture::stop);
    }

    /// What it was made from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its key file.
    pub fn keys(&self) -> &str {
        &self.keys
    }

    /// Where its files are.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The address that the client asks.
    ///
    /// # Errors
    /// None is configured.
    pub fn address(&self) -> Result<IpAddr> {
        self.spec.addresses.first().copied().context("the cluster serves no address")
    }

    /// A node's name.
    pub fn name(&self, node: usize) -> &'static str {
        self.spec.names().get(node).copied().unwrap_or("nobody")
    }

    /// In a cluster of two, the other one.
    pub fn other(&self, node: usize) -> usize {
        usize::from(node == 0)
    }

    /// Prints what the agents logged, for a test that failed.
    pub fn print_logs(&self) {
        for agent in &self.agents {
            for line in agent.log() {
                eprintln!("{} | {line}", agent.name());
            }
        }
    }
}
