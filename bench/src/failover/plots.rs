//! The plots of `bench failover`: the outages of a cut link as cumulative distributions, of everybody, and closer by of those
//! with the same deadtime.

use super::report::is_compared;
use super::{Fault, Series, Subject};
use crate::report::{Curve, Plot, Scale};

/// Both of them, where there is anything to draw.
pub(super) fn draw(all: &[Series]) -> Vec<Plot> {
    let plot = |id, title, x: &str| Plot::new(id, title, x, "part of the failovers that took no longer");
    let of = |is_drawn: fn(Subject) -> bool| {
        let drawn = all.iter().filter(|series| series.fault == Fault::Cut && is_drawn(series.subject));
        drawn.map(|series| Curve::new(series.subject.title(), distribution(series))).collect::<Vec<_>>()
    };
    let mut everybody =
        plot("outage", "Outage seen by a client when the link of the serving node is cut", "outage, ms")
            .scale(Scale::Log, Scale::Linear)
            .from_x(1.0);
    everybody.curves = of(is_drawn);
    let mut close = plot(
        "outage-30ms",
        "The same at a deadtime of 30 ms, link cut",
        "outage, ms (a fault falls anywhere between two heartbeats)",
    )
    .from_x(10.0);
    close.curves = of(is_close);
    [everybody, close].into_iter().filter(|plot| !plot.curves.is_empty()).collect()
}

/// Those that are compared, the fastest and the slowest. With a witness it would lie upon the one without.
fn is_drawn(subject: Subject) -> bool {
    let is_extreme = subject.is_ours() && subject.interval() != Subject::MAIN.interval();
    (is_compared(subject) && subject != Subject::WITNESSED) || is_extreme
}

/// The deadtime that goals are about.
fn is_close(subject: Subject) -> bool {
    is_compared(subject) && subject.deadtime() == Subject::MAIN.deadtime()
}

/// Steps: each value, with the part that is no larger.
fn distribution(series: &Series) -> Vec<(f64, f64)> {
    let mut outages: Vec<f64> = series.runs.iter().map(|run| run.outage_ms).collect();
    outages.sort_by(f64::total_cmp);
    let count = outages.len() as f64;
    outages.into_iter().enumerate().map(|(place, ms)| (ms, (place as f64 + 1.0) / count)).collect()
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
