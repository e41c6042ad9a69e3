//! The tables of `bench failover`: each measure with its goal and whether it was met, and the same as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::cost::Cost;
use super::xbeat::Votes;
use super::{Run, Series};
use crate::machine::Machine;
use crate::statistics::Summary;

/// Most that the median may rise when a vote must be asked for: one round trip.
const WITNESS_MS: f64 = 2.0;

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
        for one in series.iter().filter(|one| one.subject == Votes::Alone.subject()) {
            goals.extend(goals_of(one, peer));
            goals.extend(
                series.iter().filter(|more| more.is_witnessed(one)).flat_map(|more| extra(one, more)),
            );
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
        text += "The nodes share this kernel: a dead agent's XDP program stays attached until all is measured, since to\n\
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

impl Series {
    fn median(&self, of: fn(&Run) -> f64) -> f64 {
        Summary::of(self.runs.iter().map(of)).median
    }

    /// Whether it is `other` with a witness.
    fn is_witnessed(&self, other: &Self) -> bool {
        let near = |one: f64, other: f64| (one - other).abs() < 1e-6;
        self.subject == Votes::Witness.subject()
            && near(self.keepalive_ms, other.keepalive_ms)
            && near(self.deadtime_ms, other.deadtime_ms)
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
    let goal = |what: &str, of: fn(&Run) -> f64, bound: f64| {
        Goal::new(&format!("{what}, median, {setting}"), series.median(of), bound, "ms")
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
            goal("the client's gap, not above keepalived's", |run| run.gap_ms, peer.median(|run| run.gap_ms))
        }));
        return goals;
    }
    if is_setting(2.0, 10.0) { vec![goal(gap, |run| run.gap_ms, 11.0)] } else { Vec::new() }
}

/// What a vote more may cost.
fn extra(without: &Series, with: &Series) -> [Goal; 2] {
    let goal = |what: &str, of: fn(&Run) -> f64| {
        let more = with.median(of) - without.median(of);
        let setting = format!("{}/{}", with.keepalive_ms, with.deadtime_ms);
        Goal::new(&format!("{what}, more with a witness, at {setting}"), more, WITNESS_MS, "ms")
    };
    [goal("verdict to first announcement", |run| run.announce_ms), goal("the client's gap", |run| run.gap_ms)]
}

/// A line of a table: its title and the measure.
type Row = (&'static str, fn(&Run) -> f64);

fn table(series: &Series) -> String {
    let mut text = format!(
        "\n{} {}/{:.1} ms, {} failovers{}\n{:<34} {:>9} {:>9} {:>9}\n",
        series.subject,
        series.keepalive_ms,
        series.deadtime_ms,
        series.runs.len(),
        series.gate.as_ref().map_or_else(String::new, |gate| format!(", gate: {gate}")),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Report, Votes};
    use crate::failover::{Run, Series};
    use crate::machine::Machine;

    fn series(votes: Votes, gap_ms: f64) -> Series {
        let mut series = Series::new(votes.subject(), Duration::from_millis(10), Duration::from_millis(30));
        series.runs =
            vec![Run { overshoot_ms: 0.1, announce_ms: gap_ms / 50.0, gap_ms, client_late_ms: 0.0 }];
        series
    }

    #[test]
    fn a_witness_that_costs_too_much_misses_its_goal() {
        for (gap_ms, expected) in [(26.9, true), (27.1, false)] {
            let both = vec![series(Votes::Alone, 25.0), series(Votes::Witness, gap_ms)];
            let report = Report::new(Machine::here(), None, both, Vec::new());
            let of_witness =
                report.goals.iter().filter(|goal| goal.what.contains("witness")).collect::<Vec<_>>();
            assert_eq!(of_witness.len(), 2, "announcement and gap");
            assert!(of_witness[0].is_met);
            assert_eq!(of_witness[1].is_met, expected, "gap {gap_ms}");
            assert!(report.text().contains("more with a witness"));
        }
    }
}
