//! The kernel stamps received datagrams with CLOCK_REALTIME, which may jump; the core knows only CLOCK_MONOTONIC.
//! Both clocks are read after the datagram, and its age is carried over, bounded by when it can have arrived at all.

use agent_core::Instant;

/// Both clocks, read one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// CLOCK_MONOTONIC.
    pub now: Instant,
    /// CLOCK_REALTIME, nanoseconds since 1970.
    pub wall_ns: u64,
}

/// When a datagram with the kernel's stamp `received_wall_ns` arrived. It was not there at `drained`, when the
/// socket was last found empty, and it is there at `clocks`: a wall clock that was set meanwhile cannot move it out.
pub fn arrival(received_wall_ns: u64, clocks: Clocks, drained: Instant) -> Instant {
    let age = clocks.wall_ns.saturating_sub(received_wall_ns);
    let arrived = Instant(clocks.now.0.saturating_sub(age));
    arrived.max(drained).min(clocks.now)
}

#[cfg(test)]
mod tests {
    use agent_core::Instant;

    use super::{Clocks, arrival};

    const CLOCKS: Clocks = Clocks { now: Instant(50_000_000_000), wall_ns: 1_700_000_000_000_000_000 };
    const DRAINED: Instant = Instant(49_000_000_000);

    #[test]
    fn the_age_is_carried_over() {
        let arrived = arrival(CLOCKS.wall_ns - 250_000, CLOCKS, DRAINED);
        assert_eq!(arrived, Instant(CLOCKS.now.0 - 250_000));
    }

    #[test]
    fn a_clock_that_was_set_back_cannot_make_the_future() {
        assert_eq!(arrival(CLOCKS.wall_ns + 3_600_000_000_000, CLOCKS, DRAINED), CLOCKS.now);
    }

    #[test]
    fn a_clock_that_was_set_forward_cannot_make_the_past() {
        assert_eq!(arrival(CLOCKS.wall_ns - 3_600_000_000_000, CLOCKS, DRAINED), DRAINED);
        assert_eq!(arrival(0, CLOCKS, DRAINED), DRAINED);
    }
}
