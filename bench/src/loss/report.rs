//! The run's tables: what was measured beside what is expected, what the client missed, and what the machine did.

use agent_tests::lab::loss::Channel;

use super::run::Outcome;
use super::{Seen, Setup, Subject, label, model};
use crate::report::{Cell, Goal, Report, Table};
use crate::statistics::Summary;

/// Of the cells that tell anything, so many of a hundred may be outside of an interval that holds 95.
const OUTSIDE: f64 = 10.0;
/// Deadtimes that peers share, in units of the interval, and from which counts each takes part.
const SHARED: [(&str, &[u32]); 2] = [("at their fastest", &[3, 4, 5]), ("at 150 ms", &[15])];

/// Fills everything but the plots.
pub fn fill(report: &mut Report, outcome: &Outcome, channels: &[Channel]) {
    let of = |links: usize, subject: Subject| {
        move |setup: &Setup| setup.subject == subject && setup.links == links
    };
    for (title, links, subject) in [
        ("xbeat, one link: false deaths an hour in the eyes of one node / closed form", 1, Subject::Xbeat),
        ("xbeat, two links: the same", 2, Subject::Xbeat),
        ("xbeat on sockets, one link: the same", 1, Subject::Sockets),
        (
            "xbeat, keepalive 10 ms, one link: the same, the last heartbeat in time .. too late",
            1,
            Subject::Edge,
        ),
    ] {
        report.tables.push(deaths(title, outcome, channels, of(links, subject), true));
    }
    for (links, title) in [(1, "one link"), (2, "two links")] {
        let title = format!("xbeat, {title}: seconds of an hour without service (moves an hour)");
        report.tables.push(service(&title, outcome, channels, of(links, Subject::Xbeat)));
    }
    report.tables.push(wire(outcome));
    if outcome.cells.iter().any(|(setup, _)| matches!(setup.subject, Subject::Peer(_))) {
        for (at, counts) in SHARED {
            let together = |setup: &Setup| takes_part(setup, counts);
            let title = format!("All {at}: false deaths an hour in the eyes of one node");
            report.tables.push(deaths(&title, outcome, channels, together, false));
            let title = format!("All {at}: seconds of an hour without service (moves an hour)");
            report.tables.push(service(&title, outcome, channels, together));
        }
    }
    report.tables.push(machine(outcome, channels));
    report.goals.extend(goals(outcome, channels));
}

/// Of xbeat the first of the counts, of others whichever they have.
pub(super) fn takes_part(setup: &Setup, counts: &[u32]) -> bool {
    setup.links == 1
        && match setup.subject {
            Subject::Xbeat | Subject::Sockets => counts.first() == Some(&setup.count),
            Subject::Edge => false,
            Subject::Peer(name) => {
                let fastest = name.software().fastest().count;
                if counts.len() == 1 { counts.contains(&setup.count) } else { setup.count == fastest }
            }
        }
}

/// Rows are channels, columns clusters.
fn by_channel(
    title: &str,
    outcome: &Outcome,
    channels: &[Channel],
    wanted: impl Fn(&Setup) -> bool,
    cell: impl Fn(&Setup, &Seen, Channel) -> String,
) -> Table {
    let chosen: Vec<&(Setup, Vec<Seen>)> = outcome.cells.iter().filter(|(setup, _)| wanted(setup)).collect();
    let is_one =
        chosen.iter().all(|(setup, _)| Some(setup.subject) == chosen.first().map(|(first, _)| first.subject));
    let names = chosen.iter().map(|(setup, _)| {
        if is_one { format!("{} ({} ms)", setup.count, setup.deadtime().as_millis()) } else { setup.name() }
    });
    let columns: Vec<String> = std::iter::once("loss".to_owned()).chain(names).collect();
    let mut table = Table::new(title, &columns.iter().map(String::as_str).collect::<Vec<_>>());
    for (place, channel) in channels.iter().enumerate() {
        let cells = chosen.iter().map(|(setup, seen)| {
            let Some(seen) = seen.get(place) else { return Cell::text("-") };
            let broken = if seen.was_broken { " †" } else { "" };
            Cell::text(format!("{}{broken}", cell(setup, seen, *channel)))
        });
        table.row(std::iter::once(Cell::text(label(*channel))).chain(cells).collect());
    }
    table
}

fn deaths(
    title: &str,
    outcome: &Outcome,
    channels: &[Channel],
    wanted: impl Fn(&Setup) -> bool,
    with_model: bool,
) -> Table {
    by_channel(title, outcome, channels, wanted, |setup, seen, channel| {
        let hours = seen.node_hours(setup);
        let measured = measured(seen.deaths, hours);
        if !with_model {
            return measured;
        }
        let (least, most) = model::expected(setup, channel);
        if least < most {
            return format!("{measured} / {} .. {}", rate(least), rate(most));
        }
        let mark = if model::agrees(seen.deaths, most * hours) == Some(false) { " !" } else { "" };
        format!("{measured} / {}{mark}", rate(most))
    })
}

fn service(title: &str, outcome: &Outcome, channels: &[Channel], wanted: impl Fn(&Setup) -> bool) -> Table {
    by_channel(title, outcome, channels, wanted, |_, seen, _| {
        let moves = seen.moves as f64 / seen.seconds * 3600.0;
        format!("{} ({})", rate(seen.lost_service()), rate(moves))
    })
}

/// Verdicts beside the silences that were captured at the nodes' ports.
fn wire(outcome: &Outcome) -> Table {
    let columns =
        ["cluster", "silences", "deaths", "deaths without silence", "behind ms median", "p99", "max"];
    let mut table = Table::new(
        "Verdicts beside silences longer than the deadtime at the nodes' ports, all losses",
        &columns,
    );
    for (setup, seen) in &outcome.cells {
        let silences: Vec<usize> = seen.iter().filter_map(|seen| seen.silences).collect();
        if silences.is_empty() {
            continue;
        }
        let deaths: usize = seen.iter().map(|seen| seen.deaths).sum();
        let matched: usize = seen.iter().map(|seen| seen.behind_ms.len()).sum();
        let behind = Summary::of(seen.iter().flat_map(|seen| seen.behind_ms.iter().copied()));
        table.row(vec![
            Cell::text(setup.name()),
            Cell::count(silences.iter().sum()),
            Cell::count(deaths),
            Cell::count(deaths - matched),
            Cell::number(behind.median, 3),
            Cell::number(behind.p99, 3),
            Cell::number(behind.max, 3),
        ]);
    }
    table
}

fn machine(outcome: &Outcome, channels: &[Channel]) -> Table {
    let columns = [
        "loss",
        "lost %",
        "CPU busy %",
        "latest wake-up ms",
        "stalls > 5 ms",
        "deaths during stalls",
        "not whole at begin",
    ];
    let mut table = Table::new("The injector and the machine", &columns);
    for (place, (channel, machine)) in channels.iter().zip(&outcome.machine).enumerate() {
        let stalled =
            outcome.cells.iter().filter_map(|(_, seen)| seen.get(place)).map(|seen| seen.stalled).sum();
        table.row(vec![
            Cell::text(label(*channel)),
            Cell::number(machine.lost * 100.0, 3),
            Cell::number(machine.busy * 100.0, 0),
            Cell::number(machine.late_max_ms, 2),
            Cell::count(machine.stalls),
            Cell::count(stalled),
            Cell::count(machine.broken),
        ]);
    }
    table
}

fn goals(outcome: &Outcome, channels: &[Channel]) -> Vec<Goal> {
    let (mut telling, mut outside, mut stalled, mut unfounded, mut idle) = (0, 0, 0, 0, 0);
    for (setup, seen) in &outcome.cells {
        let is_ours = matches!(setup.subject, Subject::Xbeat | Subject::Sockets | Subject::Edge);
        for (seen, channel) in seen.iter().zip(channels).filter(|_| is_ours) {
            if setup.subject != Subject::Edge {
                let (_, mean) = model::expected(setup, *channel);
                let agrees = model::agrees(seen.deaths, mean * seen.node_hours(setup));
                telling += usize::from(agrees.is_some());
                outside += usize::from(agrees == Some(false));
                stalled += usize::from(agrees == Some(false) && seen.stalled > 0);
            }
            unfounded += if seen.silences.is_some() { seen.deaths - seen.behind_ms.len() } else { 0 };
            idle += if *channel == Channel::Independent(0.0) { seen.deaths } else { 0 };
        }
    }
    let part = outside as f64 / telling as f64 * 100.0;
    vec![
        Goal::new(
            format!(
                "of {telling} cells of xbeat that tell, {outside} outside of the closed form's 95 % ({stalled} of them had \
                 deaths while a CPU stood still)"
            ),
            part,
            OUTSIDE,
            "%",
        ),
        Goal::new("deaths of xbeat without a silence on the wire", f64::from(unfounded as u32), 0.0, ""),
        Goal::new("deaths of xbeat without any loss", f64::from(idle as u32), 0.0, ""),
    ]
}

/// What was counted in so many hours; of nothing, what it is below with 95 %.
fn measured(count: usize, hours: f64) -> String {
    if count == 0 { format!("0 (<{})", rate(model::bound(hours))) } else { rate(count as f64 / hours) }
}

/// Three digits that count, in thousands where there are many.
pub(super) fn rate(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    if value < 0.001 {
        return "<0.001".to_owned();
    }
    let digits = (2.0 - value.log10().floor()).clamp(0.0, 4.0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::{measured, rate};

    #[test]
    fn rates_are_short() {
        assert_eq!(rate(12_345.6), "12346");
        assert_eq!(rate(1.234), "1.23");
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(1e-9), "<0.001");
        assert_eq!(rate(f64::NAN), "-");
        assert_eq!(measured(0, 0.03), "0 (<99.9)");
        assert_eq!(measured(3, 0.03), "100");
    }
}
