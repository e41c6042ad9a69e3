//! True time and the clocks of the nodes: each has its own offset and its own rate, and may stand still for a while.
//! True time is nanoseconds since the run began; no node ever sees it.

use agent_core::Instant;

/// A rate of one: a local microsecond takes this many true picoseconds.
const UNITY: u64 = 1_000_000;

/// CLOCK_MONOTONIC of one machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// True time from which `rate` holds.
    from: u64,
    /// What the clock showed then.
    shown: u64,
    /// Local nanoseconds in a million true ones; 0 while it stands.
    rate: u64,
    /// The rate when it runs.
    running: u64,
}

impl Clock {
    /// A clock that shows `shown` at the true time `now` and errs by `ppm`.
    pub(super) fn new(now: u64, shown: u64, ppm: i64) -> Self {
        let rate = UNITY.saturating_add_signed(ppm);
        Self { from: now, shown, rate, running: rate }
    }

    /// What it shows at the true time `now`.
    pub(super) fn at(&self, now: u64) -> Instant {
        Instant(self.shown + now.saturating_sub(self.from) * self.rate / UNITY)
    }

    /// The first true time at which it shows `local` or more; `u64::MAX` for never.
    pub(super) fn when(&self, local: Instant) -> u64 {
        let missing = local.0.saturating_sub(self.shown);
        if missing == 0 {
            return self.from;
        }
        if self.rate == 0 {
            return u64::MAX;
        }
        let span = (u128::from(missing) * u128::from(UNITY)).div_ceil(u128::from(self.rate));
        u64::try_from(span).unwrap_or(u64::MAX).saturating_add(self.from)
    }

    /// From now on it errs by `ppm`.
    pub(super) fn drift(&mut self, now: u64, ppm: i64) {
        self.running = UNITY.saturating_add_signed(ppm);
        if self.rate != 0 {
            self.turn(now, self.running);
        }
    }

    /// It stands still.
    pub(super) fn stop(&mut self, now: u64) {
        self.turn(now, 0);
    }

    /// It goes on.
    pub(super) fn go(&mut self, now: u64) {
        self.turn(now, self.running);
    }

    fn turn(&mut self, now: u64, rate: u64) {
        (self.shown, self.from) = (self.at(now).0, now);
        self.rate = rate;
    }
}

#[cfg(test)]
mod tests {
    use agent_core::Instant;

    use super::Clock;

    #[test]
    fn when_is_the_first_moment_at_which_the_clock_shows_it() {
        for ppm in [-1000, -3, 0, 7, 1000] {
            let clock = Clock::new(17, 1_000_000, ppm);
            for local in [1_000_001, 1_000_999, 5_000_000_123] {
                let when = clock.when(Instant(local));
                assert!(clock.at(when).0 >= local && clock.at(when - 1).0 < local, "{ppm} {local}");
            }
        }
    }

    #[test]
    fn a_standing_clock_shows_the_same_and_then_goes_on() {
        let mut clock = Clock::new(0, 0, 1000);
        clock.stop(1000);
        assert_eq!((clock.at(9000).0, clock.when(Instant(2000))), (1001, u64::MAX));
        clock.go(9000);
        assert_eq!(clock.at(10_000).0, 2002);
    }
}
