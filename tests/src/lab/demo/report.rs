//! What the demonstration found, as values and as JSON. The JSON is an interface: `cargo xtask demo --json` prints it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use super::Options;
use crate::lab::client::Gap;
use crate::lab::clock::ms_between;
use crate::lab::cluster::Cluster;
use crate::lab::failover::Stages;

/// By node, by interface: how heartbeats are received.
pub(super) type Modes = BTreeMap<String, BTreeMap<String, String>>;

/// A takeover that happened.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who served before the fault.
    pub holder_before: &'static str,
    /// Who took over.
    pub holder_after: &'static str,
    /// Who serves since the cluster healed.
    pub holder_healed: &'static str,
    pub(super) modes: Modes,
    /// What was asked for.
    pub options: Options,
    /// What happened when.
    pub stages: Stages,
    /// The client's longest gap while the cluster healed.
    pub healed_gap: Option<Gap>,
}

#[derive(Serialize)]
struct Json<'a> {
    holder_before: &'a str,
    holder_after: &'a str,
    holder_healed: &'a str,
    keepalive_ms: f64,
    deadtime_ms: f64,
    kill: &'a str,
    unprivileged: bool,
    modes: &'a Modes,
    /// From the last heartbeat on.
    stages_ms: JsonStages,
    overshoot_ms: f64,
    gap_ms: f64,
    healed: bool,
    healed_gap_ms: Option<f64>,
}

/// Each from the stage before it.
#[derive(Serialize)]
struct JsonStages {
    last_heartbeat_to_dead: f64,
    dead_to_address: f64,
    address_to_announced: f64,
    announced_to_answer: f64,
    total: f64,
}

impl Report {
    /// One JSON object.
    ///
    /// # Errors
    /// None is known: all fields are plain.
    pub fn to_json(&self) -> Result<String> {
        let stages = &self.stages;
        let json = Json {
            holder_before: self.holder_before,
            holder_after: self.holder_after,
            holder_healed: self.holder_healed,
            keepalive_ms: round(self.options.keepalive.as_secs_f64() * 1e3),
            deadtime_ms: round(self.options.deadtime.as_secs_f64() * 1e3),
            kill: self.options.kill.label(),
            unprivileged: self.options.unprivileged,
            modes: &self.modes,
            stages_ms: JsonStages {
                last_heartbeat_to_dead: round(ms_between(stages.last_heartbeat_ns, stages.dead_ns)),
                dead_to_address: round(ms_between(stages.dead_ns, stages.added_ns)),
                address_to_announced: round(ms_between(stages.added_ns, stages.announced_ns)),
                announced_to_answer: round(ms_between(stages.announced_ns, stages.gap.first.answered_ns)),
                total: round(ms_between(stages.last_heartbeat_ns, stages.gap.first.answered_ns)),
            },
            overshoot_ms: round(stages.overshoot_ms(self.options.deadtime)),
            gap_ms: round(stages.gap.ms()),
            // A report exists only when the cluster became whole again.
            healed: true,
            healed_gap_ms: self.healed_gap.map(|gap| round(gap.ms())),
        };
        serde_json::to_string(&json).context("cannot write JSON")
    }
}

fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

/// How each agent says it receives.
pub(super) fn modes(cluster: &Cluster) -> Result<Modes> {
    let mut modes = Modes::new();
    for node in 0..cluster.spec().nodes {
        let status = cluster.agent(node)?.status()?;
        let interfaces =
            status.get("xdp").and_then(Value::as_object).context("status lists no interfaces")?;
        let by_interface = interfaces
            .iter()
            .map(|(interface, mode)| (interface.clone(), mode.as_str().unwrap_or("unknown").to_owned()));
        modes.insert(cluster.name(node).to_owned(), by_interface.collect());
    }
    Ok(modes)
}
