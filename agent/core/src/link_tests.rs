//! Tests of `link`: the table, and the hysteresis and deadlines of one link.

use core::time::Duration;

use super::{Link, Pace, REVIVE_FRAMES, Sign, next};
use crate::event::LinkReading;
use crate::snapshot::LinkState::{self, Dead, Late, Unknown, Up};
use crate::time::Instant;

const FEW: u64 = REVIVE_FRAMES - 1;
const PACE: Pace = Pace { warntime: ms(25), deadtime: ms(50), interval: None };

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

#[test]
fn every_state_and_sign_has_its_successor() {
    let fresh = |revived| Sign::Fresh { revived };
    let table: [(LinkState, Sign, LinkState); 16] = [
        (Unknown, fresh(1), Up),
        (Unknown, Sign::Overdue, Late),
        (Unknown, Sign::Expired, Dead),
        (Up, fresh(1), Up),
        (Up, Sign::Overdue, Late),
        (Up, Sign::Expired, Dead),
        (Late, fresh(FEW), Late),
        (Late, fresh(REVIVE_FRAMES), Up),
        (Late, Sign::Overdue, Late),
        (Late, Sign::Expired, Dead),
        (Dead, fresh(0), Dead),
        (Dead, fresh(FEW), Dead),
        (Dead, fresh(REVIVE_FRAMES), Up),
        (Dead, Sign::Overdue, Dead),
        (Dead, Sign::Expired, Dead),
        (Up, fresh(0), Up),
    ];
    for (state, sign, expected) in table {
        assert_eq!(next(state, sign), expected, "{state:?} {sign:?}");
    }
}

fn frame(at: Instant, frames: u64) -> LinkReading {
    LinkReading { at: Some(at), seq: frames, first_seq: 1, frames, ..LinkReading::default() }
}

#[test]
fn a_dead_link_needs_several_frames_to_be_up_again() {
    let mut link = Link::default();
    assert_eq!(link.read(&frame(at(0), 1), at(1), PACE), (Unknown, Up));
    assert_eq!(link.deadline(), Instant(at(25).0 + 1));
    assert_eq!(link.read(&frame(at(0), 1), at(26), PACE), (Up, Late));
    assert_eq!(link.deadline(), Instant(at(50).0 + 1));
    assert_eq!(link.read(&frame(at(0), 1), at(50), PACE), (Late, Late));
    assert_eq!(link.read(&frame(at(0), 1), Instant(at(50).0 + 1), PACE), (Late, Dead));
    assert_eq!(link.deadline(), Instant::NEVER);
    assert_eq!(link.read(&frame(at(60), 2), at(60), PACE), (Dead, Dead));
    assert_eq!(link.read(&frame(at(70), 3), at(70), PACE), (Dead, Dead));
    assert_eq!(link.read(&frame(at(80), 4), at(80), PACE), (Dead, Up));
}

#[test]
fn frames_far_apart_do_not_revive_a_link() {
    let mut link = Link::default();
    link.read(&frame(at(0), 1), at(1), PACE);
    link.read(&frame(at(0), 1), at(100), PACE);
    for step in 1..10 {
        let seen = at(1000 * step);
        link.read(&frame(seen, 1 + step), seen, PACE);
        let (_, state) = link.read(&frame(seen, 1 + step), seen.after(ms(900)), PACE);
        assert_eq!(state, Dead);
    }
}

#[test]
fn a_slow_link_is_judged_by_its_own_pace() {
    let slow = Pace { warntime: ms(25 * 100), deadtime: ms(50 * 100), interval: Some(ms(1000)) };
    let mut link = Link::default();
    link.read(&frame(at(0), 1), at(1), slow);
    assert_eq!(link.read(&frame(at(0), 1), at(2400), slow), (Up, Up));
    assert_eq!(link.read(&frame(at(0), 1), at(4900), slow), (Up, Late));
    assert_eq!(link.read(&frame(at(0), 1), at(5001), slow), (Late, Dead));
}

#[test]
fn a_restart_keeps_the_verdict_and_counts_anew() {
    let mut link = Link::default();
    link.read(&frame(at(0), 1000), at(1), PACE);
    link.read(&frame(at(0), 1000), at(60), PACE);
    link.restart();
    assert_eq!(link.read(&frame(at(70), 2), at(70), PACE), (Dead, Dead));
    assert_eq!(link.read(&frame(at(80), 3), at(80), PACE), (Dead, Up));
}

#[test]
fn a_late_link_needs_several_frames_without_a_silence_to_be_up_again() {
    let mut link = Link::default();
    link.read(&frame(at(0), 1), at(1), PACE);
    assert_eq!(link.read(&frame(at(0), 1), at(26), PACE), (Up, Late));
    assert_eq!(link.read(&frame(at(30), 2), at(30), PACE), (Late, Late));
    assert_eq!(link.read(&frame(at(40), 3), at(40), PACE), (Late, Late));
    assert_eq!(link.read(&frame(at(50), 4), at(50), PACE), (Late, Up));
}

#[test]
fn a_link_at_the_edge_does_not_flap() {
    // Frames 24 and 26 ms apart by turns, with a warntime of 25 ms.
    for looks_between in [true, false] {
        let mut link = Link::default();
        let (mut now, mut changes) = (0, 0);
        for step in 1..200 {
            let gap = if step % 2 == 0 { 24 } else { 26 };
            if looks_between {
                let (from, to) = link.read(&frame(at(now), step), at(now + gap - 1).after(ms(1)), PACE);
                changes += u32::from(from != to);
            }
            now += gap;
            let (from, to) = link.read(&frame(at(now), step + 1), at(now), PACE);
            changes += u32::from(from != to);
        }
        assert!(changes <= 2, "{changes} changes, looked at between the frames: {looks_between}");
    }
}
