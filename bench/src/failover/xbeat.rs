//! The series of xbeat: a cluster of two agents whose holder fails again and again.

use std::time::Duration;

use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::config::Spec;
use agent_tests::lab::failover::{Kill, fail_over, mend, sleep_to_phase};
use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result};

use super::{Run, Series};

/// More than any takeover may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Between the cluster being whole and the next fault.
const SETTLE: Duration = Duration::from_millis(600);
/// Above ordinary work, below everything measured: the fault must come at once.
const PRIORITY: i32 = 40;

/// The cluster that is measured.
pub fn spec(keepalive: Duration, deadtime: Duration) -> Spec {
    Spec {
        cluster: "bench".to_owned(),
        keepalive,
        deadtime,
        initdead: Duration::from_secs(1),
        ..Spec::default()
    }
}

/// Runs `runs` failovers.
///
/// # Errors
/// The cluster did not come up, or the user interrupted. A failover that fails is counted, not an error.
pub fn series(keepalive: Duration, deadtime: Duration, runs: usize) -> Result<Series> {
    let mut series = Series::new("xbeat", keepalive, deadtime);
    let mut cluster = Cluster::new(spec(keepalive, deadtime))?;
    let mut holder = cluster.start().inspect_err(|_| cluster.print_logs())?;
    for number in 0..runs {
        match run(&cluster, holder, super::phase(number, runs)) {
            Ok(run) => series.runs.push(run),
            Err(error) => series.failures.push(format!("run {number}: {error:#}")),
        }
        clock::check_interrupt()?;
        mend(&mut cluster, holder, Kill::Both)?;
        holder = cluster.wait_whole().inspect_err(|_| cluster.print_logs())?;
        eprint!("\r  xbeat {number:3}/{runs} ");
    }
    eprintln!("\r  xbeat {runs}/{runs} done");
    Ok(series)
}

fn run(cluster: &Cluster, holder: usize, phase: f64) -> Result<Run> {
    let deadtime = cluster.spec().deadtime;
    let survivor = cluster.other(holder);
    let events = cluster.events(survivor)?;
    cluster.capture(survivor)?.clear();
    clock::pause(SETTLE)?;
    cluster.client().forget_lateness();
    let stages = realtime::with_fifo(PRIORITY, || {
        let seen = cluster.capture(survivor)?.last_heartbeat_ns(u8::try_from(holder)?, clock::now_ns());
        sleep_to_phase(seen.context("no heartbeat was captured")?, cluster.spec().keepalive, phase);
        fail_over(cluster, holder, survivor, Kill::Both, &events, LIMIT).context("no failover")
    })?;
    Ok(Run {
        overshoot_ms: stages.overshoot_ms(deadtime),
        announce_ms: stages.verdict_to_announcement_ms(),
        gap_ms: stages.gap.ms(),
        client_late_ms: cluster.client().late_max_ms(),
    })
}
