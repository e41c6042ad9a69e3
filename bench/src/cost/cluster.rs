//! Clusters of xbeat of any size, measured in the steady state. One node may be a listener: it sends so seldom that what it takes
//! is what hearing the others costs.

use std::fs;
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::config::{Cast, LinkSpec, Policy, Spec};
use agent_tests::lab::metrics::Metrics;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::meter::{Node, Span, measure};
use super::programs::Loaded;
use super::reference::Loop;

/// How long is measured, and how long the programs are counted after.
const SPAN: Duration = Duration::from_secs(8);
const COUNTED: Duration = Duration::from_secs(2);
/// From the cluster being whole to the steady state.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a cluster may take to come up.
const WHOLE: Duration = Duration::from_secs(30);
/// A listener's keepalive, and how many of them are its deadtime.
const SELDOM: Duration = Duration::from_millis(200);
const COUNT: u32 = 5;

/// What it is called.
pub const NAME: &str = "bench";

/// A cluster to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// How many nodes.
    pub nodes: usize,
    /// How heartbeats travel.
    pub cast: Cast,
    /// Between two of them.
    pub keepalive: Duration,
    /// What else is there.
    pub with: With,
}

/// What is measured beside the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum With {
    /// Nothing.
    Nodes,
    /// The last node only listens.
    Listener,
    /// A bare loop sends as often as a node.
    Loop,
}

/// What was measured of a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// How many nodes.
    pub nodes: usize,
    /// Milliseconds between heartbeats.
    pub keepalive_ms: f64,
    /// All of them.
    pub span: Span,
    /// Heartbeats handed to the kernel, by node.
    pub sent: Vec<f64>,
    /// Heartbeats that counted, by node.
    pub received: Vec<f64>,
    /// News and socket wake-ups of all nodes: heartbeats that userspace was woken for.
    pub receive_wakeups: f64,
    /// The XDP program on one heartbeat, nanoseconds.
    pub program_ns: f64,
    /// The loop's processor time for one frame, nanoseconds; NaN without one.
    pub loop_ns: f64,
}

impl Sample {
    /// Of all nodes.
    pub fn run_ns(&self) -> f64 {
        self.span.nodes.iter().map(|node| node.run_ns).sum()
    }

    /// Of all nodes.
    pub fn all_sent(&self) -> f64 {
        self.sent.iter().sum()
    }

    /// Of all nodes.
    pub fn all_received(&self) -> f64 {
        self.received.iter().sum()
    }

    /// What hearing one heartbeat took the last node, in userspace and its system calls, nanoseconds.
    pub fn listener_ns(&self) -> f64 {
        let last = self.span.nodes.last().map_or(f64::NAN, |node| node.run_ns);
        last / self.received.last().copied().unwrap_or(f64::NAN)
    }
}

/// Starts the cluster, waits for the steady state and measures it.
///
/// # Errors
/// It did not come up, or an agent ended.
pub fn sample(shape: Shape) -> Result<Sample> {
    let programs = Loaded::before();
    let mut cluster = Cluster::new(spec(shape))?;
    if shape.with == With::Listener {
        let last = shape.nodes - 1;
        slow_down(&cluster, last, shape.keepalive)?;
    }
    start(&mut cluster, shape)?;
    cluster.stop_watching();
    clock::pause(SETTLE)?;
    let (before, bare) = (scrape(&cluster)?, start_loop(&cluster, shape)?);
    let nodes = (0..shape.nodes)
        .map(|node| Ok(Node { pids: vec![cluster.agent(node)?.pid()?], host: cluster.host(node)? }))
        .collect::<Result<Vec<_>>>()?;
    let span = measure(&nodes, SPAN)?;
    let loop_ns = bare.map_or(f64::NAN, Loop::finish);
    let after = scrape(&cluster)?;
    let program_ns = programs.runs(COUNTED)?.mean_ns();
    let moved = |name: &str| -> Vec<f64> {
        before.iter().zip(&after).map(|(from, to)| to.sum(name, &[]) - from.sum(name, &[])).collect()
    };
    let sample = Sample {
        nodes: shape.nodes,
        keepalive_ms: shape.keepalive.as_secs_f64() * 1e3,
        span,
        sent: moved("xbeat_heartbeats_sent_total"),
        received: moved("xbeat_heartbeats_received_total"),
        receive_wakeups: moved("xbeat_receive_wakeups_total").iter().sum(),
        program_ns,
        loop_ns,
    };
    ensure!(sample.received.iter().all(|count| *count > 0.0), "a node of {shape:?} heard nothing");
    Ok(sample)
}

fn spec(shape: Shape) -> Spec {
    Spec {
        cluster: NAME.to_owned(),
        nodes: shape.nodes,
        keepalive: shape.keepalive,
        deadtime: shape.keepalive * COUNT,
        initdead: (SELDOM * COUNT).max(shape.keepalive * COUNT * 2),
        links: vec![LinkSpec { cast: shape.cast, ..LinkSpec::default() }],
        policy: if shape.nodes == 2 { Policy::TwoNodeAlways } else { Policy::Majority },
        watched: false,
        ..Spec::default()
    }
}

/// As [`Cluster::start`]. A listener is heard so seldom that the others call it late in between.
fn start(cluster: &mut Cluster, shape: Shape) -> Result<()> {
    match shape.with {
        With::Nodes | With::Loop => return cluster.start().map(drop),
        With::Listener => {}
    }
    for node in 0..shape.nodes {
        cluster.start_agent(node)?;
    }
    clock::wait_for("all nodes to hear each other", WHOLE, || {
        for node in 0..shape.nodes {
            // One that has just started does not answer yet.
            let Ok(status) = cluster.agent(node)?.status() else { return Ok(None) };
            let nodes = status.get("nodes").and_then(Value::as_array).context("status lists no nodes")?;
            let is_heard =
                |node: &Value| matches!(node.get("state").and_then(Value::as_str), Some("up" | "late"));
            if !nodes.iter().all(is_heard) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// Each node says how often it sends and for how long it may be silent: they need not agree.
fn slow_down(cluster: &Cluster, node: usize, keepalive: Duration) -> Result<()> {
    let path = cluster.agent(node)?.config_path();
    let mut text = fs::read_to_string(&path).context("cannot read the configuration")?;
    let was = [keepalive, keepalive * COUNT, keepalive * COUNT / 2];
    let is = [SELDOM, SELDOM * COUNT, SELDOM * COUNT / 2];
    for ((key, was), is) in ["keepalive", "deadtime", "warntime"].into_iter().zip(was).zip(is) {
        let line = |time: Duration| format!("\n{key} = \"{}us\"\n", time.as_micros());
        ensure!(text.contains(&line(was)), "no {key} in the configuration");
        text = text.replacen(&line(was), &line(is), 1);
    }
    fs::write(&path, text).context("cannot write the configuration")
}

fn scrape(cluster: &Cluster) -> Result<Vec<Metrics>> {
    (0..cluster.spec().nodes).map(|node| cluster.metrics(node)).collect()
}

fn start_loop(cluster: &Cluster, shape: Shape) -> Result<Option<Loop>> {
    match shape.with {
        With::Nodes | With::Listener => Ok(None),
        // From the host beside the nodes to the first one.
        With::Loop => Loop::start(cluster.host(shape.nodes)?, shape.keepalive).map(Some),
    }
}
