//! What one agent costs in the steady state: processor time of all its threads and resident memory.

use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::process::{resident_kib, run_time_ns};
use anyhow::Result;
use serde::Serialize;

/// How long is measured.
const SPAN: Duration = Duration::from_secs(20);

/// Of one process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Part of one core, percent.
    pub cpu_percent: f64,
    /// Resident memory, MiB.
    pub resident_mib: f64,
}

/// Measures the agents of a running cluster: holder, other.
///
/// # Errors
/// The cluster did not come up, or an agent ended.
pub fn measure(keepalive: Duration, deadtime: Duration) -> Result<[Cost; 2]> {
    let mut cluster = Cluster::new(super::xbeat::spec(keepalive, deadtime))?;
    let holder = cluster.start()?;
    let pids = [cluster.agent(holder)?.pid()?, cluster.agent(cluster.other(holder))?.pid()?];
    clock::pause(Duration::from_secs(1))?;
    let before = [run_time_ns(pids[0])?, run_time_ns(pids[1])?];
    let from_ns = clock::now_ns();
    clock::pause(SPAN)?;
    let span_ns = clock::now_ns() - from_ns;
    let cost = |pid: u32, before: u64| -> Result<Cost> {
        let used_ns = run_time_ns(pid)?.saturating_sub(before);
        Ok(Cost {
            cpu_percent: used_ns as f64 / span_ns as f64 * 100.0,
            resident_mib: resident_kib(pid)? as f64 / 1024.0,
        })
    };
    Ok([cost(pids[0], before[0])?, cost(pids[1], before[1])?])
}
