//! xbeat as one of those that are measured: two nodes of which silence decides, or the same two with a witness, where whoever
//! takes over has asked for the witness's vote first.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use agent_tests::lab::capture::Capture;
use agent_tests::lab::client::Client;
use agent_tests::lab::clock;
use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::config::{GROUP, Policy, Spec};
use agent_tests::lab::events::Events;
use agent_tests::lab::failover::{Kill, mend, pause_agent, strike};
use agent_tests::lab::network::Port;
use agent_tests::lab::observer::Observer;
use anyhow::{Context as _, Result, ensure};

use super::Fault;
use super::stand::Stand;
use super::subject::Votes;

/// A command is answered within ten seconds.
const ANSWER: Duration = Duration::from_secs(11);
/// A follower of events is connected after so long.
const CONNECT: Duration = Duration::from_millis(200);

/// A cluster, and what happened to it.
pub(super) struct XbeatStand {
    cluster: Cluster,
    /// Of the two that may serve; gone with the agent.
    events: [Option<Events>; 2],
    struck: Option<(Fault, usize)>,
}

impl XbeatStand {
    pub(super) fn start(votes: Votes, keepalive: Duration, deadtime: Duration) -> Result<Self> {
        let (nodes, witnesses, policy) = match votes {
            Votes::Alone => (2, 0, Policy::TwoNodeAlways),
            Votes::Witness => (3, 1, Policy::Majority),
        };
        let mut cluster = Cluster::new(Spec {
            cluster: "bench".to_owned(),
            nodes,
            witnesses,
            policy,
            keepalive,
            deadtime,
            initdead: Duration::from_secs(1),
            addresses: vec![crate::peers::SERVICE.into()],
            ..Spec::default()
        })?;
        for node in 0..nodes {
            cluster.start_agent(node)?;
        }
        Ok(Self { cluster, events: [None, None], struck: None })
    }

    /// `takeover` by the other node, over the control socket: no process is started in the time that is measured.
    fn take_over(&self, node: usize) -> Result<u64> {
        let path = self.cluster.agent(node)?.directory().join("xbeat.sock");
        let mut stream = UnixStream::connect(path).context("no agent answers")?;
        stream.set_read_timeout(Some(ANSWER))?;
        let said_ns = clock::now_ns();
        writeln!(stream, "{{\"command\":\"takeover\",\"group\":\"{GROUP}\"}}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).context("the agent did not answer")?;
        ensure!(answer.contains("done"), "takeover: {}", answer.trim());
        Ok(said_ns)
    }
}

impl Stand for XbeatStand {
    fn mend(&mut self) -> Result<()> {
        self.cluster.client().rest(false);
        let Some((fault, node)) = self.struck.take() else { return Ok(()) };
        match fault {
            Fault::Kill | Fault::KillAndCut => {
                if let Some(events) = self.events.get_mut(node) {
                    *events = None;
                }
                mend(&mut self.cluster, node, kill_of(fault))
            }
            Fault::Cut | Fault::Freeze => self.give_back(fault, node),
            Fault::Move => Ok(()),
        }
    }

    fn wait_whole(&mut self) -> Result<usize> {
        let holder = self.cluster.wait_whole()?;
        for (node, events) in self.events.iter_mut().enumerate() {
            if events.is_none() {
                *events = Some(self.cluster.agent(node)?.events(self.cluster.host(node)?)?);
                clock::pause(CONNECT)?;
            }
        }
        Ok(holder)
    }

    fn client(&self) -> &Client {
        self.cluster.client()
    }

    fn capture(&self, node: usize) -> Result<&Capture> {
        self.cluster.capture(node)
    }

    fn observer(&self) -> Result<Observer> {
        self.cluster.observer()
    }

    fn interval(&self) -> Duration {
        self.cluster.spec().keepalive
    }

    fn deadtime(&self, _node: usize) -> Duration {
        self.cluster.spec().deadtime
    }

    fn last_heard_ns(&self, of: usize, to: usize, until_ns: u64) -> Option<u64> {
        self.cluster.capture(to).ok()?.last_heartbeat_ns(u8::try_from(of).ok()?, until_ns)
    }

    fn strike(&mut self, fault: Fault, node: usize) -> Result<u64> {
        self.struck = Some((fault, node));
        match fault {
            Fault::Kill | Fault::Cut | Fault::KillAndCut => strike(&self.cluster, node, kill_of(fault)),
            Fault::Freeze => {
                let fault_ns = clock::now_ns();
                pause_agent(&self.cluster, node, true)?;
                Ok(fault_ns)
            }
            Fault::Move => self.take_over(self.cluster.other(node)),
        }
    }

    fn give_back(&mut self, fault: Fault, node: usize) -> Result<()> {
        match fault {
            Fault::Cut => self.cluster.network().heal(Port { host: node, bridge: 0 }),
            Fault::Freeze => pause_agent(&self.cluster, node, false),
            Fault::Kill | Fault::Move | Fault::KillAndCut => Ok(()),
        }
    }

    fn dead_ns(&self, node: usize, from_ns: u64) -> Option<u64> {
        let other = self.cluster.name(self.cluster.other(node));
        let dead = [("event", "peer"), ("peer", other), ("to", "dead")];
        Some(self.events.get(node)?.as_ref()?.find(from_ns, &dead)?.at_ns)
    }

    fn address_ns(&self, node: usize, from_ns: u64) -> Option<u64> {
        let added = [("event", "address"), ("to", "added")];
        Some(self.events.get(node)?.as_ref()?.find(from_ns, &added)?.at_ns)
    }
}

/// As the laboratory knows it.
const fn kill_of(fault: Fault) -> Kill {
    match fault {
        Fault::Kill | Fault::Freeze | Fault::Move => Kill::Agent,
        Fault::Cut => Kill::Link,
        Fault::KillAndCut => Kill::Both,
    }
}
