//! When a held address is announced: at once, densely while switches and neighbours may have missed it, then at
//! the configured refresh. Pure: time is an argument.

use std::time::Duration;

use agent_core::Instant;

/// After the first announcement, which goes out with the address itself. Frames are lost in the same moment in which
/// the old holder's link went down, and switches may take seconds to forward on a port that just came up.
pub const REPEATS: [Duration; 7] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// The announcements of one address that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    started: Instant,
    repeated: usize,
    due: Instant,
}

impl Schedule {
    /// The first announcement left at `now`.
    pub fn start(now: Instant) -> Self {
        Self { started: now, repeated: 0, due: now.after(REPEATS[0]) }
    }

    /// When the next is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether it is due; then the one after it is planned, and those that were missed are left out.
    pub fn take_due(&mut self, now: Instant, refresh: Duration) -> bool {
        if now < self.due {
            return false;
        }
        while self.repeated < REPEATS.len() {
            self.repeated += 1;
            let Some(after) = REPEATS.get(self.repeated) else { break };
            self.due = self.started.after(*after);
            if self.due > now {
                return true;
            }
        }
        self.due = now.after(refresh);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agent_core::Instant;

    use super::{REPEATS, Schedule};

    const REFRESH: Duration = Duration::from_secs(30);
    const START: Instant = Instant(1_000_000_000);

    #[test]
    fn every_repeat_then_the_refresh() {
        let mut schedule = Schedule::start(START);
        for after in REPEATS {
            assert_eq!(schedule.due(), START.after(after));
            assert!(!schedule.take_due(schedule.due().before(Duration::from_nanos(1)), REFRESH));
            assert!(schedule.take_due(schedule.due(), REFRESH));
        }
        let last = START.after(REPEATS[6]);
        assert_eq!(schedule.due(), last.after(REFRESH));
        assert!(schedule.take_due(schedule.due(), REFRESH));
        assert_eq!(schedule.due(), last.after(REFRESH).after(REFRESH));
    }

    #[test]
    fn what_was_missed_is_not_sent_in_a_burst() {
        let mut schedule = Schedule::start(START);
        let late = START.after(Duration::from_millis(600));
        assert!(schedule.take_due(late, REFRESH));
        assert_eq!(schedule.due(), START.after(Duration::from_secs(1)));
        assert!(!schedule.take_due(late, REFRESH));

        let much_later = START.after(Duration::from_secs(3600));
        assert!(schedule.take_due(much_later, REFRESH));
        assert_eq!(schedule.due(), much_later.after(REFRESH));
    }
}
