//! Tests of `log`: until(s) as the least over later heartbeats, the bound of the ring, shortening.

use core::time::Duration;

use super::{LOG_LEN, SentLog};
use crate::mutation::{Mutated, Mutation};
use crate::time::Instant;

const MARGIN: u32 = 2_000;
const D: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(2);

const fn ms(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

/// `at + deadtime x 998/1000`, in microseconds.
const fn us(us: u64) -> Instant {
    Instant(us * 1000)
}

fn log(beats: &[(u64, u64, Duration)], mutated: Mutated) -> SentLog {
    let mut log = SentLog::new(mutated);
    beats.iter().for_each(|(seq, at, deadtime)| log.append(*seq, ms(*at), *deadtime, MARGIN));
    log
}

#[test]
fn a_heartbeat_promises_its_deadtime_less_the_margin() {
    let log = log(&[(1, 0, D), (2, 10, D)], Mutated::default());
    assert_eq!(log.until(1), Some(us(49_900)));
    assert_eq!(log.until(2), Some(us(59_900)));
    assert_eq!(log.newest_until(), us(59_900));
    assert_eq!((log.until(0), log.until(3)), (None, None), "never sent");
}

#[test]
fn what_was_sent_by_then_is_found() {
    let log = log(&[(1, 10, D), (2, 20, D), (3, 30, D)], Mutated::default());
    assert_eq!(log.until_sent_by(ms(9)), Instant::ZERO, "before the first");
    assert_eq!(log.until_sent_by(ms(20)), us(69_900));
    assert_eq!(log.until_sent_by(ms(29)), us(69_900));
    assert_eq!(log.until_sent_by(ms(1_000)), us(79_900));
    assert_eq!(SentLog::new(Mutated::default()).until_sent_by(ms(1_000)), Instant::ZERO);
}

#[test]
fn announcing_less_shortens_what_came_before() {
    let beats = [(1, 0, D), (2, 10, LONG), (3, 20, LONG), (4, 30, D)];
    let shortened = log(&beats, Mutated::default());
    let untils: std::vec::Vec<_> = (1..=4).filter_map(|seq| shortened.until(seq)).collect();
    assert_eq!(untils, [us(49_900), us(79_900), us(79_900), us(79_900)]);
    let broken = log(&beats, Mutated::by(Mutation::AcksAfterShortenedDeadtime));
    assert_eq!(broken.until(2), Some(us(2_006_000)), "the witness");
}

#[test]
fn untils_never_fall_with_the_number() {
    let mut log = SentLog::new(Mutated::default());
    for seq in 1..500_u64 {
        let deadtime = Duration::from_millis(20 + seq * 7919 % 300);
        log.append(seq, ms(seq * 10), deadtime, MARGIN);
        let untils: std::vec::Vec<_> = log.iter().map(|sent| sent.until).collect();
        assert!(untils.is_sorted(), "after {seq}");
    }
}

#[test]
fn what_fell_out_of_the_ring_promises_nothing() {
    let mut log = SentLog::new(Mutated::default());
    let last = LOG_LEN as u64 + 10;
    (1..=last).for_each(|seq| log.append(seq, ms(seq), D, MARGIN));
    assert_eq!(log.until(10), None);
    assert!(log.until(11).is_some() && log.until(last).is_some());
    assert_eq!(log.iter().count(), LOG_LEN);
}

#[test]
fn a_gap_in_the_numbers_forgets_what_came_before() {
    let log = log(&[(1, 0, D), (2, 10, D), (9, 20, D)], Mutated::default());
    assert_eq!((log.until(2), log.until(9)), (None, Some(us(69_900))));
}

#[test]
fn shortening_binds_all_that_was_sent() {
    let mut log = log(&[(1, 0, LONG), (2, 10, LONG)], Mutated::default());
    log.shorten(us(60_000));
    assert_eq!((log.until(1), log.until(2)), (Some(us(60_000)), Some(us(60_000))));
    log.append(3, ms(20), D, MARGIN);
    assert_eq!(log.until(3), Some(us(69_900)));
}

#[test]
fn a_heartbeat_that_did_not_leave_carries_nothing() {
    let mut log = log(&[(1, 0, D), (2, 10, D)], Mutated::default());
    log.withdraw_newest();
    assert_eq!(log.newest_until(), us(49_900));
}

#[test]
fn a_wider_margin_counts_for_what_was_sent_already() {
    let mut log = log(&[(1, 0, D)], Mutated::default());
    log.widen_margin(102_000);
    assert_eq!(log.until(1), Some(us(44_900)));
}
