//! The only place that reads clocks: CLOCK_MONOTONIC for everything that is decided, as `bpf_ktime_get_ns` does,
//! CLOCK_REALTIME where the kernel or the disk speaks of it, and CLOCK_MONOTONIC_RAW to see how true the first is. All
//! reads go through the vDSO: no system call.

use agent_core::Instant;
use nix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> Instant {
    Instant(read(ClockId::CLOCK_MONOTONIC))
}

/// Now, in nanoseconds since 1970.
pub fn wall_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// The counter behind [`now`] without any slew: comparable with itself only, in nanoseconds.
pub fn raw_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC_RAW)
}

/// The read cannot fail: the clocks exist in every Linux. Zero would only ever make things look old.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec()).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::{now, wall_ns};

    #[test]
    fn the_clocks_run_forward() {
        let (before, wall_before) = (now(), wall_ns());
        let mut after = now();
        while after == before {
            after = now();
        }
        assert!(after > before);
        assert!(wall_before > 1_600_000_000_000_000_000, "{wall_before} is not of this century");
    }
}
