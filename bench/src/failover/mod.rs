//! Failover over veth pairs, stage by stage: the holder's processes get SIGKILL and its link is cut at once, again and again.
//! xbeat, xbeat with a witness and keepalived stand in the same kind of network, with the same client, capture and fault, in
//! the same run.

pub mod cost;
pub mod keepalived;
pub mod report;
pub mod xbeat;

use std::time::Duration;

use serde::Serialize;

/// One setting of one cluster software.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// `xbeat`, `xbeat with a witness`, `keepalived`.
    pub subject: &'static str,
    /// Between two heartbeats.
    pub keepalive_ms: f64,
    /// Silence after which its peer counts as dead, as configured.
    pub deadtime_ms: f64,
    /// What shuts the addresses of xbeat's nodes, as `status` says: `kernel` or `userspace`.
    pub gate: Option<String>,
    /// The failovers that took place.
    pub runs: Vec<Run>,
    /// Why others did not.
    pub failures: Vec<String>,
}

/// One failover; times in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// The verdict behind the deadtime, which counts from the last heartbeat's arrival at the survivor.
    pub overshoot_ms: f64,
    /// From the verdict to the first announcement on the wire.
    pub announce_ms: f64,
    /// Between the sending of the client's last answered and first answered probe.
    pub gap_ms: f64,
    /// The worst delay of the client itself: what the machine took.
    pub client_late_ms: f64,
}

impl Series {
    fn new(subject: &'static str, keepalive: Duration, deadtime: Duration) -> Self {
        let (keepalive_ms, deadtime_ms) = (milliseconds(keepalive), milliseconds(deadtime));
        Self { subject, keepalive_ms, deadtime_ms, gate: None, runs: Vec::new(), failures: Vec::new() }
    }
}

/// Where in the interval the fault of a run falls, the same in every series: the middle of one of `runs` equal parts.
fn phase(number: usize, runs: usize) -> f64 {
    (number as f64 + 0.5) / runs as f64
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
