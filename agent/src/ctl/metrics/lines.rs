//! The metrics of this node's serial lines, by device.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Family, Labels, Series, flag};
use crate::ctl::status::Sources;
use crate::serial::{self, LineSettings};
use crate::stats::LineStats;

/// A counter without a direction: its name, what it means, and where it stands.
type Plain = (&'static str, &'static str, fn(&LineStats) -> &AtomicU64);

const PLAIN: [Plain; 6] = [
    ("serial_forwarded", "Heartbeats of other nodes that were sent on over the line", |line| &line.forwarded),
    ("serial_returned", "Own heartbeats that came back on the line", |line| &line.returned),
    ("serial_noise", "What was read between two delimiters and is no heartbeat", |line| &line.noise),
    ("serial_overlong", "The same, longer than any frame", |line| &line.overlong),
    (
        "serial_dropped",
        "Heartbeats that did not leave: replaced by newer ones, lost with the line, or at their hop limit",
        |line| &line.dropped,
    ),
    ("serial_reopened", "Times that the device was opened again after it had been lost", |line| {
        &line.reopened
    }),
];

pub(super) fn lines(from: &Sources<'_>, out: &mut Vec<Family>) {
    let lines = serial::lines(from.settings);
    let each = || lines.iter().zip(&from.stats.lines);
    let device = |line: &LineSettings| ("device", line.device.display().to_string());
    out.push(Family {
        name: "serial_open",
        help: "1 while the device is open",
        series: Series::Gauge(
            each()
                .map(|(line, stats)| (vec![device(line)], flag(stats.open.load(Ordering::Relaxed) != 0)))
                .collect(),
        ),
    });
    let both = |received: fn(&LineStats) -> &AtomicU64, sent: fn(&LineStats) -> &AtomicU64| {
        let of = |(line, stats): (&LineSettings, &LineStats)| {
            let labels =
                |direction: &str| -> Labels { vec![device(line), ("direction", direction.to_owned())] };
            [(labels("received"), read(received(stats))), (labels("sent"), read(sent(stats)))]
        };
        Series::Counter(each().flat_map(of).collect())
    };
    out.push(Family {
        name: "serial_bytes",
        help: "Bytes of the line",
        series: both(|line| &line.received_bytes, |line| &line.sent_bytes),
    });
    out.push(Family {
        name: "serial_frames",
        help: "Frames of the line, own and others'",
        series: both(|line| &line.received_frames, |line| &line.sent_frames),
    });
    for (name, help, of) in PLAIN {
        let series = each().map(|(line, stats)| (vec![device(line)], read(of(stats)))).collect();
        out.push(Family { name, help, series: Series::Counter(series) });
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
