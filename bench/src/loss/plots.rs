//! The run's plots: false deaths an hour over independent loss, on a logarithmic scale; none seen stands at the bottom.

use agent_tests::lab::loss::Channel;

use super::report::takes_part;
use super::run::Outcome;
use super::{INTERVAL, KEEPALIVE, Seen, Setup, Subject, model};
use crate::report::{Curve, Plot, Report, Scale};

/// Less is not expected to be seen in a run, and not drawn.
const LEAST: f64 = 3.0;
const Y: &str = "false deaths an hour";
const X: &str = "independent loss, %";

/// Adds all of them.
pub fn add(report: &mut Report, outcome: &Outcome, channels: &[Channel]) {
    let title = "xbeat, one link: measured (marks) and closed form (thin)";
    report.plots.push(ours("counts", title, outcome, channels, 1));
    let title = "xbeat, two links: measured (marks) and closed form (thin)";
    report.plots.push(ours("two-links", title, outcome, channels, 2));
    if outcome.cells.iter().any(|(setup, _)| matches!(setup.subject, Subject::Peer(_))) {
        report.plots.push(together(
            "fastest",
            "each at its fastest stable setting",
            &[3, 4, 5],
            outcome,
            channels,
        ));
        report.plots.push(together("150ms", "all at 150 ms", &[15], outcome, channels));
    }
}

fn ours(id: &'static str, title: &str, outcome: &Outcome, channels: &[Channel], links: usize) -> Plot {
    let mut plot = Plot::new(id, title, X, Y).scale(Scale::Linear, Scale::Log);
    for (setup, seen) in &outcome.cells {
        if setup.subject != Subject::Xbeat || setup.links != links || setup.count > 15 {
            continue;
        }
        let name = format!("deadtime {} ms", setup.deadtime().as_millis());
        plot.curves.push(Curve::new(name, points(setup, seen, channels)));
        plot.curves.push(Curve::model("", closed_form(setup.count, links)));
    }
    plot
}

fn together(id: &'static str, title: &str, counts: &[u32], outcome: &Outcome, channels: &[Channel]) -> Plot {
    let mut plot = Plot::new(id, title, X, Y).scale(Scale::Linear, Scale::Log);
    for (setup, seen) in outcome.cells.iter().filter(|(setup, _)| takes_part(setup, counts)) {
        plot.curves.push(Curve::new(setup.name(), points(setup, seen, channels)));
        if setup.subject == Subject::Xbeat {
            let name = format!("closed form, {} lost in a row", setup.count);
            plot.curves.push(Curve::model(name, closed_form(setup.count, 1)));
        }
    }
    plot
}

fn points(setup: &Setup, seen: &[Seen], channels: &[Channel]) -> Vec<(f64, f64)> {
    let measured = channels.iter().zip(seen).filter_map(|(channel, seen)| match channel {
        Channel::Independent(loss) => Some((loss * 100.0, seen.deaths as f64 / seen.node_hours(setup))),
        Channel::Bursts { .. } => None,
    });
    measured.collect()
}

fn closed_form(count: u32, links: usize) -> Vec<(f64, f64)> {
    let percents = (1..=100).map(|half| f64::from(half) / 2.0);
    let expected = percents.map(|percent| {
        let channel = Channel::Independent(percent / 100.0);
        (percent, model::deaths_per_hour(KEEPALIVE, INTERVAL * count, links, channel))
    });
    expected.filter(|(_, deaths)| *deaths >= LEAST).collect()
}
