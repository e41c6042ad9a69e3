//! Everything that is watched all the time: answers to the observer and to the client, the events of all nodes, what their
//! processes keep, and the machine. It keeps findings, not what it saw, so that it can go on for hours.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use agent_tests::lab::bpf::Objects;
use agent_tests::lab::clock;
use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::events::Event;
use agent_tests::lab::observer::Observer;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::epochs::Epochs;
use super::excuse::Excuses;
use super::fault::NODES;
use super::memory::{self, Kept, Life, Sample};
use super::outage::{Outage, Outages};
use super::stall::Stalls;
use super::stream::{self, Stream};
use super::turns::Turns;

/// Between two looks at what processes keep.
const SAMPLE_NS: u64 = 10_000_000_000;
/// The first look at a process: before that it loads its programs.
const FIRST_NS: u64 = 3_000_000_000;
/// So much later all answers have come and all events have been told.
const RIPE_NS: u64 = 1_000_000_000;
/// Events of each node that are kept for the report of a violation.
const RECENT: usize = 25;
/// And lines of its log.
const LOG_LINES: usize = 40;
/// Most findings of a kind that are kept.
const FINDINGS_MAX: usize = 10_000;

/// A node called a peer dead without a reason.
#[derive(Clone, Debug)]
pub struct Death {
    /// When.
    pub at_ns: u64,
    /// Who said it.
    pub observer: usize,
    /// Of whom.
    pub peer: usize,
    /// How long it had heard nothing, as it said.
    pub silent_ms: f64,
}

/// Watches a cluster.
#[derive(Debug)]
pub struct Watch {
    /// Who may be called dead.
    pub excuses: Excuses,
    /// The machine.
    pub stalls: Stalls,
    /// The observer outside.
    pub observer: Observer,
    /// Who served.
    pub turns: Turns,
    /// Which numbers leases had.
    pub epochs: Epochs,
    /// Times without service.
    pub found: Vec<Outage>,
    /// Deaths with a reason.
    pub excused: usize,
    /// And without.
    pub deaths: Vec<Death>,
    /// By node, its processes.
    pub lives: [Vec<Life>; NODES],
    /// This process.
    pub own: Life,
    /// BPF objects at times of quiet.
    pub kept: Vec<Kept>,
    /// By class, how often an agent said at the end of a time of quiet that it is scheduled so.
    pub scheduling: BTreeMap<String, usize>,
    /// Answers to the client.
    pub outages: Outages,
    born_ns: [u64; NODES],
    streams: Vec<Stream>,
    recent: [VecDeque<Event>; NODES],
    asked_to_ns: u64,
    sampled_ns: u64,
    strangers: BTreeSet<u32>,
}

impl Watch {
    /// Begins before the agents are started.
    ///
    /// # Errors
    /// A socket or thread cannot be had.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let spec = cluster.spec();
        let streams = (0..NODES).map(|node| Stream::start(cluster.agent(node)?.directory()));
        Ok(Self {
            excuses: Excuses::new(spec.deadtime, spec.initdead),
            stalls: Stalls::start()?,
            observer: cluster.observer()?,
            turns: Turns::default(),
            epochs: Epochs::default(),
            found: Vec::new(),
            excused: 0,
            deaths: Vec::new(),
            lives: std::array::from_fn(|_| vec![Life::default()]),
            own: Life::default(),
            kept: Vec::new(),
            scheduling: BTreeMap::new(),
            strangers: memory::strangers(&[]),
            outages: Outages::default(),
            streams: streams.collect::<Result<_>>()?,
            born_ns: [0; NODES],
            recent: Default::default(),
            asked_to_ns: clock::now_ns(),
            sampled_ns: 0,
        })
    }

    /// The client is asked from now on: what was before the first answer is no outage.
    pub fn begin(&mut self) {
        self.asked_to_ns = clock::now_ns();
        // Nobody served until somebody did, and whoever came late was dead to the others until then.
        self.outages = Outages::default();
        self.found.clear();
        self.deaths.clear();
    }

    /// Another process of this node.
    pub fn new_life(&mut self, node: usize) {
        if let Some(lives) = self.lives.get_mut(node) {
            // One that was never looked at says nothing.
            lives.retain(|life| !life.samples().is_empty());
            lives.push(Life::default());
        }
        if let Some(born_ns) = self.born_ns.get_mut(node) {
            *born_ns = clock::now_ns();
        }
        self.sampled_ns = self.sampled_ns.min(clock::now_ns().saturating_sub(SAMPLE_NS - FIRST_NS));
    }

    /// At the end of a time of quiet: all agents run and have told everything, also those that were stopped.
    ///
    /// # Errors
    /// No such node.
    pub fn judge(&mut self, cluster: &Cluster) -> Result<()> {
        let now_ns = clock::now_ns();
        self.turns.judge(now_ns.saturating_sub(RIPE_NS));
        self.epochs.judge(now_ns.saturating_sub(RIPE_NS));
        if self.kept.len() < FINDINGS_MAX {
            let pids = (0..NODES).map(|node| cluster.agent(node)?.pid()).collect::<Result<Vec<_>>>()?;
            // Whoever had BPF objects open before, such as systemd, is taken to leave them as they are.
            let is_shared = memory::strangers(&pids) != self.strangers;
            self.kept.push(Kept { at_ns: now_ns, objects: Objects::count(), is_shared });
        }
        for node in 0..NODES {
            let status = stream::status(cluster.agent(node)?.directory())?;
            let class = status.get("realtime").and_then(|realtime| realtime.get("scheduling")?.as_str());
            *self.scheduling.entry(class.unwrap_or("unknown").to_owned()).or_default() += 1;
        }
        Ok(())
    }

    /// Takes in what came since the last time. To be called several times a second.
    ///
    /// # Errors
    /// An agent's process id cannot be had.
    pub fn look(&mut self, cluster: &Cluster) -> Result<()> {
        let now_ns = clock::now_ns();
        self.observer.drain().into_iter().for_each(|answer| self.turns.answer(answer));
        for node in 0..NODES {
            let events = self.streams.get(node).map(Stream::drain).unwrap_or_default();
            events.into_iter().for_each(|event| self.event(cluster, node, event));
        }
        let ripe_ns = now_ns.saturating_sub(RIPE_NS);
        if ripe_ns > self.asked_to_ns {
            let mut answers = cluster.client().answers_since(self.asked_to_ns);
            answers.retain(|answer| answer.sent_ns < ripe_ns);
            self.found.extend(self.outages.take(&answers));
            self.found.truncate(FINDINGS_MAX);
            self.asked_to_ns = ripe_ns;
        }
        if now_ns.saturating_sub(self.sampled_ns) >= SAMPLE_NS {
            self.sampled_ns = now_ns;
            self.sample(cluster, now_ns)?;
        }
        Ok(())
    }

    fn event(&mut self, cluster: &Cluster, node: usize, event: Event) {
        let is_new = event.text("from") != event.text("to");
        match event.text("event") {
            // Who starts anew while it is dead stays so at first: no death.
            Some("peer") if event.text("to") == Some("dead") && is_new => self.death(cluster, node, &event),
            Some("lease") if event.text("to") == Some("held") => self.turns.grant(node, event.at_ns),
            // From serving to serving, another field has changed: for a moment nobody may hold the lease.
            Some("group") if event.text("to") == Some("serving") && is_new => {
                let epoch = event.value.get("epoch").and_then(Value::as_u64).unwrap_or(0);
                self.epochs.served(node, epoch, event.at_ns);
            }
            Some(_) | None => {}
        }
        if let Some(recent) = self.recent.get_mut(node) {
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(event);
        }
    }

    fn death(&mut self, cluster: &Cluster, observer: usize, event: &Event) {
        let peer = (0..NODES).find(|peer| event.text("peer") == Some(cluster.name(*peer)));
        let peer = peer.unwrap_or(NODES);
        if self.excuses.covers(observer, peer, event.at_ns) {
            self.excused += 1;
        } else if self.deaths.len() < FINDINGS_MAX {
            let silent_us = event.value.get("silent_us").and_then(Value::as_f64).unwrap_or(f64::NAN);
            self.deaths.push(Death { at_ns: event.at_ns, observer, peer, silent_ms: silent_us / 1e3 });
        }
    }

    fn sample(&mut self, cluster: &Cluster, now_ns: u64) -> Result<()> {
        for (node, lives) in self.lives.iter_mut().enumerate() {
            if self.born_ns.get(node).is_some_and(|born_ns| now_ns.saturating_sub(*born_ns) < FIRST_NS) {
                continue;
            }
            // One that was killed has nothing.
            let Ok(pid) = cluster.agent(node)?.pid() else { continue };
            if let (Ok(sample), Some(life)) = (Sample::of(pid, now_ns), lives.last_mut())
                && sample.resident_kib > 0
            {
                life.add(sample);
            }
        }
        if let Ok(sample) = Sample::of(std::process::id(), now_ns) {
            self.own.add(sample);
        }
        self.excuses.forget(now_ns.saturating_sub(60 * RIPE_NS));
        Ok(())
    }

    /// The owner on which all agents agree, if all see each other up and it answers the client.
    ///
    /// # Errors
    /// What is missing.
    pub fn whole(cluster: &Cluster) -> Result<usize> {
        let mut owner = None;
        for node in 0..NODES {
            let agent = cluster.agent(node)?;
            let status = stream::status(agent.directory())?;
            let nodes = status.get("nodes").and_then(Value::as_array).context("status lists no nodes")?;
            for peer in nodes {
                let text = |key: &str| peer.get(key).and_then(Value::as_str).unwrap_or_default();
                if text("state") != "up" {
                    bail!("{} sees {} {}", agent.name(), text("name"), text("state"));
                }
            }
            let said = cluster.owner_of(&status)?;
            if *owner.get_or_insert(said) != said {
                bail!("{} names another owner", agent.name());
            }
        }
        let owner = owner.context("no agent runs")?;
        let answer = cluster.client().newest_answer(Duration::from_millis(100));
        match answer {
            Some(answer) if usize::from(answer.node) == owner => Ok(owner),
            Some(answer) => bail!("node {} answers the client, not {owner}", answer.node),
            None => bail!("the client gets no answer"),
        }
    }

    /// Events that could not be delivered, and connections to each node.
    pub fn streams(&self) -> (u64, Vec<u64>) {
        let missed = self.streams.iter().map(Stream::missed).sum();
        (missed, self.streams.iter().map(Stream::connections).collect())
    }

    /// The last events of each node, and the last lines of its log, for people.
    pub fn recent(&self, cluster: &Cluster) -> Vec<String> {
        let lines = self.recent.iter().enumerate().flat_map(|(node, events)| {
            events.iter().map(move |event| format!("{} | {}", cluster.name(node), event.value))
        });
        let logs = (0..NODES).filter_map(|node| cluster.agent(node).ok()).flat_map(|agent| {
            let log = agent.log();
            let skip = log.len().saturating_sub(LOG_LINES);
            log.into_iter()
                .skip(skip)
                .map(|line| format!("{} log | {line}", agent.name()))
                .collect::<Vec<_>>()
        });
        lines.chain(logs).collect()
    }
}
