//! Tests of `timers`: lateness is reported, but not often.

use core::time::Duration;

use super::{LATE_MIN, LATE_PAUSE, Punctuality};
use crate::time::Instant;

const START: Instant = Instant(1_000_000_000);

#[test]
fn lateness_above_the_bound_is_reported() {
    let bound = Duration::from_millis(10);
    let mut clock = Punctuality::new(bound, START);
    assert_eq!(clock.begin(START.after(bound)), None);
    let late = bound + Duration::from_nanos(1);
    assert_eq!(clock.begin(START.after(late)), Some(late));
}

#[test]
fn a_short_keepalive_does_not_make_it_fussy() {
    let mut clock = Punctuality::new(Duration::from_millis(1), START);
    assert_eq!(clock.begin(START.after(LATE_MIN)), None);
    assert!(clock.begin(START.after(LATE_MIN * 2)).is_some());
}

#[test]
fn reports_are_rate_limited() {
    let mut clock = Punctuality::new(Duration::ZERO, START);
    let mut reports = 0;
    let mut now = START;
    for _ in 0..1000 {
        clock.end(now);
        now = now.after(LATE_MIN * 2);
        reports += u32::from(clock.begin(now).is_some());
    }
    let seconds = u32::try_from(now.since(START).as_millis() / LATE_PAUSE.as_millis()).unwrap();
    assert!(reports > seconds / 2 && reports <= seconds + 1, "{reports}");
}
