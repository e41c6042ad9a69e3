//! How fast CLOCK_MONOTONIC is being slewed (adjtimex(2)): leases are safe for rates within 1000 ppm of true time, and
//! whoever disciplines the clock may go far beyond that for a while, which the core must know.
//!
//! The kernel hashes for its random numbers at each adjtimex(2), which was a tenth of what a heartbeat cost. CLOCK_MONOTONIC_RAW is the
//! same counter without any slew and costs no system call: only when the two drift apart otherwise than told is the kernel asked.

use agent_core::Instant;

use super::clock;

/// Microseconds of a tick at the nominal rate, at 100 ticks a second of the interface.
const TICK_NOMINAL_US: i64 = 10_000;
/// What one microsecond of a tick is.
const PPM_PER_TICK_US: i64 = 100;
/// `timex.freq` counts in parts of a ppm, 16 bits of them.
const FREQUENCY_SHIFT: u32 = 16;
/// The two clocks are this close to what was told, or the kernel is asked: far above what two reads are apart, and in
/// ten milliseconds as much as 200 ppm make.
const DRIFT_MAX_NS: u64 = 2_000;
/// The kernel is asked no less often, whatever the clocks say.
const ASK_EVERY_NS: u64 = 1_000_000_000;

/// Remembers what was told.
#[derive(Debug, Default)]
pub struct Slew {
    told: u32,
    asked: Option<Asked>,
}

/// When the kernel was asked, by both clocks, and what it said.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    raw_ns: u64,
    rate: Rate,
}

/// How much faster than the raw clock, in parts of a ppm ([`FREQUENCY_SHIFT`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rate(i64);

impl Slew {
    /// The present rate of slewing in ppm, if it is not what was last told. `now` was read just before. One system call
    /// at most, that never waits.
    pub fn changed(&mut self, now: Instant) -> Option<u32> {
        let raw_ns = clock::raw_ns();
        if self.asked.is_some_and(|asked| asked.still_holds(now, raw_ns)) {
            return None;
        }
        let (rate, _) = ask()?;
        self.asked = Some(Asked { at: now, raw_ns, rate });
        let ppm = rate.ppm();
        (std::mem::replace(&mut self.told, ppm) != ppm).then_some(ppm)
    }
}

impl Asked {
    /// Whether the clocks have gone on as the kernel said. What held up one of the two reads looks like a slew, too,
    /// and costs a question.
    fn still_holds(self, now: Instant, raw_ns: u64) -> bool {
        let (slewed, raw) = (now.0.wrapping_sub(self.at.0), raw_ns.wrapping_sub(self.raw_ns));
        if slewed >= ASK_EVERY_NS || raw >= ASK_EVERY_NS {
            return false;
        }
        let gained = self.rate.0.saturating_mul(raw.cast_signed()) / (1_000_000 << FREQUENCY_SHIFT);
        let drift = slewed.cast_signed() - raw.cast_signed() - gained;
        drift.unsigned_abs() <= DRIFT_MAX_NS
    }
}

impl Rate {
    const fn of(tick: i64, frequency: i64) -> Self {
        let coarse = tick.saturating_sub(TICK_NOMINAL_US).saturating_mul(PPM_PER_TICK_US);
        Self(coarse.saturating_mul(1 << FREQUENCY_SHIFT).saturating_add(frequency))
    }

    fn ppm(self) -> u32 {
        u32::try_from((self.0 >> FREQUENCY_SHIFT).unsigned_abs()).unwrap_or(u32::MAX)
    }
}

/// The present rate of slewing in ppm, and whether the clock follows a time server.
pub fn look() -> Option<(u32, bool)> {
    ask().map(|(rate, synchronised)| (rate.ppm(), synchronised))
}

fn ask() -> Option<(Rate, bool)> {
    // SAFETY: all-zero is a valid `timex`, which asks for nothing to be changed.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct that its header defines.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    let synchronised = clock.status & libc::STA_UNSYNC == 0;
    (state >= 0).then(|| (Rate::of(clock.tick, clock.freq), synchronised))
}

#[cfg(test)]
mod tests {
    use agent_core::Instant;

    use super::{ASK_EVERY_NS, Asked, Rate, Slew};
    use crate::rt::clock;

    #[test]
    fn ticks_and_frequency_add_up() {
        let ppm = |tick, frequency| Rate::of(tick, frequency).ppm();
        assert_eq!(ppm(10_000, 0), 0);
        assert_eq!(ppm(10_000, 20 << 16), 20);
        assert_eq!(ppm(10_833, 0), 83_300, "chrony's fastest");
        assert_eq!(ppm(9_167, 0), 83_300);
        assert_eq!(ppm(10_001, -(30 << 16)), 70);
        assert_eq!(ppm(i64::MAX, i64::MAX), u32::MAX);
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut slew = Slew { told: u32::MAX, asked: None };
        let first = slew.changed(clock::now()).expect("adjtimex answers everybody");
        assert!(first < 200_000, "{first} ppm");
    }

    /// Both clocks after `slewed` and `raw` nanoseconds, told `ppm`.
    fn holds(ppm: i64, slewed: u64, raw: u64) -> bool {
        let asked = Asked { at: Instant(5_000_000_000), raw_ns: 7_000_000_000, rate: Rate(ppm << 16) };
        asked.still_holds(Instant(5_000_000_000_u64.wrapping_add(slewed)), 7_000_000_000 + raw)
    }

    #[test]
    fn the_kernel_is_asked_when_the_clocks_drift_apart_otherwise_than_told() {
        assert!(holds(0, 10_000_000, 10_000_000));
        assert!(holds(0, 10_000_300, 10_000_000), "two reads are some nanoseconds apart");
        assert!(!holds(0, 10_005_000, 10_000_000), "500 ppm more, seen in ten milliseconds");
        assert!(!holds(0, 9_995_000, 10_000_000), "and 500 less");
        assert!(!holds(0, 1_083_300, 1_000_000), "chrony's fastest, seen in one");
        assert!(holds(83_300, 1_083_300, 1_000_000), "told");
        assert!(!holds(83_300, 1_000_000, 1_000_000), "and over");
        assert!(holds(-83_300, 916_700, 1_000_000));
        assert!(holds(0, ASK_EVERY_NS - 1, ASK_EVERY_NS - 1));
        assert!(!holds(0, ASK_EVERY_NS, ASK_EVERY_NS), "at least once a second");
        assert!(!holds(0, u64::MAX - 4_000_000_000, 10_000_000), "a clock that went back");
    }

    #[test]
    fn a_steady_clock_is_asked_for_now_and_then_only() {
        let mut slew = Slew::default();
        slew.changed(clock::now());
        let mut asked = 0;
        for _ in 0..1000 {
            let before = slew.asked.map(|asked| asked.at);
            slew.changed(clock::now());
            asked += u32::from(slew.asked.map(|asked| asked.at) != before);
        }
        assert!(asked < 500, "{asked} of 1000 rounds asked");
    }
}
