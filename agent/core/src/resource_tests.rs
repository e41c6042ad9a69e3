//! Tests of `resource`: the table, and the numbers and pauses of effects.

use core::time::Duration;

use super::Input::{Done, Fail, Found, Start, Stop, Vanished};
use super::{
    ACQUIRE_TRIES_MAX, Effect, PAUSE_FIRST, PAUSE_MAX, REPAIR_PAUSE, Resource, Side, State, next, pause,
};
use crate::event::Failure;
use crate::time::Instant;

const NOW: Instant = Instant(1_000_000_000);
const PAST: Instant = Instant(1);
const LATER: Instant = Instant(2_000_000_000);

const fn acquiring(tries: u32, again: bool) -> State {
    State::Acquiring { tries, again }
}

const fn failed(side: Side, tries: u32, retry_at: Instant) -> State {
    State::Failed { side, tries, retry_at }
}

#[test]
fn every_state_and_input_has_its_successor() {
    use State::{Held, Released, Releasing};
    let acquire = Some(Effect::Acquire);
    let release = Some(Effect::Release);
    let due = failed(Side::Acquire, 1, PAST);
    let pausing = failed(Side::Acquire, 1, LATER);
    let spent = failed(Side::Acquire, ACQUIRE_TRIES_MAX, PAST);
    let stuck = failed(Side::Release, 1, LATER);
    let stuck_due = failed(Side::Release, 1, PAST);
    let after_first = NOW.after(PAUSE_FIRST);
    let fresh = acquiring(0, false);
    let releasing = Releasing { tries: 0 };
    let table = [
        (Released, Start, fresh, acquire),
        (Released, Stop, Released, None),
        (Released, Done, Released, None),
        (Released, Fail, Released, None),
        (Released, Vanished, Released, None),
        (Released, Found, releasing, release),
        (fresh, Start, fresh, None),
        (fresh, Stop, releasing, release),
        (fresh, Done, Held, None),
        (fresh, Fail, failed(Side::Acquire, 1, after_first), None),
        (fresh, Vanished, acquiring(0, true), None),
        (fresh, Found, fresh, None),
        (acquiring(0, true), Done, fresh, acquire),
        (Held, Start, Held, None),
        (Held, Stop, releasing, release),
        (Held, Done, Held, None),
        (Held, Fail, Held, None),
        (Held, Vanished, fresh, acquire),
        (Held, Found, Held, None),
        (releasing, Start, releasing, None),
        (releasing, Stop, releasing, None),
        (releasing, Done, Released, None),
        (releasing, Fail, failed(Side::Release, 1, after_first), None),
        (releasing, Vanished, releasing, None),
        (releasing, Found, releasing, None),
        (due, Start, acquiring(1, false), acquire),
        (pausing, Start, pausing, None),
        (spent, Start, spent, None),
        (due, Stop, releasing, release),
        (due, Done, due, None),
        (due, Fail, due, None),
        (due, Vanished, due, None),
        (due, Found, due, None),
        (stuck, Start, fresh, acquire),
        (stuck, Stop, stuck, None),
        (stuck_due, Stop, Releasing { tries: 1 }, release),
        (stuck, Done, stuck, None),
        (stuck, Fail, stuck, None),
        (stuck, Vanished, Released, None),
        (stuck, Found, stuck, None),
    ];
    for (state, input, expected, effect) in table {
        assert_eq!(next(state, input, NOW, PAST), (expected, effect), "{state:?} {input:?}");
    }
}

#[test]
fn repairs_are_bounded_in_rate() {
    let mut resource = Resource::new();
    let mut now = NOW;
    let mut acquired = 0;
    resource.feed(Start, now);
    // Somebody removes it every 100 us, for a second.
    for _ in 0..10_000 {
        now = now.after(Duration::from_micros(100));
        resource.feed(Done, now);
        acquired += u32::from(resource.feed(Vanished, now).is_some());
        acquired += u32::from(resource.feed(Start, now).is_some());
    }
    let bound = 2 * u32::try_from(Duration::from_secs(1).as_millis() / REPAIR_PAUSE.as_millis()).unwrap() + 2;
    assert!((5..=bound).contains(&acquired), "{acquired} repairs");
}

#[test]
fn an_answer_to_an_earlier_effect_changes_nothing() {
    let mut resource = Resource::new();
    let (_, first) = resource.feed(Start, NOW).unwrap();
    let (_, second) = resource.feed(Stop, NOW).unwrap();
    assert_ne!(first, second);
    resource.answer(Effect::Acquire, first, Ok(()), NOW);
    assert_eq!(resource.state(), State::Releasing { tries: 0 });
    resource.answer(Effect::Release, first, Ok(()), NOW);
    assert_eq!(resource.state(), State::Releasing { tries: 0 });
    resource.answer(Effect::Acquire, second, Ok(()), NOW);
    assert_eq!(resource.state(), State::Releasing { tries: 0 });
    resource.answer(Effect::Release, second, Ok(()), NOW);
    assert_eq!(resource.state(), State::Released);
}

#[test]
fn a_failing_acquisition_is_given_up_after_its_tries() {
    let mut resource = Resource::new();
    let mut now = NOW;
    let mut tries = 0;
    while !resource.is_given_up() {
        if let Some((Effect::Acquire, attempt)) = resource.feed(Start, now) {
            tries += 1;
            resource.answer(Effect::Acquire, attempt, Err(Failure::TimedOut), now);
        }
        now = resource.wake();
    }
    assert_eq!(tries, ACQUIRE_TRIES_MAX);
}

#[test]
fn a_failing_release_is_tried_for_ever_with_a_bounded_pause() {
    let mut resource = Resource::new();
    resource.feed(Found, NOW);
    let mut now = NOW;
    for _ in 0..100 {
        resource.feed(Fail, now);
        assert!(resource.is_stuck());
        assert!(resource.wake() > now && resource.wake() <= now.after(PAUSE_MAX));
        now = resource.wake();
        assert!(resource.feed(Stop, now).is_some());
        assert!(resource.is_stuck());
    }
    resource.feed(Done, now);
    assert!(!resource.is_stuck());
}

#[test]
fn the_pause_grows_and_ends() {
    assert_eq!(pause(1), PAUSE_FIRST);
    assert_eq!(pause(2), PAUSE_FIRST * 4);
    assert_eq!(pause(u32::MAX), PAUSE_MAX);
}
