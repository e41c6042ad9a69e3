//! The series of xbeat: a cluster whose holder fails again and again: of two nodes of which silence decides, or of the same two
//! with a witness, where whoever takes over has asked for the witness's vote first.

use std::time::Duration;

use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::config::{Policy, Spec};
use agent_tests::lab::failover::{Kill, fail_over, mend, sleep_to_phase};
use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Run, Series};

/// More than any takeover may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Between the cluster being whole and the next fault.
const SETTLE: Duration = Duration::from_millis(600);
/// Above ordinary work, below everything measured: the fault must come at once.
const PRIORITY: i32 = 40;

/// Who decides that the service moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Votes {
    /// Two nodes, `tie_break = "always"`: the survivor alone.
    Alone,
    /// Two nodes and a witness, a majority of votes.
    Witness,
}

impl Votes {
    /// The series, by name.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Alone => "xbeat",
            Self::Witness => "xbeat with a witness",
        }
    }
}

/// The cluster that is measured.
pub fn spec(votes: Votes, keepalive: Duration, deadtime: Duration) -> Spec {
    let (nodes, witnesses, policy) = match votes {
        Votes::Alone => (2, 0, Policy::TwoNodeAlways),
        Votes::Witness => (3, 1, Policy::Majority),
    };
    Spec {
        cluster: "bench".to_owned(),
        nodes,
        witnesses,
        policy,
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
pub fn series(votes: Votes, keepalive: Duration, deadtime: Duration, runs: usize) -> Result<Series> {
    let mut series = Series::new(votes.subject(), keepalive, deadtime);
    let mut cluster = Cluster::new(spec(votes, keepalive, deadtime))?;
    let mut holder = cluster.start().inspect_err(|_| cluster.print_logs())?;
    series.gate = cluster.agent(holder)?.status()?.get("gate").and_then(Value::as_str).map(str::to_owned);
    for number in 0..runs {
        match run(&cluster, holder, super::phase(number, runs)) {
            Ok(run) => series.runs.push(run),
            Err(error) => series.failures.push(format!("run {number}: {error:#}")),
        }
        clock::check_interrupt()?;
        mend(&mut cluster, holder, Kill::Both)?;
        holder = cluster.wait_whole().inspect_err(|_| cluster.print_logs())?;
        eprint!("\r  {} {number:3}/{runs} ", votes.subject());
    }
    eprintln!("\r  {} {runs}/{runs} done", votes.subject());
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
