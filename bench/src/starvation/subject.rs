//! What is starved: two nodes of xbeat under one of the scheduling choices, or of a peer. Node 0 is kept on the first CPU and node
//! 1 on the second, so that load on the first meets an observer of node 1 and a sender to it at once.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use agent_tests::lab::capture::{Capture, Captured, Direction};
use agent_tests::lab::clock;
use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::config::{Policy, Spec};
use agent_tests::lab::events::Events;
use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result, bail};
use nix::libc;
use serde_json::Value;

use super::lateness::Lateness;
use super::probe::Asker;
use super::rival::Rival;
use super::scheduling::{self, Grant};
use super::{DEADTIME, KEEPALIVE, phase};
use crate::peers::Name;

/// The realtime thread of an agent, by name.
const RT: &str = "rt";
/// How long a cluster may take to be whole again after a phase.
const LIMIT: Duration = Duration::from_secs(8);

/// How the agents of a cluster are scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// As any program: what happens without realtime.
    Other,
    /// SCHED_FIFO of this priority, one CPU for each node.
    Fifo(u8),
    /// SCHED_DEADLINE as the agent asks for it by itself.
    Default,
    /// SCHED_DEADLINE with another grant.
    Deadline(Grant),
}

impl Choice {
    /// All that are compared: together they must be less than what the kernel grants to SCHED_DEADLINE.
    pub const ALL: [Self; 7] = [
        Self::Other,
        Self::Fifo(60),
        Self::Fifo(99),
        Self::Deadline(Grant::us(1_000, 10_000)),
        Self::Default,
        Self::Deadline(Grant::us(500, 5_000)),
        Self::Deadline(Grant::us(200, 2_000)),
    ];

    /// For tables.
    pub fn label(self) -> String {
        match self {
            Self::Other => "other".to_owned(),
            Self::Fifo(priority) => format!("fifo {priority}"),
            Self::Default => "default".to_owned(),
            Self::Deadline(grant) => format!("dl {}", grant.label()),
        }
    }

    fn runtime(self) -> String {
        match self {
            Self::Other => String::new(),
            Self::Fifo(priority) => format!("scheduling = \"fifo\"\npriority = {priority}\n"),
            Self::Default | Self::Deadline(_) => "scheduling = \"auto\"\n".to_owned(),
        }
    }
}

/// One of those that are compared.
pub struct Subject {
    /// For tables.
    pub name: String,
    /// Who serves.
    pub holder: usize,
    /// Whether it may be struck in this phase: it was whole at the beginning.
    pub is_whole: bool,
    /// What it is.
    pub kind: Kind,
}

/// The software.
pub enum Kind {
    /// xbeat.
    Agents {
        /// The cluster; it goes before its followers' logs.
        cluster: Box<Cluster>,
        /// How it is scheduled.
        choice: Choice,
        /// By node: what it told.
        events: Vec<Events>,
    },
    /// Another one, while it runs.
    Rival(Name, Option<Box<Rival>>),
}

impl Subject {
    /// A cluster of xbeat whose agents are started; [`Subject::settle`] afterwards.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn agents(choice: Choice) -> Result<Self> {
        let spec = Spec {
            cluster: "starved".to_owned(),
            policy: Policy::TwoNodeAlways,
            keepalive: KEEPALIVE,
            deadtime: DEADTIME,
            realtime: choice != Choice::Other,
            runtime: choice.runtime(),
            ..Spec::default()
        };
        let mut cluster = Box::new(Cluster::new(spec)?);
        // Others ask, without a server in userspace that would be starved, too.
        cluster.client().stop();
        for node in 0..2 {
            cluster.start_agent(node)?;
        }
        let kind = Kind::Agents { cluster, choice, events: Vec::new() };
        Ok(Self { name: choice.label(), holder: 0, is_whole: false, kind })
    }

    /// A peer, not yet started.
    pub fn rival(name: Name) -> Self {
        let kind = Kind::Rival(name, None);
        Self { name: name.label().to_owned(), holder: 0, is_whole: false, kind }
    }

    /// Silence that is death to a node.
    pub fn deadtime(&self, node: usize) -> Duration {
        match &self.kind {
            Kind::Agents { .. } => DEADTIME,
            Kind::Rival(_, rival) => rival.as_ref().map_or(DEADTIME, |rival| rival.deadtime(node)),
        }
    }

    /// Whether it is xbeat as it is scheduled by itself.
    pub const fn is_default(&self) -> bool {
        matches!(self.kind, Kind::Agents { choice: Choice::Default, .. })
    }

    /// Whether only the node that does not serve watches the other.
    pub const fn is_one_sided(&self) -> bool {
        matches!(self.kind, Kind::Rival(Name::Keepalived, _))
    }

    /// Begins a phase: a peer is started anew. [`Subject::settle`] afterwards.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn prepare(&mut self, cpus: &[usize]) -> Result<()> {
        if let Kind::Rival(name, rival) = &mut self.kind {
            // The old one ends before the new one begins.
            *rival = None;
            *rival = Some(Box::new(Rival::start(*name, cpus)?));
        }
        Ok(())
    }

    /// Whoever asks for its service.
    ///
    /// # Errors
    /// Not privileged.
    pub fn asker(&self) -> Result<Asker> {
        match &self.kind {
            Kind::Agents { cluster, .. } => {
                let IpAddr::V4(address) = cluster.address()? else { bail!("the service is of IPv4") };
                Asker::new(cluster.host(cluster.spec().nodes)?, address)
            }
            Kind::Rival(_, rival) => running(rival)?.asker(),
        }
    }

    /// Waits until it is whole, and makes it so where it does not become so by itself. Scheduled as it should be then.
    ///
    /// # Errors
    /// It cannot be started again, or not be scheduled so.
    pub fn settle(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Agents { cluster, choice, events } => {
                let owner = match clock::wait_for("a whole cluster", LIMIT, || Ok(owner(cluster).ok())) {
                    Ok(owner) => owner,
                    Err(_) => restart(cluster, events)?,
                };
                schedule(cluster, *choice)?;
                if events.is_empty() {
                    *events = vec![cluster.events(0)?, cluster.events(1)?];
                }
                (self.holder, self.is_whole) = (owner, true);
            }
            Kind::Rival(_, rival) => match running(rival)?.settle() {
                Ok(holder) => (self.holder, self.is_whole) = (holder, true),
                Err(error) => {
                    clock::check_interrupt()?;
                    eprintln!("warning: {error:#}: left out of this phase");
                    self.is_whole = false;
                }
            },
        }
        Ok(())
    }

    /// Takes the carrier from a node, or gives it back.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn plug(&self, node: usize, is_in: bool) -> Result<()> {
        let network = match &self.kind {
            Kind::Agents { cluster, .. } => cluster.network(),
            Kind::Rival(_, rival) => running(rival)?.network(),
        };
        let port = Port { host: node, bridge: 0 };
        if is_in { network.heal(port) } else { network.cut(port) }
    }

    /// When `node` declared the other one dead, since `from_ns`.
    pub fn verdicts(&self, node: usize, from_ns: u64) -> Vec<u64> {
        match &self.kind {
            Kind::Agents { events, .. } => {
                let told = events.get(node).map(|events| events.since(from_ns)).unwrap_or_default();
                let is_death = [("event", "peer"), ("to", "dead")];
                told.iter().filter(|event| event.has(&is_death)).map(|event| event.at_ns).collect()
            }
            Kind::Rival(_, rival) => {
                running(rival).map_or_else(|_| Vec::new(), |rival| rival.verdicts(node, from_ns))
            }
        }
    }

    /// When a sign of life of `of` passed the port of `at`, since `from_ns`.
    pub fn signs(&self, of: usize, at: usize, from_ns: u64) -> Vec<u64> {
        let source = IpAddr::V4(Port { host: of, bridge: 0 }.ipv4());
        let way = if of == at { Direction::FromHost } else { Direction::ToHost };
        let is_sign = |frame: &Captured| frame.direction == way && is_sign_of(frame, of, source);
        let Some(capture) = self.capture(at) else { return Vec::new() };
        capture.frames(from_ns, is_sign).iter().map(|frame| frame.at_ns).collect()
    }

    /// Forgets the frames so far, and sees to it that no load starves who captures the next ones.
    pub fn clear(&self) {
        for capture in (0..2).filter_map(|node| self.capture(node)) {
            capture.run_at(phase::PRIORITY);
            capture.clear();
        }
    }

    /// How late each node's realtime thread has been so far; `None` for a peer, which does not say.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn lateness(&self) -> Result<Option<[Lateness; 2]>> {
        match &self.kind {
            Kind::Agents { cluster, .. } => {
                Ok(Some([Lateness::ask(cluster, 0)?, Lateness::ask(cluster, 1)?]))
            }
            Kind::Rival(_, _) => Ok(None),
        }
    }

    fn capture(&self, node: usize) -> Option<&Capture> {
        match &self.kind {
            Kind::Agents { cluster, .. } => cluster.capture(node).ok(),
            Kind::Rival(_, rival) => rival.as_ref()?.capture(node),
        }
    }
}

fn running(rival: &Option<Box<Rival>>) -> Result<&Rival> {
    rival.as_deref().context("a peer that was not started")
}

fn is_sign_of(frame: &Captured, node: usize, source: IpAddr) -> bool {
    use agent_tests::lab::frame::Kind as Frame;
    match frame.kind {
        Frame::Heartbeat { node: sender, .. } => usize::from(sender) == node,
        Frame::Vrrp(from) | Frame::Peer(from) => from == source,
        Frame::Announcement(_) | Frame::Other => false,
    }
}

/// The owner on which both agents agree while they see each other.
fn owner(cluster: &Cluster) -> Result<usize> {
    let statuses = [cluster.agent(0)?.status()?, cluster.agent(1)?.status()?];
    for status in &statuses {
        let nodes = status.get("nodes").and_then(Value::as_array).context("status lists no nodes")?;
        if nodes.iter().any(|node| node.get("state").and_then(Value::as_str) != Some("up")) {
            bail!("a node is not up");
        }
    }
    let owners = [cluster.owner_of(&statuses[0])?, cluster.owner_of(&statuses[1])?];
    if owners[0] != owners[1] {
        bail!("each names another owner");
    }
    Ok(owners[0])
}

fn restart(cluster: &mut Cluster, events: &mut Vec<Events>) -> Result<usize> {
    events.clear();
    for node in 0..2 {
        // It may have ended by itself.
        let _ = cluster.agent(node)?.kill();
        let _ = cluster.agent_mut(node)?.reap(LIMIT);
        cluster.network().heal(Port { host: node, bridge: 0 })?;
        cluster.start_agent(node)?;
    }
    let whole = clock::wait_for("a cluster that was started again", LIMIT, || Ok(owner(cluster).ok()));
    whole.inspect_err(|_| cluster.print_logs())
}

/// Gives both agents' realtime threads what was chosen, and looks whether they have it.
fn schedule(cluster: &Cluster, choice: Choice) -> Result<()> {
    let cpus = super::load::cpus()?;
    for node in 0..2 {
        let pid = cluster.agent(node)?.pid()?;
        let rt = scheduling::thread(pid, RT)?;
        let wanted = match choice {
            Choice::Other => libc::SCHED_OTHER,
            Choice::Fifo(_) => libc::SCHED_FIFO,
            Choice::Default => libc::SCHED_DEADLINE,
            Choice::Deadline(grant) => {
                scheduling::set_deadline(rt, grant)?;
                libc::SCHED_DEADLINE
            }
        };
        if scheduling::class(rt)? != wanted {
            bail!(
                "an agent is not scheduled as chosen: {}; is SCHED_DEADLINE granted to others on this machine?",
                choice.label()
            );
        }
        if let (Choice::Other | Choice::Fifo(_), Some(cpu)) = (choice, cpus.get(node)) {
            scheduling::pin_all(pid, *cpu)?;
        }
    }
    Ok(())
}

/// The address of every peer's service.
pub(super) const RIVAL_SERVICE: Ipv4Addr = crate::peers::SERVICE;
