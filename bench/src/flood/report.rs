//! Tables, the plot and the goals of the floods.

use super::cost::{Cost, Time};
use super::subject::{DEADTIME, KEEPALIVE, Row};
use crate::report::{Cell, Curve, Goal, Plot, Report, Scale, Table};

/// A forgery as long as a steady heartbeat costs no more in the program alone, nanoseconds.
const FORGERY_NS: f64 = 100.0;

/// Puts all into the report.
pub fn write(report: &mut Report, rows: &[Row], costs: &[Cost]) {
    notes(report);
    report.tables.push(floods(rows));
    report.tables.push(took(rows));
    report.tables.push(test_runs(costs));
    report.plots.push(plot(costs));
    let xbeat = |row: &&Row| row.kind.is_some() && row.sent.frames > 0;
    for row in rows.iter().filter(xbeat) {
        let what = format!("false deaths: {} ({}), {}", row.subject, row.target.label(), row.label);
        report.goals.push(Goal::new(what, row.deaths_unexcused as f64, 0.0, ""));
    }
    if let Some(steady) = costs.first() {
        let mut goal = |what: &str, time: Time| {
            let what = format!("{what}, body of {} bytes, by test-run", steady.body);
            report.goals.push(Goal::new(what, time.least, FORGERY_NS, "ns"));
        };
        goal("a forgery", steady.forged);
        goal("a forgery behind a captured header", steady.captured);
    }
}

fn notes(report: &mut Report) {
    report.notes.push(format!(
        "Two nodes at {}/{} ms. One thread on one processor sends at the flooded node's port of the switch with sendmmsg past \
         the queueing discipline; on a veth it also pays, in softirqs, for what the flooded node's kernel does with each frame.",
        KEEPALIVE.as_millis(),
        DEADTIME.as_millis()
    ));
    report.notes.push(
        "A death is false, since nobody died. It is excused when a witness at SCHED_FIFO 90 on some processor was late by half \
         a deadtime or more within the deadtime before: then the machine stood still."
            .to_owned(),
    );
    report.notes.push(
        "\"no room\": frames of whomever for which the ring of the flooded veth, 256 frames, was full; true heartbeats among \
         them are \"heartbeats lost\", before any program has seen them. What bounds it is the kernel's thread for softirqs, an \
         ordinary one, which shares its processor with the flood's sender here. A second link, which the flood does not reach, is \
         what helps: \"two links\"."
            .to_owned(),
    );
}

fn floods(rows: &[Row]) -> Table {
    let columns = [
        "flooded",
        "node",
        "frames",
        "sent/s",
        "sent",
        "counted",
        "program's runs",
        "no room",
        "heartbeats lost",
        "deaths",
        "excused",
    ];
    let mut table = Table::new("What was sent, what arrived, and who was called dead", &columns);
    for row in rows {
        table.row(vec![
            Cell::text(row.subject),
            Cell::text(row.target.label()),
            Cell::text(&row.label),
            Cell::number(row.rate(), 0),
            Cell::number(row.sent.frames as f64, 0),
            Cell::number(row.counted, 0),
            Cell::number(row.runs.count as f64, 0),
            Cell::number(row.dropped as f64, 0),
            Cell::number(row.heartbeats_lost, 0),
            Cell::count(row.deaths),
            Cell::count(row.deaths - row.deaths_unexcused),
        ]);
    }
    table
}

fn took(rows: &[Row]) -> Table {
    let columns = [
        "flooded",
        "node",
        "frames",
        "program, ns a frame",
        "all, ns a frame",
        "softirq, s",
        "late, ms",
        "probes lost",
        "client's gap, ms",
        "machine's stall, ms",
    ];
    let mut table = Table::new("What it took", &columns);
    for row in rows {
        table.row(vec![
            Cell::text(row.subject),
            Cell::text(row.target.label()),
            Cell::text(&row.label),
            Cell::number(row.runs.mean_ns(), 0),
            Cell::number(row.whole_ns(), 0),
            Cell::number(row.softirq_seconds, 2),
            Cell::number(row.late_ms, 2),
            Cell::count(row.probes_lost),
            Cell::number(row.gap_ms, 1),
            Cell::number(row.stall_ms, 1),
        ]);
    }
    table
}

fn test_runs(costs: &[Cost]) -> Table {
    let columns = [
        "body, bytes",
        "forged",
        "forged, captured header",
        "replayed",
        "accepted",
        "forged, part",
        "captured, part",
    ];
    let mut table = Table::new(
        "The program alone, by BPF_PROG_TEST_RUN: ns a frame (least / median), and as part of one that is accepted",
        &columns,
    );
    let cell = |time: Time| Cell::text(format!("{:.0} / {:.0}", time.least, time.median));
    for cost in costs {
        let part = |time: Time| Cell::number(time.least / cost.accepted.least, 3);
        table.row(vec![
            Cell::count(cost.body),
            cell(cost.forged),
            cell(cost.captured),
            cell(cost.replayed),
            cell(cost.accepted),
            part(cost.forged),
            part(cost.captured),
        ]);
    }
    table
}

fn plot(costs: &[Cost]) -> Plot {
    let mut plot =
        Plot::new("cost", "What a frame costs in the program, by its length", "bytes of the body", "ns")
            .scale(Scale::Log, Scale::Log);
    let mut curve = |name: &str, of: fn(&Cost) -> Time| {
        let points = costs.iter().map(|cost| (cost.body as f64, of(cost).least)).collect();
        plot.curves.push(Curve::new(name, points));
    };
    curve("accepted", |cost| cost.accepted);
    curve("forged behind a captured header", |cost| cost.captured);
    curve("forged", |cost| cost.forged);
    curve("replayed", |cost| cost.replayed);
    plot
}

impl Row {
    /// Frames that the kernel took in a second, 0 without a flood.
    pub fn rate(&self) -> f64 {
        if self.sent.seconds > 0.0 { self.sent.frames as f64 / self.sent.seconds } else { 0.0 }
    }

    /// Time of the generator's processor for a frame, its sending and its receiving.
    pub fn whole_ns(&self) -> f64 {
        if self.sent.frames == 0 { f64::NAN } else { self.sent.cpu_seconds * 1e9 / self.sent.frames as f64 }
    }
}
