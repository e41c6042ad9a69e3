//! Tests of `round_trip`: sums of two clocks at any distance, smoothing, and what is forgotten.

use core::time::Duration;

use super::RoundTrip;
use crate::time::Instant;

const FAR: u64 = 5_000_000_000_000_000;

#[test]
fn the_difference_of_the_clocks_cancels_out() {
    // (our clock, the peer's, when the peer sent): it takes 300 us to us and 200 us back.
    for (ours, theirs) in
        [(FAR, 7), (7, FAR), (FAR, FAR), (u64::MAX - 1_000_000, 1), (1, u64::MAX - 1_000_000)]
    {
        let mut trip = RoundTrip::default();
        assert_eq!((trip.delay(), trip.smoothed()), (None, None));
        trip.arrived(Instant(ours.wrapping_add(300_000)), theirs);
        let told = theirs.wrapping_add(200_000).wrapping_sub(ours).cast_signed();
        trip.echoed(told);
        assert_eq!(trip.smoothed(), Some(Duration::from_micros(500)), "{ours} {theirs}");
    }
}

#[test]
fn nothing_that_is_told_overflows_or_is_negative() {
    for told in [i64::MIN, -1, 0, 1, i64::MAX] {
        for sent in [1, FAR, u64::MAX] {
            let mut trip = RoundTrip::default();
            for at in [0, 1, FAR, u64::MAX] {
                trip.arrived(Instant(at), sent);
                trip.echoed(told);
                assert!(trip.smoothed().is_some());
            }
        }
    }
    let mut trip = RoundTrip::default();
    trip.arrived(Instant(1_000), 900);
    trip.echoed(-5_000);
    assert_eq!(trip.smoothed(), Some(Duration::ZERO), "clocks err, no frame comes back before it left");
}

#[test]
fn a_new_measure_is_an_eighth_and_nothing_is_measured_without_a_send_time() {
    let mut trip = RoundTrip::default();
    trip.echoed(5);
    assert_eq!(trip.smoothed(), None, "nothing arrived yet");
    trip.arrived(Instant(FAR), 0);
    trip.echoed(5);
    assert_eq!((trip.delay(), trip.smoothed()), (None, None), "nobody says when it was sent");
    trip.arrived(Instant(1_800), 1_000);
    trip.echoed(0);
    trip.echoed(800);
    assert_eq!(trip.smoothed(), Some(Duration::from_nanos(900)));
    for _ in 0..100 {
        trip.echoed(800);
    }
    assert!(trip.smoothed() > Some(Duration::from_nanos(1_580)));
    trip.forget();
    assert_eq!((trip.delay(), trip.smoothed()), (None, None));
}
