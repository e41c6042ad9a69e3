//! Time as an argument: nanoseconds of CLOCK_MONOTONIC, the clock of `bpf_ktime_get_ns`, so a kernel stamp *is* a core time.
//! Intervals are `core::time::Duration`; all arithmetic saturates.

use core::time::Duration;

/// A moment of CLOCK_MONOTONIC in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Instant(pub u64);

impl Instant {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);
    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// `self + span`, at most [`Instant::NEVER`].
    pub const fn after(self, span: Duration) -> Self {
        let ns = span.as_nanos();
        if ns > u64::MAX as u128 { Self::NEVER } else { Self(self.0.saturating_add(ns as u64)) }
    }

    /// `self - span`, at least [`Instant::ZERO`].
    pub const fn before(self, span: Duration) -> Self {
        let ns = span.as_nanos();
        if ns > u64::MAX as u128 { Self::ZERO } else { Self(self.0.saturating_sub(ns as u64)) }
    }

    /// How long ago `earlier` was, zero if it is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
