//! Groups by their answers, with the clock in the test's hand.

use std::time::Duration;

use agent_core::Instant;

use super::{Answer, OPEN_MAX, Place, Watch};
use crate::ping::PingState::{self, Dead, Unknown, Up};
use crate::settings::{PingSettings, PingTarget};

const FIRST: Place = Place { group: 0, target: 0 };
const SECOND: Place = Place { group: 0, target: 1 };

const fn at(ms: u64) -> Instant {
    Instant(1_000_000_000 + ms * 1_000_000)
}

/// Groups of so many targets, asked every 100 ms, dead after 400 ms.
fn watch(groups: &[u8]) -> Watch {
    let ping = |targets: &u8| PingSettings {
        name: "p".to_owned(),
        targets: (0..*targets)
            .map(|host| PingTarget { address: [192, 0, 2, host].into(), interface: None })
            .collect(),
        interval: Duration::from_millis(100),
        deadtime: Duration::from_millis(400),
    };
    Watch::new(&groups.iter().map(ping).collect::<Vec<_>>(), at(0))
}

fn changes(watch: &mut Watch) -> Vec<(usize, PingState, PingState)> {
    watch.take_changes().map(|change| (change.group, change.from, change.to)).collect()
}

/// One group that is up since 10 ms, with the next request at 100 ms.
fn up() -> Watch {
    let mut watch = watch(&[1]);
    let sequence = watch.ask(FIRST, at(0));
    assert!(watch.answer(FIRST, sequence, at(10)).is_some());
    assert_eq!(changes(&mut watch), [(0, Unknown, Up)]);
    watch
}

/// One group that is dead since 500 ms.
fn dead() -> Watch {
    let mut watch = up();
    watch.ask(FIRST, at(100));
    watch.judge(at(500));
    assert_eq!(changes(&mut watch), [(0, Up, Dead)]);
    watch
}

#[test]
fn the_first_answer_is_enough_at_the_start_and_silence_is_death() {
    assert_eq!((watch(&[1]).score(), up().score()), (None, Some(1)));
    let mut silent = watch(&[1]);
    silent.ask(FIRST, at(0));
    silent.judge(at(399));
    assert_eq!((changes(&mut silent), silent.next()), (vec![], at(100)));
    silent.judge(at(400));
    assert_eq!(changes(&mut silent), [(0, Unknown, Dead)]);
    assert_eq!((silent.score(), silent.target_state(FIRST)), (Some(0), Dead));
}

#[test]
fn silence_runs_from_the_first_request_without_an_answer() {
    let mut watch = up();
    watch.ask(FIRST, at(100));
    watch.ask(FIRST, at(200));
    watch.judge(at(499));
    assert_eq!(watch.score(), Some(1));
    watch.judge(at(500));
    assert_eq!((watch.score(), changes(&mut watch)), (Some(0), vec![(0, Up, Dead)]));
}

#[test]
fn who_slept_and_asked_nothing_calls_nobody_dead() {
    let mut watch = up();
    watch.judge(at(60_000));
    assert_eq!(watch.score(), Some(1));
    // And there is no burst of what was missed.
    assert_eq!(watch.due(at(60_000)), Some(FIRST));
    watch.ask(FIRST, at(60_000));
    assert_eq!((watch.due(at(60_000)), watch.next()), (None, at(60_100)));
}

#[test]
fn a_dead_group_needs_two_answers_and_the_second_to_a_later_request() {
    let mut watch = dead();
    let first = watch.ask(FIRST, at(600));
    let second = watch.ask(FIRST, at(605));
    assert!(watch.answer(FIRST, first, at(610)).is_some());
    assert!(watch.answer(FIRST, second, at(615)).is_some());
    assert_eq!((watch.score(), watch.target_state(FIRST)), (Some(0), Up));
    let third = watch.ask(FIRST, at(700));
    assert!(watch.answer(FIRST, third, at(710)).is_some());
    assert_eq!((watch.score(), changes(&mut watch)), (Some(1), vec![(0, Dead, Up)]));
}

#[test]
fn one_answer_now_and_then_does_not_revive_a_group() {
    let mut watch = dead();
    for round in 1..5 {
        let sequence = watch.ask(FIRST, at(round * 1000));
        assert!(watch.answer(FIRST, sequence, at(round * 1000 + 1)).is_some());
        watch.judge(at(round * 1000 + 500));
    }
    assert_eq!((watch.score(), changes(&mut watch)), (Some(0), vec![]));
}

#[test]
fn any_target_holds_its_group_and_no_other() {
    let mut watch = watch(&[2, 1]);
    for ms in (0..1000).step_by(100) {
        watch.ask(FIRST, at(ms));
        watch.ask(Place { group: 1, target: 0 }, at(ms));
        let sequence = watch.ask(SECOND, at(ms + 50));
        assert!(watch.answer(SECOND, sequence, at(ms + 60)).is_some());
        watch.judge(at(ms + 70));
    }
    assert_eq!(watch.score(), Some(1));
    assert_eq!((watch.target_state(FIRST), watch.target_state(SECOND)), (Dead, Up));
    assert_eq!(changes(&mut watch), [(0, Unknown, Up), (1, Unknown, Dead)]);
}

#[test]
fn an_answer_counts_once_in_time_and_for_its_own_target() {
    let mut watch = watch(&[2]);
    let sequence = watch.ask(FIRST, at(0));
    assert_eq!(watch.answer(SECOND, sequence, at(1)), None, "the second was not asked");
    assert_eq!(watch.answer(FIRST, sequence + 1, at(1)), None, "not sent yet");
    assert_eq!(watch.answer(Place { group: 7, target: 0 }, sequence, at(1)), None);
    let answer = watch.answer(FIRST, sequence, at(3)).unwrap();
    assert_eq!(answer, Answer { sent: at(0), rtt: Duration::from_millis(3) });
    assert_eq!(watch.answer(FIRST, sequence, at(4)), None, "a copy");

    let late = watch.ask(FIRST, at(100));
    assert_eq!(watch.answer(FIRST, late, at(501)), None, "later than the deadtime");
    let old = watch.ask(FIRST, at(600));
    for _ in 0..OPEN_MAX {
        watch.ask(FIRST, at(601));
    }
    assert_eq!(watch.answer(FIRST, old, at(602)), None, "as many later ones are open");
    assert!(watch.answer(FIRST, old + 1, at(602)).is_some());
}

#[test]
fn requests_are_spread_and_nothing_is_due_without_groups() {
    let mut watch = watch(&[2]);
    assert_eq!(watch.due(at(0)), Some(FIRST));
    watch.ask(FIRST, at(0));
    assert_eq!((watch.due(at(49)), watch.due(at(50))), (None, Some(SECOND)));
    watch.ask(SECOND, at(50));
    assert_eq!(watch.next(), at(100));
    assert_eq!(super::Watch::new(&[], at(0)).next(), Instant::NEVER);
}

#[test]
fn the_next_wake_is_the_verdict_when_it_comes_before_a_request() {
    let mut watch = dead();
    assert_eq!(watch.next(), at(200), "dead, it is only asked");
    watch = up();
    for ms in [100, 200, 300, 400, 495] {
        watch.ask(FIRST, at(ms));
    }
    assert_eq!(watch.next(), at(500));
}
