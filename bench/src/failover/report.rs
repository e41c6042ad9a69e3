//! The report of `bench failover`: a table for each fault, the stages of one setting, the plots, and each goal with what was
//! measured.

use super::{Fault, Run, Series, Subject, plots};
use crate::peers::Name;
use crate::report::{Cell, Goal, Report, Table};
use crate::statistics::Summary;

/// Most that the median may rise when a vote must be asked for: one round trip.
const WITNESS_MS: f64 = 2.0;
/// A stall of the machine that is worth telling apart.
const STALL_MS: f64 = 2.0;
const TWO_TEN: (u64, u64) = (2, 10);

/// Fills the report with what was measured.
pub fn fill(report: &mut Report, all: &[Series]) {
    report.notes.extend(NOTES.map(str::to_owned));
    let faults = [Fault::Kill, Fault::Cut, Fault::Freeze, Fault::Move, Fault::KillAndCut];
    for fault in faults {
        let series: Vec<&Series> = all.iter().filter(|one| one.fault == fault).collect();
        if !series.is_empty() {
            report.tables.push(of_fault(fault, &series));
        }
    }
    for fault in [Fault::Cut, Fault::KillAndCut] {
        let series: Vec<&Series> =
            all.iter().filter(|one| one.fault == fault && is_compared(one.subject)).collect();
        if !series.is_empty() {
            report.tables.push(stages(fault, &series));
        }
    }
    report.tables.push(noise(all));
    report.tables.extend(failures(all));
    report.goals = goals(all);
    report.plots = plots::draw(all);
}

const NOTES: [&str; 3] = [
    "Times are milliseconds. outage: the client's longest time without an answer, from its last answered to its first answered \
     probe, one probe each millisecond. late: the verdict behind the deadtime, counted from the last heartbeat that reached \
     the survivor. both: for how long an observer, which asks both nodes by their MAC addresses all the time, was answered by \
     both; what was taken is given back 100 ms after the takeover and watched for 250 ms more, so where both answer to the end \
     the time says no more than that it did not stop. return: the outage once what was taken is back. stalled: runs in which \
     the machine itself stood still for 2 ms or more between fault and takeover. unasked: the service moved before any fault, \
     a false death; the run is taken where it then was.",
    "All take turns: in each round each is struck once, then all recover together. Faults fall evenly over the interval. \
     The nodes share this kernel: a dead agent's XDP program stays attached until all is measured, since to detach it holds a \
     kernel-wide lock (RTNL) that on two machines only the dead one would hold.",
    "corosync and bfdd move no address: when they say that the other is gone, this program adds and announces it, and nobody \
     takes it from a node whose software is dead. The others are on their own.",
];

/// 10/30 and whatever comes nearest to it.
pub(super) fn is_compared(subject: Subject) -> bool {
    match subject {
        Subject::Xbeat { .. } => subject == Subject::MAIN || subject == Subject::WITNESSED,
        Subject::Peer { name, setting } => setting == name.software().fastest(),
    }
}

impl Series {
    fn summary(&self, of: impl Fn(&Run) -> Option<f64>) -> Summary {
        Summary::of(self.runs.iter().filter_map(of))
    }

    pub(super) fn outage(&self) -> Summary {
        self.summary(|run| Some(run.outage_ms))
    }

    /// How often the service moved before the fault, and in how many of these cases the machine had stood still.
    fn unasked(&self) -> String {
        let stalled = self.unasked_ms.iter().filter(|stall_ms| **stall_ms >= STALL_MS).count();
        match self.unasked_ms.len() {
            0 => "0".to_owned(),
            all => format!("{all} ({stalled} stalled)"),
        }
    }

    /// Runs in which both nodes answered.
    fn both(&self) -> usize {
        self.runs.iter().filter(|run| run.both_ms > 0.0).count()
    }
}

fn of_fault(fault: Fault, all: &[&Series]) -> Table {
    let mut columns =
        vec!["software", "setting", "n", "outage", "p99", "max", "late", "p99", "max", "both: runs", "max"];
    if fault.returns() {
        columns.push("return max");
    }
    columns.extend(["stalled", "unasked", "failed"]);
    let mut table = Table::new(format!("{}: {}", fault.label(), fault.what()), &columns);
    for series in all {
        let (outage, late) = (series.outage(), series.summary(|run| run.overshoot_ms));
        let mut row = vec![
            Cell::text(series.subject.label()),
            Cell::text(series.subject.setting()),
            Cell::count(series.runs.len()),
        ];
        row.extend([outage.median, outage.p99, outage.max].map(|ms| Cell::number(ms, 1)));
        row.extend([late.median, late.p99, late.max].map(|ms| Cell::number(ms, 2)));
        row.push(Cell::count(series.both()));
        row.push(Cell::number(series.summary(|run| Some(run.both_ms)).max, 0));
        if fault.returns() {
            row.push(Cell::number(series.summary(|run| run.return_outage_ms).max, 1));
        }
        row.push(Cell::count(series.runs.iter().filter(|run| run.stall_ms >= STALL_MS).count()));
        row.push(Cell::text(series.unasked()));
        row.push(Cell::count(series.failures.len()));
        table.row(row);
    }
    table
}

/// A stage and how it is read.
type Stage = (&'static str, fn(&Run) -> Option<f64>);

fn stages(fault: Fault, all: &[&Series]) -> Table {
    let stages: [Stage; 4] = [
        ("last heard to verdict", |run| run.heard_to_dead_ms),
        ("verdict to address", |run| run.dead_to_address_ms),
        ("verdict to announcement", |run| run.dead_to_announced_ms),
        ("announcement to answer", |run| run.announced_to_answer_ms),
    ];
    let mut columns = vec!["software".to_owned(), "setting".to_owned()];
    columns.extend(stages.iter().flat_map(|(what, _)| [(*what).to_owned(), "max".to_owned()]));
    let mut table = Table::new(format!("Stages, {}: median and maximum, ms", fault.label()), &[]);
    table.columns = columns;
    for series in all {
        let mut row = vec![Cell::text(series.subject.label()), Cell::text(series.subject.setting())];
        for (_, of) in stages {
            let summary = series.summary(of);
            row.extend([summary.median, summary.max].map(|ms| Cell::number(ms, 2)));
        }
        table.row(row);
    }
    table
}

/// A line of a table: its title and the measure.
type Row = (&'static str, fn(&Run) -> f64);

/// What the machine itself did meanwhile.
fn noise(all: &[Series]) -> Table {
    let runs = || all.iter().flat_map(|series| &series.runs);
    let mut table =
        Table::new("The machine's own noise during the failovers, ms", &["witness", "median", "p99", "max"]);
    let rows: [Row; 2] = [
        ("a processor, at SCHED_FIFO 90, worst of a run", |run| run.stall_ms),
        ("the client behind its schedule, worst of a run", |run| run.client_late_ms),
    ];
    for (what, of) in rows {
        let summary = Summary::of(runs().map(of));
        let mut row = vec![Cell::text(what)];
        row.extend([summary.median, summary.p99, summary.max].map(|ms| Cell::number(ms, 2)));
        table.row(row);
    }
    table
}

/// Why runs failed, if any did.
fn failures(all: &[Series]) -> Option<Table> {
    let mut table = Table::new("Failed runs", &["software", "fault", "reason"]);
    for series in all {
        for reason in &series.failures {
            table.row(vec![
                Cell::text(series.subject.title()),
                Cell::text(series.fault.label()),
                Cell::text(reason.replace('\n', " ")),
            ]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

fn goals(all: &[Series]) -> Vec<Goal> {
    let find = |subject: Subject, fault: Fault| {
        all.iter().find(|series| series.subject == subject && series.fault == fault)
    };
    let mut goals = Vec::new();
    if let Some(cut) = find(Subject::MAIN, Fault::Cut) {
        let late = cut.summary(|run| run.overshoot_ms).median;
        let announced = cut.summary(|run| run.dead_to_announced_ms).median;
        goals.push(Goal::new("verdict behind the deadtime, median, 10/30, link cut", late, 0.3, "ms"));
        goals.push(Goal::new("verdict to announcement, median, 10/30, link cut", announced, 1.0, "ms"));
        let outage = cut.outage().median;
        goals.push(Goal::new("outage, median, 10/30, link cut", outage, 28.0, "ms"));
        let keepalived =
            Subject::Peer { name: Name::Keepalived, setting: Name::Keepalived.software().fastest() };
        if let Some(peer) = find(keepalived, Fault::Cut) {
            let what = "outage, median, 10/30, link cut: not above keepalived's";
            goals.push(Goal::new(what, outage, peer.outage().median, "ms"));
        }
        if let Some(witnessed) = find(Subject::WITNESSED, Fault::Cut) {
            let more = witnessed.summary(|run| run.dead_to_announced_ms).median - announced;
            goals.push(Goal::new("the same, more with a witness, to announcement", more, WITNESS_MS, "ms"));
            let more = witnessed.outage().median - outage;
            goals.push(Goal::new("the same, more with a witness, outage", more, WITNESS_MS, "ms"));
        }
    }
    let fast = Subject::Xbeat { votes: super::Votes::Alone, keepalive_ms: TWO_TEN.0, deadtime_ms: TWO_TEN.1 };
    if let Some(cut) = find(fast, Fault::Cut) {
        goals.push(Goal::new("outage, median, 2/10, link cut", cut.outage().median, 11.0, "ms"));
    }
    goals.extend(never(all));
    goals
}

/// What must not happen with xbeat, in no run. That it was looked for has a witness: the old node was asked each time.
fn never(all: &[Series]) -> [Goal; 3] {
    let ours = || all.iter().filter(|series| series.subject.is_ours());
    let runs = || ours().flat_map(|series| &series.runs);
    let is_watched = runs().count() > 0 && runs().all(|run| run.old_asked > 0);
    let count = |of: usize| if is_watched { of as f64 } else { f64::NAN };
    // Two nodes that cannot hear each other, and ask nobody else, both serve: `tie_break = "always"` means that.
    let decided = || ours().filter(|series| !(series.fault == Fault::Cut && series.subject.decides_alone()));
    let both = decided().flat_map(|series| &series.runs).filter(|run| run.both_ms > 0.0).count();
    let old = decided().flat_map(|series| &series.runs).map(|run| run.old_answers).sum();
    let failed = ours().map(|series| series.failures.len()).sum();
    [
        Goal::new(
            "xbeat, runs in which both nodes answered (a cut without a witness apart)",
            count(both),
            0.0,
            "",
        ),
        Goal::new(
            "xbeat, answers of the old node to the client between those of the new one",
            count(old),
            0.0,
            "",
        ),
        Goal::new("xbeat, failed runs", count(failed), 0.0, ""),
    ]
}

#[cfg(test)]
mod tests {
    use super::fill;
    use crate::failover::{Fault, Run, Series, Subject};
    use crate::report::Report;

    fn series(subject: Subject, fault: Fault, outage_ms: f64) -> Series {
        let run = Run {
            outage_ms,
            overshoot_ms: Some(0.1),
            dead_to_announced_ms: Some(outage_ms / 50.0),
            old_asked: 9,
            ..Run::default()
        };
        Series { runs: vec![run], ..Series::new(subject, fault) }
    }

    fn report(all: &[Series]) -> Report {
        let mut report = Report::new("failover", "");
        fill(&mut report, all);
        report
    }

    fn is_met(report: &Report, what: &str) -> bool {
        report.goals.iter().find(|goal| goal.what.contains(what)).expect(what).is_met()
    }

    #[test]
    fn a_witness_that_costs_too_much_misses_its_goal() {
        for (outage_ms, expected) in [(26.9, true), (27.1, false)] {
            let both =
                [series(Subject::MAIN, Fault::Cut, 25.0), series(Subject::WITNESSED, Fault::Cut, outage_ms)];
            let report = report(&both);
            assert!(is_met(&report, "more with a witness, to announcement"));
            assert_eq!(is_met(&report, "more with a witness, outage"), expected, "{outage_ms}");
        }
    }

    #[test]
    fn two_that_answer_miss_the_goal_and_so_does_nobody_who_asks() {
        let one = |change: fn(&mut Run)| {
            let mut one = series(Subject::MAIN, Fault::Freeze, 25.0);
            one.runs.iter_mut().for_each(change);
            report(&[one])
        };
        let goals = ["both nodes answered", "answers of the old node", "failed runs"];
        let met = |report: &Report| goals.map(|what| is_met(report, what));
        assert_eq!(met(&one(|_| {})), [true; 3]);
        assert_eq!(met(&one(|run| run.both_ms = 4.0)), [false, true, true]);
        assert_eq!(met(&one(|run| run.old_answers = 1)), [true, false, true]);
        assert_eq!(met(&one(|run| run.old_asked = 0)), [false; 3]);
    }

    #[test]
    fn two_that_answer_for_want_of_a_witness_are_shown_and_no_goal() {
        for (subject, expected) in [(Subject::MAIN, true), (Subject::WITNESSED, false)] {
            let mut cut = series(subject, Fault::Cut, 25.0);
            cut.runs.iter_mut().for_each(|run| run.both_ms = 20.0);
            assert_eq!(is_met(&report(&[cut]), "both nodes answered"), expected, "{subject:?}");
        }
    }

    #[test]
    fn each_fault_has_a_table_and_failures_have_their_reasons() {
        let mut failed = series(Subject::WITNESSED, Fault::Freeze, 30.0);
        failed.failures.push("run 3: waited in vain".to_owned());
        let report = report(&[series(Subject::MAIN, Fault::Cut, 25.0), failed]);
        let titles: Vec<&str> = report.tables.iter().map(|table| table.title.as_str()).collect();
        let starts = ["link cut", "freeze", "Stages, link cut", "The machine's own", "Failed runs"];
        assert_eq!(titles.len(), starts.len(), "{titles:?}");
        assert!(titles.iter().zip(starts).all(|(title, start)| title.starts_with(start)), "{titles:?}");
        assert!(
            report.tables.iter().all(|table| table.rows.iter().all(|row| row.len() == table.columns.len()))
        );
        assert!(report.markdown().contains("waited in vain"));
        assert!(!is_met(&report, "failed runs"));
    }
}
