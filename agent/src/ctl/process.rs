//! The process as `status --json` shows it: how to tell a restart's old process from its new one, and how it went.

use std::sync::atomic::Ordering;

use agent_core::Instant;
use serde::{Deserialize, Serialize};

use crate::bridge::{self, Begun};
use crate::stats::Stats;

/// The process, and how it came to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its id; a restart keeps it.
    pub pid: u32,
    /// CLOCK_MONOTONIC of its start: a restart gives another.
    pub started_ns: u64,
    /// How often a process has gone on with the state of the one before, since the last start without.
    pub restarts: u64,
    /// `fresh` or `carried`: whether its life began with the state of the process before.
    pub begun: String,
    /// Why what was handed over was not taken, `null` when nothing was, or it was.
    pub reason: Option<String>,
    /// From the last heartbeat of the process before to the first of this one, `null` without one before.
    pub pause_us: Option<u64>,
    /// Restarts that were given up.
    pub failures: u64,
    /// Why the last one was.
    pub failure: Option<String>,
}

impl Process {
    /// Of this process.
    pub fn of(process: &bridge::Process, stats: &Stats) -> Self {
        let (begun, reason, paused_at) = match &process.begun {
            Begun::Fresh { why } => ("fresh", why.clone(), None),
            Begun::Carried { paused_at } => ("carried", None, Some(*paused_at)),
        };
        let began_at = Instant(stats.began_ns.load(Ordering::Relaxed));
        let pause = paused_at.map(|paused_at| began_at.since(paused_at).as_micros());
        Self {
            pid: std::process::id(),
            started_ns: process.started_at.0,
            restarts: process.restarts,
            begun: begun.to_owned(),
            reason,
            pause_us: pause.map(|pause| u64::try_from(pause).unwrap_or(u64::MAX)),
            failures: process.failures,
            failure: process.failure.clone(),
        }
    }
}
