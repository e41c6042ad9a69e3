//! How far clocks may be wrong (design: Clocks). I1 holds for rates within 1000 ppm of true time; while CLOCK_MONOTONIC is
//! slewed faster, margins and waits grow with it; a wait of which a part was measured by the fast clock stays long when the
//! slew has ended.

use core::time::Duration;

use crate::carried::CarriedSlew;
use crate::mutation::{Mutated, Mutation};
use crate::time::Instant;

/// A promise ends this much before the deadtime does: twice the 1000 ppm by which each of two clocks may be wrong.
const MARGIN_PPM: u32 = 2_000;
/// A slew up to this is within the 1000 ppm.
pub(crate) const SLEW_MAX_PPM: u32 = 500;
/// The kernel's bound of the slew is 83,333 ppm with chrony and 500 without; beyond this nothing is promised at all.
const PPM: u32 = 1_000_000;

/// The slew as last told, in parts per million, and the worst of the time that a wait may have begun in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slew {
    ppm: u32,
    worst_ppm: u32,
    /// Until then a wait that still runs may have been measured at the worst rate.
    worst_until: Instant,
}

impl Slew {
    /// Takes what adjtimex said; true when it grew. No wait is longer than `longest`: for so long the worst rate counts.
    pub(crate) fn set(&mut self, ppm: u32, now: Instant, longest: Duration) -> bool {
        let grew = extra_ppm(ppm) > extra_ppm(self.ppm);
        self.ppm = ppm;
        self.worst_ppm = self.worst_ppm.max(ppm);
        self.worst_until = if ppm < self.worst_ppm { now.after(self.wait(longest)) } else { Instant::NEVER };
        grew
    }

    /// Forgets the worst rate once nothing that it measured can still run.
    pub(crate) fn settle(&mut self, now: Instant) {
        if now >= self.worst_until {
            (self.worst_ppm, self.worst_until) = (self.ppm, Instant::NEVER);
        }
    }

    /// What is handed over of it.
    pub(crate) const fn carry(self) -> CarriedSlew {
        CarriedSlew { ppm: self.ppm, worst_ppm: self.worst_ppm, worst_until: self.worst_until }
    }

    /// Takes up what was handed over.
    pub(crate) const fn restored(carried: CarriedSlew) -> Self {
        Self { ppm: carried.ppm, worst_ppm: carried.worst_ppm, worst_until: carried.worst_until }
    }

    /// The margin of promises, in parts per million of the deadtime.
    pub(crate) fn margin_ppm(self, mutated: Mutated) -> u32 {
        let margin = if mutated.is(Mutation::MarginTooSmall) { MARGIN_PPM / 2 } else { MARGIN_PPM };
        margin.saturating_add(extra_ppm(self.ppm)).min(PPM)
    }

    /// How long a voter waits that waits for `span`.
    pub(crate) fn wait(self, span: Duration) -> Duration {
        span.saturating_add(share(span, extra_ppm(self.worst_ppm)))
    }
}

/// *Clocks*: while |slew| > 500 ppm, twice it.
const fn extra_ppm(ppm: u32) -> u32 {
    if ppm > SLEW_MAX_PPM { ppm.saturating_mul(2) } else { 0 }
}

/// `span x ppm / 1,000,000`, rounded up.
pub(crate) fn share(span: Duration, ppm: u32) -> Duration {
    let ns = span.as_nanos().saturating_mul(u128::from(ppm)).div_ceil(u128::from(PPM));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "slew_tests.rs"]
mod tests;
