//! `cargo xtask bench core`: what one heartbeat costs the core of a node: the reading of a peer's slot and its share of the
//! round that renews the leases. Clusters of 2 to 32 nodes with 64 groups spread over them, all of them steady.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use agent_common::{Ack, Claim, LinkId, Name, NodeId, NodeState};
use agent_core::config::{
    GateKind, GroupConfig, LinkConfig, Mutated, NodeConfig, Policy, Quorum, Start, Timing,
};
use agent_core::{Action, Config, Event, Instant, Node, Reading};
use agent_tests::lab::clock::now_ns;
use anyhow::{Context as _, Result, ensure};
use bench::machine::Machine;
use clap::Parser;
use serde::Serialize;

const NODES: [u8; 6] = [2, 4, 8, 16, 24, 32];
const GROUPS: usize = 64;
/// Most nanoseconds for a heartbeat in a cluster of [`GOAL_NODES`].
const GOAL_NS: u64 = 2_000;
const GOAL_NODES: u8 = 16;
const KEEPALIVE: Duration = Duration::from_millis(10);

/// Cost of a heartbeat in the core, by the size of the cluster.
#[derive(Parser)]
struct Arguments {
    /// Samples for each size; minimum, median and maximum are shown
    #[arg(long, default_value_t = 15)]
    runs: usize,
    /// Rounds in each sample: one keepalive, one heartbeat of every peer
    #[arg(long, default_value_t = 1_000)]
    rounds: u64,
    /// Directory for core.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    nodes: u8,
    held: usize,
    minimum_ns: u64,
    median_ns: u64,
    maximum_ns: u64,
    of_that_round_ns: u64,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    runs: usize,
    rounds: u64,
    groups: usize,
    rows: Vec<Row>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.runs > 0 && arguments.rounds > 0,
        "nothing to measure: --runs and --rounds are at least 1"
    );
    let rows = NODES.iter().map(|nodes| measure(*nodes, arguments)).collect::<Result<Vec<Row>>>()?;
    let Arguments { runs, rounds, .. } = *arguments;
    let report = Report { machine: Machine::here(), runs, rounds, groups: GROUPS, rows };
    print(&report);
    if let Some(directory) = &arguments.out {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create the directory {}", directory.display()))?;
        let path = directory.join("core.json");
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn measure(nodes: u8, arguments: &Arguments) -> Result<Row> {
    let mut cluster = Cluster::new(nodes)?;
    for _ in 0..100 {
        cluster.round();
    }
    let held = cluster.held();
    let expected = cluster.config.groups.iter().filter(|group| group.prefer.first() == Some(&id(0))).count();
    ensure!(held == expected, "{held} of {expected} groups are held: this measures no steady cluster");
    let beats = u64::from(nodes - 1) * arguments.rounds;
    let mut samples = Vec::with_capacity(arguments.runs);
    for _ in 0..arguments.runs {
        (cluster.reading_ns, cluster.round_ns) = (0, 0);
        for _ in 0..arguments.rounds {
            cluster.round();
        }
        samples.push(((cluster.reading_ns + cluster.round_ns) / beats, cluster.round_ns / beats));
    }
    ensure!(cluster.held() == expected, "leases were lost on the way");
    samples.sort_unstable();
    let first = samples.first().copied().context("no samples")?;
    let median = samples.get(samples.len() / 2).copied().context("no samples")?;
    let last = samples.last().copied().context("no samples")?;
    let (minimum_ns, median_ns, maximum_ns) = (first.0, median.0, last.0);
    Ok(Row { nodes, held, minimum_ns, median_ns, maximum_ns, of_that_round_ns: median.1 })
}

/// One node, and the slots of its peers.
struct Cluster {
    config: Config,
    node: Node,
    slots: Vec<Reading>,
    now: Instant,
    reading_ns: u64,
    round_ns: u64,
}

impl Cluster {
    fn new(nodes: u8) -> Result<Self> {
        let config = config(nodes)?;
        let now = Instant(1_000_000_000);
        let slots = (1..nodes).map(|peer| slot(peer, &config, now));
        let slots = slots.collect();
        Ok(Self { node: Node::new(&config, now), config, slots, now, reading_ns: 0, round_ns: 0 })
    }

    /// One keepalive: every peer is heard, then the node decides and sends.
    fn round(&mut self) {
        self.now = self.now.after(KEEPALIVE);
        let mine = self.node.outgoing();
        let ack = Ack { incarnation: mine.incarnation, seq: mine.seq, table: mine.votes_version };
        for slot in &mut self.slots {
            (slot.read_at, slot.heard_at, slot.counts_at) = (self.now, self.now, Some(self.now));
            (slot.accepted, slot.beat.seq) = (slot.accepted + 1, slot.beat.seq + 1);
            slot.beat.acks[0] = ack;
            let link = &mut slot.links[0];
            (link.at, link.seq, link.frames) = (Some(self.now), slot.beat.seq, link.frames + 1);
            slot.beat.has_claims = slot.beat.seq == 1;
            for (theirs, asked) in slot.beat.claims.iter_mut().zip(&mine.claims) {
                if asked.epoch != 0 && asked.candidate == 0 && theirs.epoch != asked.epoch {
                    *theirs = Claim { epoch: asked.epoch, candidate: 0, flags: 0 };
                    slot.beat.votes_version += 1;
                    slot.beat.has_claims = true;
                }
            }
        }
        let start = now_ns();
        for slot in &self.slots {
            self.node.handle(Event::Reading(slot), self.now);
            while let Some(action) = self.node.poll_action() {
                std::hint::black_box(action);
            }
        }
        let read = now_ns();
        self.node.handle_timeout(self.now);
        let mut acquired = Vec::new();
        while let Some(action) = self.node.poll_action() {
            if let Action::Acquire { resource, attempt } = action {
                acquired.push((resource, attempt));
            }
        }
        let end = now_ns();
        for (resource, attempt) in acquired {
            self.node.handle(Event::Acquired { resource, attempt, result: Ok(()) }, self.now);
        }
        while self.node.poll_action().is_some() {}
        self.reading_ns += read - start;
        self.round_ns += end - read;
    }

    fn held(&self) -> usize {
        self.node.outgoing().claims.iter().filter(|claim| claim.held()).count()
    }
}

fn id(raw: u8) -> NodeId {
    // Below MAX_NODES by construction.
    NodeId::new(raw).unwrap_or(NodeId::FIRST)
}

/// A peer that holds the groups that it comes first in.
fn slot(peer: u8, config: &Config, now: Instant) -> Reading {
    let mut slot = Reading::silent(id(peer), now);
    slot.heard = true;
    slot.links[0].first_seq = 1;
    let beat = &mut slot.beat;
    (beat.incarnation, beat.state, beat.deadtime_us) = (7, NodeState::Up, 50_000);
    (beat.votes_version, beat.has_claims) = (1, true);
    beat.view = Some(agent_common::NodeSet::EMPTY);
    beat.acked.insert(id(0));
    for (row, group) in beat.claims.iter_mut().zip(&config.groups) {
        if group.prefer.first() == Some(&id(peer)) {
            *row = Claim { epoch: 256 + u64::from(peer), candidate: peer, flags: Claim::HELD };
        }
    }
    slot
}

fn config(nodes: u8) -> Result<Config> {
    let first = |group: usize| (group % usize::from(nodes)) as u8;
    let prefer = |group| (0..nodes).map(|place| id((first(group) + place) % nodes)).collect();
    Ok(Config {
        me: id(0),
        name: Name::NONE,
        incarnation: 100,
        wall_ms_at_zero: 1_700_000_000_000,
        seed: 1,
        timing: Timing {
            keepalive: KEEPALIVE,
            deadtime: Duration::from_millis(50),
            warntime: Duration::from_millis(25),
            initdead: Duration::from_secs(2),
        },
        nodes: vec![NodeConfig::default(); usize::from(nodes)],
        links: vec![LinkConfig { id: LinkId::new(0).context("link 0")?, keepalive: KEEPALIVE }],
        quorum: Quorum { policy: Policy::Majority, number: 0, change: None },
        groups: (0..GROUPS)
            .map(|group| GroupConfig { prefer: prefer(group), auto_failback: false, resources: 1 })
            .collect(),
        reach_dampening: Duration::from_secs(5),
        start: Start::Fresh,
        gate: GateKind::Kernel,
        mutated: Mutated::default(),
    })
}

fn print(report: &Report) {
    println!("{}", report.machine.line());
    let Report { runs, rounds, groups, .. } = report;
    println!("{runs} samples of {rounds} rounds, {groups} groups, nanoseconds a heartbeat\n");
    println!(
        "{:>5} {:>5} {:>8} {:>8} {:>8} {:>14} {:>8}",
        "nodes", "held", "minimum", "median", "maximum", "of that round", "goal"
    );
    for row in &report.rows {
        let is_goal = row.nodes == GOAL_NODES;
        let goal = if is_goal { format!("<= {GOAL_NS}") } else { String::new() };
        let missed = if is_goal && row.median_ns > GOAL_NS { "  missed" } else { "" };
        println!(
            "{:>5} {:>5} {:>8} {:>8} {:>8} {:>14} {goal:>8}{missed}",
            row.nodes, row.held, row.minimum_ns, row.median_ns, row.maximum_ns, row.of_that_round_ns
        );
    }
}
