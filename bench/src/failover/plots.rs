//! The plots of `bench failover`: outages of a cut link as cumulative distributions, and the medians by fault.

use super::report::is_compared;
use super::{Fault, Series};
use crate::report::{Curve, Plot, Scale};

/// Both of them, where there is anything to draw.
pub(super) fn draw(all: &[Series]) -> Vec<Plot> {
    let mut outages = Plot::new(
        "outage",
        "Outage seen by a client when the link of the serving node is cut",
        "outage, ms",
        "part of the failovers that took no longer",
    )
    .scale(Scale::Log, Scale::Linear);
    outages.curves = all
        .iter()
        .filter(|series| series.fault == Fault::Cut && is_drawn(series))
        .map(|series| Curve::new(series.subject.title(), distribution(series)))
        .collect();
    let mut medians = Plot::new(
        "faults",
        "Median outage by fault",
        "1: kill -9    2: link cut    3: freeze    4: orderly move",
        "outage, ms (at the bottom: none, or both answer)",
    )
    .scale(Scale::Linear, Scale::Log);
    let mut subjects: Vec<_> = Vec::new();
    for series in all.iter().filter(|series| is_compared(series.subject)) {
        if !subjects.contains(&series.subject) {
            subjects.push(series.subject);
        }
    }
    medians.curves = subjects
        .into_iter()
        .map(|subject| {
            let of = all.iter().filter(|series| series.subject == subject);
            let points = of.filter_map(|series| Some((place(series.fault)?, series.outage().median)));
            Curve::new(subject.title(), points.collect())
        })
        .collect();
    [outages, medians].into_iter().filter(|plot| !plot.curves.is_empty()).collect()
}

/// Those that are compared, and the fastest.
fn is_drawn(series: &Series) -> bool {
    let subject = series.subject;
    is_compared(subject) || (subject.is_ours() && subject.interval().as_millis() != 10)
}

/// Steps: each value, with the part that is no larger.
fn distribution(series: &Series) -> Vec<(f64, f64)> {
    let mut outages: Vec<f64> = series.runs.iter().map(|run| run.outage_ms).collect();
    outages.sort_by(f64::total_cmp);
    let count = outages.len() as f64;
    outages.into_iter().enumerate().map(|(place, ms)| (ms, (place as f64 + 1.0) / count)).collect()
}

const fn place(fault: Fault) -> Option<f64> {
    match fault {
        Fault::Kill => Some(1.0),
        Fault::Cut => Some(2.0),
        Fault::Freeze => Some(3.0),
        Fault::Move => Some(4.0),
        Fault::KillAndCut => None,
    }
}

#[cfg(test)]
mod tests {
    use super::distribution;
    use crate::failover::{Fault, Run, Series, Subject};

    #[test]
    fn a_distribution_ends_at_one() {
        let runs = [30.0, 10.0, 20.0, 20.0].map(|outage_ms| Run { outage_ms, ..Run::default() });
        let series = Series { runs: runs.to_vec(), ..Series::new(Subject::MAIN, Fault::Cut) };
        assert_eq!(distribution(&series), [(10.0, 0.25), (20.0, 0.5), (20.0, 0.75), (30.0, 1.0)]);
    }
}
