//! How far clocks may be wrong (design: Clocks). I1 holds for rates within 1000 ppm of true time; while CLOCK_MONOTONIC is
//! slewed faster, margins and waits grow with it.

use core::time::Duration;

use crate::mutation::{Mutated, Mutation};

/// A promise ends this much before the deadtime does: twice the 1000 ppm by which each of two clocks may be wrong.
const MARGIN_PPM: u32 = 2_000;
/// A slew up to this is within the 1000 ppm.
pub(crate) const SLEW_MAX_PPM: u32 = 500;
/// The kernel's bound of the slew is 83,333 ppm with chrony and 500 without; beyond this nothing is promised at all.
const PPM: u32 = 1_000_000;

/// The slew as last told, in parts per million.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slew {
    ppm: u32,
}

impl Slew {
    /// Takes what adjtimex said; true when it grew.
    pub(crate) const fn set(&mut self, ppm: u32) -> bool {
        let before = self.extra_ppm();
        self.ppm = ppm;
        self.extra_ppm() > before
    }

    /// *Clocks*: while |slew| > 500 ppm, twice it.
    pub(crate) const fn extra_ppm(self) -> u32 {
        if self.ppm > SLEW_MAX_PPM { self.ppm.saturating_mul(2) } else { 0 }
    }

    /// The margin of promises, in parts per million of the deadtime.
    pub(crate) fn margin_ppm(self, mutated: Mutated) -> u32 {
        let margin = if mutated.is(Mutation::MarginTooSmall) { MARGIN_PPM / 2 } else { MARGIN_PPM };
        margin.saturating_add(self.extra_ppm()).min(PPM)
    }

    /// How long a voter waits that waits for `span`.
    pub(crate) fn wait(self, span: Duration) -> Duration {
        span.saturating_add(share(span, self.extra_ppm()))
    }
}

/// `span x ppm / 1,000,000`, rounded up.
pub(crate) fn share(span: Duration, ppm: u32) -> Duration {
    let ns = span.as_nanos().saturating_mul(u128::from(ppm)).div_ceil(u128::from(PPM));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "slew_tests.rs"]
mod tests;
