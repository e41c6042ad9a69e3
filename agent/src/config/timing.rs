//! `[timing]`: the intervals and what they must be to each other, so that a verdict means something.

use std::ops::RangeInclusive;
use std::time::Duration;

use agent_core::config::Timing;

use super::report::Findings;
use super::section::{At, Section};
use super::value::show_duration as show;

const KEEPALIVE: Duration = Duration::from_millis(10);
const KEEPALIVE_BOUNDS: RangeInclusive<Duration> = Duration::from_micros(500)..=Duration::from_secs(60);
const DEADTIME_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);
const INITDEAD_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const REACHTIME_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// Deadtime over keepalive unless the file says otherwise.
const MISSES: u32 = 5;
/// Least initdead that is chosen by default.
const INITDEAD_LEAST: Duration = Duration::from_secs(2);

/// The core's intervals, and `reachtime` as it was written.
pub(super) fn timing(root: &Section<'_>, findings: &mut Findings<'_>) -> (Timing, Option<At<Duration>>) {
    let keys = ["keepalive", "deadtime", "warntime", "initdead", "reachtime"];
    let Some(section) = root.table("timing", "[timing]", &keys, findings) else {
        return (defaults(KEEPALIVE), None);
    };
    let reachtime = section.duration("reachtime", REACHTIME_BOUNDS, findings);
    let keepalive = section.duration("keepalive", KEEPALIVE_BOUNDS, findings);
    let deadtime = section.duration("deadtime", DEADTIME_BOUNDS, findings);
    let warntime =
        section.duration("warntime", KEEPALIVE_BOUNDS.start().to_owned()..=*DEADTIME_BOUNDS.end(), findings);
    let initdead = section.duration("initdead", INITDEAD_BOUNDS, findings);

    let mut timing = defaults(keepalive.as_ref().map_or(KEEPALIVE, |at| at.value));
    if let Some(deadtime) = &deadtime {
        timing.deadtime = deadtime.value;
        timing.warntime = deadtime.value / 2;
        timing.initdead = INITDEAD_LEAST.max(deadtime.value * 2);
    }
    // A value that could not be read was reported; it is compared with nothing.
    let readable =
        keepalive.is_some() == section.has("keepalive") && deadtime.is_some() == section.has("deadtime");
    if readable {
        let place = deadtime.as_ref().or(keepalive.as_ref()).map_or(section.span(), |at| at.span.clone());
        misses(&timing, place, findings);
        deadtime_bounds(&timing, warntime.as_ref(), initdead.as_ref(), findings);
    }
    timing.warntime = warntime.map_or(timing.warntime, |at| at.value);
    timing.initdead = initdead.map_or(timing.initdead, |at| at.value);
    (timing, reachtime)
}

fn defaults(keepalive: Duration) -> Timing {
    let deadtime = keepalive * MISSES;
    Timing { keepalive, deadtime, warntime: deadtime / 2, initdead: INITDEAD_LEAST.max(deadtime * 2) }
}

fn misses(timing: &Timing, place: std::ops::Range<usize>, findings: &mut Findings<'_>) {
    let Timing { keepalive, deadtime, .. } = *timing;
    let (every, dead) = (show(keepalive), show(deadtime));
    let remedy = format!("write deadtime = \"{}\" or more, or a shorter keepalive", show(keepalive * 3));
    if deadtime <= keepalive * 2 {
        let message = format!(
            "deadtime {dead} is not more than twice the keepalive of {every}: one lost heartbeat would be a death"
        );
        findings.error(place, message, remedy);
    } else if deadtime < keepalive * 3 {
        let message = format!(
            "deadtime {dead} is less than three times the keepalive of {every}: two lost heartbeats are a death"
        );
        findings.warn(place, message, remedy);
    }
}

fn deadtime_bounds(
    timing: &Timing,
    warntime: Option<&At<Duration>>,
    initdead: Option<&At<Duration>>,
    findings: &mut Findings<'_>,
) {
    let dead = show(timing.deadtime);
    if let Some(At { value, span }) = warntime {
        if *value >= timing.deadtime {
            let message =
                format!("warntime {} is not below deadtime {dead}: it would never warn", show(*value));
            findings.error(
                span.clone(),
                message,
                format!("write warntime = \"{}\"", show(timing.deadtime / 2)),
            );
        } else if *value <= timing.keepalive {
            let every = show(timing.keepalive);
            let message =
                format!("warntime {} is not above keepalive {every}: it warns all the time", show(*value));
            findings.warn(
                span.clone(),
                message,
                format!("write warntime = \"{}\"", show(timing.deadtime / 2)),
            );
        }
    }
    if let Some(At { value, span }) = initdead
        && *value < timing.deadtime
    {
        let message = format!("initdead {} is below deadtime {dead}, which it bounds", show(*value));
        let least = INITDEAD_LEAST.max(timing.deadtime * 2);
        findings.error(span.clone(), message, format!("write initdead = \"{}\"", show(least)));
    }
}
