//! How late an agent's realtime thread was in one phase, from its histogram and its worst so far. The histogram is of its whole
//! life, so what a phase added is known by bucket, and exactly where it was worse than all before.

use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::metrics::Metrics;
use anyhow::{Context as _, Result};
use serde_json::Value;

const BUCKET: &str = "xbeat_wakeup_lateness_seconds_bucket{";

/// Up to some moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Lateness {
    /// Upper bound in milliseconds, and how many wake-ups were no later.
    buckets: Vec<(f64, f64)>,
    worst_ms: f64,
}

impl Lateness {
    /// Asks the agent of `node`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(cluster: &Cluster, node: usize) -> Result<Self> {
        let buckets = buckets(&cluster.metrics(node)?);
        let status = cluster.agent(node)?.status()?;
        let worst_us = status.get("realtime").and_then(|own| own.get("lateness_max_us"));
        let worst_us = worst_us.and_then(Value::as_f64).context("status tells no lateness")?;
        Ok(Self { buckets, worst_ms: worst_us / 1e3 })
    }

    /// The worst since `before`, in milliseconds, rounded up to a bucket where it had been worse before that. NaN when there
    /// was no wake-up at all.
    pub fn worst_since_ms(&self, before: &Self) -> f64 {
        if self.worst_ms > before.worst_ms {
            return self.worst_ms;
        }
        let mut so_far = 0.0;
        let mut worst = f64::NAN;
        for ((bound_ms, now), (_, then)) in self.buckets.iter().zip(&before.buckets) {
            let added = now - then;
            if added > so_far {
                worst = *bound_ms;
            }
            so_far = added;
        }
        if worst.is_nan() { worst } else { worst.min(self.worst_ms) }
    }
}

fn buckets(metrics: &Metrics) -> Vec<(f64, f64)> {
    let lines = metrics.text().lines().filter_map(|line| line.strip_prefix(BUCKET));
    let read = |line: &str| {
        let (labels, count) = line.rsplit_once(' ')?;
        let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
        let bound = bound.trim_start_matches('+').parse::<f64>().ok()?;
        Some((bound * 1e3, count.parse().ok()?))
    };
    lines.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::Lateness;

    #[test]
    fn a_phase_is_told_from_what_was_before() {
        let at = |counts: [f64; 3], worst_ms| Lateness {
            buckets: [1.0, 10.0, f64::INFINITY].into_iter().zip(counts).collect(),
            worst_ms,
        };
        let before = at([5.0, 6.0, 7.0], 50.0);
        assert!((at([9.0, 10.0, 11.0], 50.0).worst_since_ms(&before) - 1.0).abs() < 1e-9);
        assert!((at([9.0, 11.0, 12.0], 50.0).worst_since_ms(&before) - 10.0).abs() < 1e-9);
        assert!((at([9.0, 11.0, 13.0], 50.0).worst_since_ms(&before) - 50.0).abs() < 1e-9);
        assert!((at([9.0, 11.0, 13.0], 61.5).worst_since_ms(&before) - 61.5).abs() < 1e-9);
        assert!(before.worst_since_ms(&before).is_nan());
    }
}
