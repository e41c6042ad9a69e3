//! The tables of `bench failover`: each measure with its goal and whether it was met, and the same as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::cost::Cost;
use super::statistics::Summary;
use super::{Run, Series};
use crate::machine::Machine;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Version of keepalived, if it took part.
    pub keepalived: Option<String>,
    /// In order of measuring.
    pub series: Vec<Series>,
    /// Of each node, if it was measured.
    pub cost: Vec<Cost>,
    /// Every goal.
    pub goals: Vec<Goal>,
}

/// A goal and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// What is bounded.
    pub what: String,
    /// What was measured.
    pub measured: f64,
    /// The bound.
    pub bound: f64,
    /// ms, %, MiB.
    pub unit: &'static str,
    /// Whether it was kept.
    pub is_met: bool,
}

impl Report {
    /// Judges what was measured.
    pub fn new(machine: Machine, keepalived: Option<String>, series: Vec<Series>, cost: Vec<Cost>) -> Self {
        let mut goals = Vec::new();
        let peer = series.iter().find(|one| one.subject == "keepalived");
        for one in series.iter().filter(|one| one.subject == "xbeat") {
            goals.extend(goals_of(one, peer));
        }
        let ours = cost.iter().filter(|cost| cost.subject == "xbeat").collect::<Vec<_>>();
        if !ours.is_empty() {
            let worst = |of: fn(&Cost) -> f64| ours.iter().map(|cost| of(cost)).fold(0.0, f64::max);
            goals.push(Goal::new(
                "CPU of an agent at 100 heartbeats/s",
                worst(|cost| cost.cpu_percent),
                0.5,
                "%",
            ));
            goals.push(Goal::new("its resident memory", worst(|cost| cost.resident_mib), 20.0, "MiB"));
        }
        Self { machine, keepalived, series, cost, goals }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("failover by kill -9 and a cut link, {}\n", self.machine.line());
        if let Some(version) = &self.keepalived {
            let _ = writeln!(text, "keepalived {version}, realtime priority 50");
        }
        text += "Both nodes share this kernel: a dead agent's XDP program stays attached until all is measured, since to\n\
                 detach it holds a kernel-wide lock (RTNL) that on two machines only the dead one would hold.\n";
        for one in &self.series {
            text += &table(one);
        }
        text.push('\n');
        for cost in &self.cost {
            let _ = writeln!(
                text,
                "{} ({}) at 100 heartbeats/s: {:.2} % of a core, {:.1} MiB resident",
                cost.subject, cost.role, cost.cpu_percent, cost.resident_mib
            );
        }
        let _ = writeln!(text, "\n{:<62} {:>9} {:>9}", "goal", "measured", "at most");
        for goal in &self.goals {
            let verdict = if goal.is_met { "met" } else { "MISSED" };
            let _ = writeln!(
                text,
                "{:<62} {:>9.2} {:>9.2} {:<4} {verdict}",
                goal.what, goal.measured, goal.bound, goal.unit
            );
        }
        text
    }
}

impl Goal {
    fn new(what: &str, measured: f64, bound: f64, unit: &'static str) -> Self {
        // NaN, for nothing measured, is not met.
        Self { what: what.to_owned(), measured, bound, unit, is_met: measured <= bound }
    }
}

fn goals_of(series: &Series, peer: Option<&Series>) -> Vec<Goal> {
    let setting = format!("at {}/{} ms", series.keepalive_ms, series.deadtime_ms);
    let median = |series: &Series, of: fn(&Run) -> f64| Summary::of(series.runs.iter().map(of)).median;
    let goal = |what: &str, of: fn(&Run) -> f64, bound: f64| {
        Goal::new(&format!("{what}, median, {setting}"), median(series, of), bound, "ms")
    };
    let is_setting = |keepalive: f64, deadtime: f64| {
        (series.keepalive_ms - keepalive).abs() < 1e-6 && (series.deadtime_ms - deadtime).abs() < 1e-6
    };
    let gap = "the client's gap";
    if is_setting(10.0, 30.0) {
        let mut goals = vec![
            goal("verdict behind the deadtime", |run| run.overshoot_ms, 0.3),
            goal("verdict to first announcement", |run| run.announce_ms, 1.0),
            goal(gap, |run| run.gap_ms, 28.0),
        ];
        goals.extend(peer.map(|peer| {
            goal("the client's gap, not above keepalived's", |run| run.gap_ms, median(peer, |run| run.gap_ms))
        }));
        return goals;
    }
    if is_setting(2.0, 10.0) { vec![goal(gap, |run| run.gap_ms, 11.0)] } else { Vec::new() }
}

/// A line of a table: its title and the measure.
type Row = (&'static str, fn(&Run) -> f64);

fn table(series: &Series) -> String {
    let mut text = format!(
        "\n{} {}/{:.1} ms, {} failovers\n{:<34} {:>9} {:>9} {:>9}\n",
        series.subject,
        series.keepalive_ms,
        series.deadtime_ms,
        series.runs.len(),
        "ms",
        "median",
        "p99",
        "max"
    );
    let rows: [Row; 4] = [
        ("verdict behind the deadtime", |run| run.overshoot_ms),
        ("verdict to first announcement", |run| run.announce_ms),
        ("the client's gap", |run| run.gap_ms),
        ("the client's own lateness", |run| run.client_late_ms),
    ];
    for (what, of) in rows {
        let summary = Summary::of(series.runs.iter().map(of));
        let _ =
            writeln!(text, "{what:<34} {:>9.2} {:>9.2} {:>9.2}", summary.median, summary.p99, summary.max);
    }
    for failure in &series.failures {
        let _ = writeln!(text, "FAILED {failure}");
    }
    text
}
