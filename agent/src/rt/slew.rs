//! How fast CLOCK_MONOTONIC is being slewed (adjtimex(2)): leases are safe for rates within 1000 ppm of true time, and
//! whoever disciplines the clock may go far beyond that for a while, which the core must know.

/// Microseconds of a tick at the nominal rate, at 100 ticks a second of the interface.
const TICK_NOMINAL_US: i64 = 10_000;
/// What one microsecond of a tick is.
const PPM_PER_TICK_US: i64 = 100;
/// `timex.freq` counts in parts of a ppm, 16 bits of them.
const FREQUENCY_SHIFT: u32 = 16;

/// Remembers what was told.
#[derive(Debug, Default)]
pub struct Slew {
    told: u32,
}

impl Slew {
    /// The present rate of slewing in ppm, if it is not what was last told. One system call that never waits.
    pub fn changed(&mut self) -> Option<u32> {
        let now = read()?;
        (std::mem::replace(&mut self.told, now) != now).then_some(now)
    }
}

fn read() -> Option<u32> {
    look().map(|(ppm, _)| ppm)
}

/// The present rate of slewing in ppm, and whether the clock follows a time server.
pub fn look() -> Option<(u32, bool)> {
    // SAFETY: all-zero is a valid `timex`, which asks for nothing to be changed.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct that its header defines.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    let synchronised = clock.status & libc::STA_UNSYNC == 0;
    (state >= 0).then(|| (ppm(clock.tick, clock.freq), synchronised))
}

fn ppm(tick: i64, frequency: i64) -> u32 {
    let coarse = tick.saturating_sub(TICK_NOMINAL_US).saturating_mul(PPM_PER_TICK_US);
    let fine = frequency >> FREQUENCY_SHIFT;
    u32::try_from(coarse.saturating_add(fine).unsigned_abs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Slew, ppm};

    #[test]
    fn ticks_and_frequency_add_up() {
        assert_eq!(ppm(10_000, 0), 0);
        assert_eq!(ppm(10_000, 20 << 16), 20);
        assert_eq!(ppm(10_833, 0), 83_300, "chrony's fastest");
        assert_eq!(ppm(9_167, 0), 83_300);
        assert_eq!(ppm(10_001, -(30 << 16)), 70);
        assert_eq!(ppm(i64::MAX, i64::MAX), u32::MAX);
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut slew = Slew { told: u32::MAX };
        let first = slew.changed().expect("adjtimex answers everybody");
        assert!(first < 200_000, "{first} ppm");
    }
}
