//! Tests of `slew`: margins and waits.

use core::time::Duration;

use super::{Slew, extra_ppm, share};
use crate::mutation::{Mutated, Mutation};
use crate::time::Instant;

const NOW: Instant = Instant(1_000_000_000);
const LONGEST: Duration = Duration::from_secs(2);

#[test]
fn a_slew_that_has_ended_still_lengthens_the_waits_that_it_measured() {
    let mut slew = Slew::default();
    slew.set(50_000, NOW, LONGEST);
    assert!(!slew.set(0, NOW, LONGEST), "the margin may fall at once");
    assert_eq!(slew.margin_ppm(Mutated::default()), 2_000);
    let second = Duration::from_secs(1);
    let over = NOW.after(Duration::from_millis(2_200));
    slew.settle(Instant(over.0 - 1));
    assert_eq!(slew.wait(second), Duration::from_millis(1_100));
    slew.settle(over);
    assert_eq!(slew.wait(second), second);
}

#[test]
fn the_margin_grows_with_a_slew_beyond_what_is_allowed() {
    let table = [(0, 2_000, 0), (500, 2_000, 0), (501, 3_002, 1_002), (83_333, 168_666, 166_666)];
    for (ppm, margin, extra) in table {
        let mut slew = Slew::default();
        assert_eq!(slew.set(ppm, NOW, LONGEST), extra > 0);
        assert_eq!((slew.margin_ppm(Mutated::default()), extra_ppm(ppm)), (margin, extra), "{ppm} ppm");
        let waits = slew.wait(Duration::from_secs(1));
        assert_eq!(waits, Duration::from_secs(1) + Duration::from_micros(u64::from(extra)));
    }
    assert_eq!(Slew::default().margin_ppm(Mutated::by(Mutation::MarginTooSmall)), 1_000);
}

/// *Clocks*: the holder's clock at one extreme, the voter's at the other: the promise ends before the voter is free.
#[test]
fn a_promise_ends_before_the_voter_is_free_at_both_extremes() {
    for deadtime_us in [20_000_u64, 50_000, 500_000, 2_000_000, 60_000_000] {
        let deadtime = Duration::from_micros(deadtime_us);
        let promised = deadtime - share(deadtime, Slew::default().margin_ppm(Mutated::default()));
        // In true time, scaled by 1,001,000 x 999,000: a slow holder counts long, a fast voter short.
        let holder = promised.as_nanos() * 1_001_000;
        let voter = deadtime.as_nanos() * 999_000;
        assert!(holder < voter, "{deadtime:?}");
        let too_small = deadtime - share(deadtime, 1_000);
        assert!(too_small.as_nanos() * 1_001_000 >= voter, "the margin is needed");
    }
}

#[test]
fn a_share_is_rounded_up() {
    assert_eq!(share(Duration::from_nanos(1), 1), Duration::from_nanos(1));
    assert_eq!(share(Duration::from_secs(1), 1_000_000), Duration::from_secs(1));
    assert_eq!(share(Duration::MAX, u32::MAX).as_nanos(), u128::from(u64::MAX));
}
