//! Tables of rung by choice, and a plot of the worst gaps: what a starved node did, and what its peer made of it.

use super::phase::{Finding, Outcome, Seen};
use super::{DEADTIME, Entrant, Place, Rung};
use crate::report::{Cell, Curve, Goal, Plot, Report, Scale, Table};
use crate::statistics::Summary;

/// Bounds of the verdict on a true death behind its deadtime, on every rung.
const MEDIAN_MS: f64 = 5.0;
const MAX_MS: f64 = 60.0;

/// Whom a number is of, in a phase with load on one CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The observer's CPU is loaded.
    Observer,
    /// The other's is.
    Observed,
    /// Both, or none.
    Both,
}

impl Side {
    const fn label(self) -> &'static str {
        match self {
            Self::Observer => "observer",
            Self::Observed => "observed",
            Self::Both => "both",
        }
    }

    /// The observers that are in this place.
    fn of(self, outcome: &Outcome) -> &[Seen] {
        match self {
            Self::Observer => &outcome.nodes[..1],
            Self::Observed => &outcome.nodes[1..],
            Self::Both => &outcome.nodes,
        }
    }
}

/// Fills `report` with what was found.
pub fn fill(report: &mut Report, entrants: &[Entrant], findings: &[Finding]) {
    notes(report);
    report.tables.extend([
        by_side(
            "False deaths (in brackets: while the machine itself stood still)",
            entrants,
            findings,
            deaths,
        ),
        by_side(
            "Verdict on a true death behind the deadtime, ms: median / max (found of all)",
            entrants,
            findings,
            found,
        ),
        by_phase(
            "Worst time between two heartbeats of a loaded node on the wire, ms",
            entrants,
            findings,
            |outcome| Cell::number(worst(outcome, |seen| seen.gap_ms), 1),
        ),
        by_phase("Worst lateness of a loaded node's realtime thread, ms", entrants, findings, |outcome| {
            Cell::number(worst(outcome, |seen| seen.late_ms), 2)
        }),
        by_phase("Longest time without service while nothing failed, ms", entrants, findings, |outcome| {
            Cell::number(outcome.lost_ms, 0)
        }),
        by_phase(
            "Time without service after a true death, ms: median / max",
            entrants,
            findings,
            |outcome| {
                let of = Summary::of(outcome.away_ms.iter().copied());
                Cell::text(format!("{:.0} / {:.0}", of.median, of.max))
            },
        ),
        noise(findings),
    ]);
    report.plots.push(plot(
        "gap",
        "Worst time between two heartbeats, load on all CPUs (deadtime: 50 ms)",
        "ms",
        entrants,
        findings,
        |seen| seen.gap_ms,
    ));
    report.plots.push(plot(
        "late",
        "Worst lateness of the realtime thread, load on all CPUs",
        "ms",
        entrants,
        findings,
        |seen| seen.late_ms,
    ));
    goals(report, entrants, findings);
}

fn notes(report: &mut Report) {
    report.notes.push(format!(
        "Keepalive 10 ms, deadtime {} ms. All columns are under the same load at the same time. Node 0 of each pair has the \
         first CPU, node 1 the second; SCHED_DEADLINE cannot be pinned and moves as it likes, which is part of what it is \
         worth. \"observer\": the CPU of the node that judges is loaded; \"observed\": that of the node that it judges.",
        DEADTIME.as_millis()
    ));
    report.notes.push(
        "A true death is a cut link, while the load goes on; its verdict is counted from the last heartbeat that reached the \
         observer's port. Services are asked by ICMP echo, which the kernel answers: a starved server would be no fault of \
         the cluster. \"dl R/P\" is SCHED_DEADLINE with R ms of runtime in P ms; \"default\" is what the agent asks for by \
         itself."
            .to_owned(),
    );
    report.notes.push(
        "The machine's own noise is what threads see that only sleep for a millisecond: SCHED_FIFO 99 on each CPU, and \
         SCHED_DEADLINE with more to spare than anybody. When the latter is 5 ms late the machine stood still, and a false \
         death at that time is counted in brackets, too. A phase of which the hypervisor took more than 2 % is run again, up \
         to three times, and that of which it took least is shown, whatever came of it."
            .to_owned(),
    );
}

/// Rows of rung and side, columns of entrants.
fn by_side(title: &str, entrants: &[Entrant], findings: &[Finding], cell: fn(&[Seen]) -> Cell) -> Table {
    let mut table = table(title, &["rung", "load on"], entrants);
    for finding in findings {
        let sides: &[Side] = match (finding.plan.rung, finding.plan.place) {
            (Rung::Idle, _) | (_, Place::Both) => &[Side::Both],
            (_, Place::One) => &[Side::Observer, Side::Observed],
        };
        for side in sides {
            let on = if finding.plan.rung == Rung::Idle { "-" } else { side.label() };
            let mut row = vec![Cell::text(finding.plan.rung.label()), Cell::text(on)];
            row.extend(finding.outcomes.iter().map(|outcome| {
                outcome.as_ref().map_or_else(|| Cell::text("-"), |outcome| cell(side.of(outcome)))
            }));
            table.row(row);
        }
    }
    table
}

/// Rows of rung and place, columns of entrants.
fn by_phase(
    title: &str,
    entrants: &[Entrant],
    findings: &[Finding],
    cell: impl Fn(&Outcome) -> Cell,
) -> Table {
    let mut table = table(title, &["rung", "load on"], entrants);
    for finding in findings {
        let is_idle = finding.plan.rung == Rung::Idle;
        let on = if is_idle { "-" } else { finding.plan.place.label() };
        let mut row = vec![Cell::text(finding.plan.rung.label()), Cell::text(on)];
        row.extend(finding.outcomes.iter().map(|outcome| {
            // Of a pair with load on one CPU, the one that has it.
            let loaded = outcome.clone().map(|mut outcome| {
                if finding.plan.place == Place::One {
                    outcome.nodes[1] = Seen { gap_ms: f64::NAN, late_ms: f64::NAN, ..Seen::default() };
                }
                outcome
            });
            loaded.as_ref().map_or_else(|| Cell::text("-"), &cell)
        }));
        table.row(row);
    }
    table
}

fn table(title: &str, first: &[&str], entrants: &[Entrant]) -> Table {
    let names = entrants.iter().map(|entrant| entrant.name.as_str());
    Table::new(title, &first.iter().copied().chain(names).collect::<Vec<_>>())
}

fn worst(outcome: &Outcome, of: fn(&Seen) -> f64) -> f64 {
    outcome.nodes.iter().map(of).fold(f64::NAN, f64::max)
}

fn deaths(seen: &[Seen]) -> Cell {
    let all: usize = seen.iter().map(|seen| seen.false_deaths).sum();
    let stalled: usize = seen.iter().map(|seen| seen.stalled).sum();
    Cell::text(if stalled == 0 { all.to_string() } else { format!("{all} ({stalled})") })
}

fn found(seen: &[Seen]) -> Cell {
    let all: usize = seen.iter().map(|seen| seen.cuts).sum();
    let overshoots = seen.iter().flat_map(|seen| seen.overshoots_ms.iter().copied()).collect::<Vec<_>>();
    if overshoots.is_empty() {
        return Cell::text(if all == 0 { "-".to_owned() } else { format!("none ({all})") });
    }
    let of = Summary::of(overshoots.iter().copied());
    let mut text = format!("{:.1} / {:.1}", of.median, of.max);
    if overshoots.len() < all {
        text += &format!(" ({} of {all})", overshoots.len());
    }
    Cell::text(text)
}

fn noise(findings: &[Finding]) -> Table {
    let mut table = Table::new(
        "The machine's own noise: worst lateness of a sleeper, ms",
        &[
            "rung",
            "load on",
            "SCHED_FIFO 99",
            "SCHED_DEADLINE",
            "stalls >= 5 ms",
            "stolen by the hypervisor, ms",
            "attempts",
        ],
    );
    for finding in findings {
        table.row(vec![
            Cell::text(finding.plan.rung.label()),
            Cell::text(finding.plan.place.label()),
            Cell::number(finding.noise.fifo_ms, 1),
            Cell::number(finding.noise.deadline_ms, 1),
            Cell::count(finding.noise.stalls.len()),
            Cell::number(finding.stolen_ms, 0),
            Cell::count(finding.attempts),
        ]);
    }
    table
}

fn plot(
    id: &'static str,
    title: &str,
    unit: &str,
    entrants: &[Entrant],
    findings: &[Finding],
    of: fn(&Seen) -> f64,
) -> Plot {
    let rungs: Vec<&Finding> = findings.iter().filter(|finding| finding.plan.place == Place::Both).collect();
    let names = rungs.iter().map(|finding| finding.plan.rung.label().to_owned()).collect();
    let mut plot = Plot::new(id, title, "", unit).scale(Scale::Linear, Scale::Log).named(names);
    for (place, entrant) in entrants.iter().enumerate() {
        let points = rungs.iter().enumerate().filter_map(|(n, finding)| {
            let outcome = finding.outcomes.get(place)?.as_ref()?;
            Some(((n + 1) as f64, worst(outcome, of)))
        });
        let curve = Curve::new(entrant.name.clone(), points.collect());
        if !curve.points.is_empty() {
            plot.curves.push(curve);
        }
    }
    plot
}

/// The goals are of what is used unless somebody chooses otherwise.
fn goals(report: &mut Report, entrants: &[Entrant], findings: &[Finding]) {
    let Some(place) = entrants.iter().position(|entrant| entrant.is_default) else { return };
    let seen: Vec<&Seen> = findings
        .iter()
        .filter_map(|finding| finding.outcomes.get(place)?.as_ref())
        .flat_map(|outcome| &outcome.nodes)
        .collect();
    let sum = |of: fn(&Seen) -> usize| seen.iter().map(|seen| of(seen)).sum::<usize>() as f64;
    let summaries: Vec<Summary> = findings
        .iter()
        .filter_map(|finding| finding.outcomes.get(place)?.as_ref())
        .map(|outcome| Summary::of(outcome.nodes.iter().flat_map(|seen| seen.overshoots_ms.iter().copied())))
        .collect();
    // A phase without any verdict is NaN, and a maximum that leaves it out would hide it.
    let highest = |of: fn(&Summary) -> f64| {
        let values: Vec<f64> = summaries.iter().map(of).collect();
        if values.iter().any(|value| value.is_nan()) {
            return f64::NAN;
        }
        values.into_iter().fold(f64::NAN, f64::max)
    };
    report.goals.extend([
        Goal::new("false deaths, default, all rungs", sum(|seen| seen.false_deaths), 0.0, ""),
        Goal::new("declared dead though heard, default", sum(|seen| seen.unheard), 0.0, ""),
        Goal::new(
            "true deaths not found, default",
            sum(|seen| seen.cuts - seen.overshoots_ms.len()),
            0.0,
            "",
        ),
        Goal::new(
            "verdict behind the deadtime: median, worst rung",
            highest(|of| of.median),
            MEDIAN_MS,
            "ms",
        ),
        Goal::new("verdict behind the deadtime: max, all rungs", highest(|of| of.max), MAX_MS, "ms"),
    ]);
    let all: f64 = findings
        .iter()
        .flat_map(|finding| finding.outcomes.iter().take(entrants.len()).flatten())
        .flat_map(|outcome| outcome.nodes.iter().map(|seen| seen.unheard as f64))
        .sum();
    report.notes.push(format!(
        "Declared dead within the deadtime after a heartbeat that had reached the observer's port, all columns together: {all:.0}."
    ));
}
