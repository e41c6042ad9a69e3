//! Tests of `loss`: the figure reacts to loss and forgets it.

use core::time::Duration;

use super::{LossWindow, MARKS};
use crate::event::LinkReading;
use crate::time::Instant;

/// Feeds `seconds` of 100 frames each, of which `kept` arrive.
fn carry(window: &mut LossWindow, link: &mut LinkReading, seconds: u64, kept: u64) {
    for _ in 0..seconds * 100 {
        link.seq += 1;
        if link.seq % 100 < kept {
            link.frames += 1;
            link.at = Some(Instant(link.seq * 10_000_000));
            window.feed(link, Instant(link.seq * 10_000_000));
        }
    }
}

#[test]
fn loss_shows_and_is_forgotten() {
    let mut window = LossWindow::default();
    let mut link = LinkReading { at: None, seq: 0, first_seq: 1, frames: 0, ..LinkReading::default() };
    assert_eq!(window.missed_ppm(None), 0);
    carry(&mut window, &mut link, 20, 100);
    assert_eq!(window.missed_ppm(None), 0);
    carry(&mut window, &mut link, 20, 70);
    let lossy = window.missed_ppm(None);
    assert!((260_000..=310_000).contains(&lossy), "{lossy}");
    carry(&mut window, &mut link, MARKS as u64 + 2, 100);
    assert_eq!(window.missed_ppm(None), 0);
}

#[test]
fn loss_before_the_first_mark_is_seen() {
    let mut window = LossWindow::default();
    window.feed(
        &LinkReading { at: None, seq: 1, first_seq: 1, frames: 1, ..LinkReading::default() },
        Instant(1),
    );
    window.feed(
        &LinkReading { at: None, seq: 10, first_seq: 1, frames: 5, ..LinkReading::default() },
        Instant(2),
    );
    assert_eq!(window.missed_ppm(None), 500_000);
}

#[test]
fn a_slow_link_is_measured_by_time() {
    let mut window = LossWindow::default();
    for second in 0..5_u64 {
        let link = LinkReading {
            at: None,
            seq: second * 100,
            first_seq: 0,
            frames: second + 1,
            ..LinkReading::default()
        };
        window.feed(&link, Instant(second * 1_000_000_000));
    }
    assert_eq!(window.missed_ppm(Some(Duration::from_secs(1))), 0);
    assert_eq!(window.missed_ppm(Some(Duration::from_millis(500))), 375_000);
}

#[test]
fn a_counter_that_goes_back_is_no_loss_and_no_panic() {
    let mut window = LossWindow::default();
    window.feed(
        &LinkReading {
            at: None,
            seq: u64::MAX,
            first_seq: u64::MAX,
            frames: u64::MAX,
            ..LinkReading::default()
        },
        Instant(1),
    );
    window.feed(
        &LinkReading { at: None, seq: 0, first_seq: 0, frames: 0, ..LinkReading::default() },
        Instant::NEVER,
    );
    assert_eq!(window.missed_ppm(None), 0);
    assert!(window.missed_ppm(Some(Duration::ZERO)) <= 1_000_000);
}
