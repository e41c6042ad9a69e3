//! The round trip over one link of one peer, of two delays that each side measured by its own clock.
//!
//! Our delay is the stamp of a heartbeat here minus its send time there, so it holds the difference of the clocks; the delay that the
//! peer tells of ours holds the same difference with the other sign. Their sum is the round trip (RFC 5905, section 8), without
//! the time that either side waited in between. It is smoothed like a TCP round trip (RFC 6298, section 2): 7/8 of the old, 1/8 of
//! the new. Nothing is decided by it.

use core::time::Duration;

use crate::time::Instant;

/// Of how many parts a new measure is one.
const SMOOTHING: u64 = 8;

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoundTrip {
    /// Nanoseconds, of two clocks.
    delay: Option<i64>,
    /// Nanoseconds.
    smoothed: Option<u64>,
}

impl RoundTrip {
    /// A heartbeat was stamped here at `at` that says it was sent at `sent_ns` of the peer's clock, 0 for unknown.
    pub(crate) const fn arrived(&mut self, at: Instant, sent_ns: u64) {
        // The clocks may be any distance apart: the difference is taken as it is, modulo 2^64.
        self.delay = if sent_ns == 0 { None } else { Some(at.0.wrapping_sub(sent_ns).cast_signed()) };
    }

    /// The peer told the delay of our heartbeats, in nanoseconds. Clocks that err may make the sum negative: that is 0.
    pub(crate) fn echoed(&mut self, told: i64) {
        let Some(own) = self.delay else { return };
        let measured = own.saturating_add(told).max(0).cast_unsigned();
        self.smoothed = Some(match self.smoothed {
            None => measured,
            Some(before) => before - before / SMOOTHING + measured / SMOOTHING,
        });
    }

    /// What is told to the peer.
    pub(crate) const fn delay(&self) -> Option<i64> {
        self.delay
    }

    /// The round trip, once measured.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed.map(Duration::from_nanos)
    }

    /// The link died, or the peer started anew with another clock.
    pub(crate) const fn forget(&mut self) {
        (self.delay, self.smoothed) = (None, None);
    }
}

#[cfg(test)]
#[path = "round_trip_tests.rs"]
mod tests;
