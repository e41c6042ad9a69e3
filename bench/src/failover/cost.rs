//! What a node costs in the steady state: processor time of all threads of its processes and their resident memory.
//! Client and captures are silent meanwhile. On veth pairs a sender pays for the whole way to the peer's XDP program.

use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::process::{resident_kib, run_time_ns};
use anyhow::Result;
use serde::Serialize;

use super::xbeat::{Votes, spec};

/// How long is measured.
const SPAN: Duration = Duration::from_secs(20);

/// Of one node.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// `xbeat`, `keepalived`.
    pub subject: &'static str,
    /// `holder`, `other`.
    pub role: &'static str,
    /// Part of one core, percent.
    pub cpu_percent: f64,
    /// Resident memory, MiB.
    pub resident_mib: f64,
}

/// Measures the agents of a cluster.
///
/// # Errors
/// The cluster did not come up, or an agent ended.
pub fn of_xbeat(keepalive: Duration, deadtime: Duration) -> Result<Vec<Cost>> {
    let mut cluster = Cluster::new(spec(Votes::Alone, keepalive, deadtime))?;
    let holder = cluster.start()?;
    let pids = [cluster.agent(holder)?.pid()?, cluster.agent(cluster.other(holder))?.pid()?];
    cluster.stop_watching();
    measure("xbeat", [&[pids[0]], &[pids[1]]])
}

/// Measures the processes of holder and other.
///
/// # Errors
/// A process ended.
pub(super) fn measure(subject: &'static str, processes: [&[u32]; 2]) -> Result<Vec<Cost>> {
    let used_ns = |pids: &[u32]| pids.iter().map(|pid| run_time_ns(*pid)).sum::<Result<u64>>();
    clock::pause(Duration::from_secs(1))?;
    let before = [used_ns(processes[0])?, used_ns(processes[1])?];
    let from_ns = clock::now_ns();
    clock::pause(SPAN)?;
    let span_ns = clock::now_ns() - from_ns;
    let after = [used_ns(processes[0])?, used_ns(processes[1])?];
    let mut costs = Vec::new();
    for (place, role) in ["holder", "other"].into_iter().enumerate() {
        let kib = processes[place].iter().map(|pid| resident_kib(*pid)).sum::<Result<u64>>()?;
        costs.push(Cost {
            subject,
            role,
            cpu_percent: (after[place] - before[place]) as f64 / span_ns as f64 * 100.0,
            resident_mib: kib as f64 / 1024.0,
        });
    }
    Ok(costs)
}
