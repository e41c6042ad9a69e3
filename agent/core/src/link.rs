//! The verdict of one (peer, link), from the link's own stamps. It is for the operator and for choosing links: a link never
//! kills a node (design: detection).
//!
//! ```text
//!            frame                 overdue                 expired
//! Unknown ----------> Up -------------------------> Late -----------> Dead
//!                      ^     (Up also expires)        |                 |
//!                      |                              v                 |
//!                      +------------------- REVIVE_FRAMES frames -------+
//! ```
//! Late and dead links are up again after several frames without a silence between them, so one at the edge does not flap.
//! Each link is judged by its own pace: the interval that the peer announces on it.

use core::time::Duration;

use crate::event::LinkReading;
use crate::loss::LossWindow;
use crate::round_trip::RoundTrip;
use crate::snapshot::{LinkState, LinkView};
use crate::time::Instant;

/// Frames that a late or dead link must carry before it is up again: one frame through a broken cable is not a repair.
pub(crate) const REVIVE_FRAMES: u64 = 3;

/// What the stamps of a link say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A frame within warntime.
    Fresh {
        /// Frames since the link was last silent for too long.
        revived: u64,
    },
    /// Silent for longer than warntime.
    Overdue,
    /// Silent for longer than the deadtime.
    Expired,
}

/// The state after `sign`.
pub(crate) const fn next(state: LinkState, sign: Sign) -> LinkState {
    match (state, sign) {
        (LinkState::Unknown | LinkState::Up, Sign::Fresh { .. }) => LinkState::Up,
        (LinkState::Unknown | LinkState::Up | LinkState::Late, Sign::Overdue) => LinkState::Late,
        (LinkState::Late | LinkState::Dead, Sign::Fresh { revived }) => {
            if revived >= REVIVE_FRAMES {
                LinkState::Up
            } else {
                state
            }
        }
        (LinkState::Dead, Sign::Overdue) => LinkState::Dead,
        (LinkState::Unknown | LinkState::Up | LinkState::Late | LinkState::Dead, Sign::Expired) => {
            LinkState::Dead
        }
    }
}

/// How fast one link of one peer goes, and by what it is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Overdue after this.
    pub(crate) warntime: Duration,
    /// Expired after this.
    pub(crate) deadtime: Duration,
    /// Interval of a slow link, `None` for one that carries every heartbeat.
    pub(crate) interval: Option<Duration>,
}

/// One link of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    state: LinkState,
    at: Option<Instant>,
    frames: u64,
    /// Frames when it was last silent for too long.
    frames_at_fault: u64,
    pace: Pace,
    loss: LossWindow,
    round_trip: RoundTrip,
}

impl Link {
    /// The peer counts its frames from anew; the verdict stays.
    pub(crate) fn restart(&mut self) {
        self.frames = 0;
        self.frames_at_fault = 0;
        self.loss.reset();
        self.round_trip.forget();
    }

    /// Takes the link's part of a reading; the states before and after.
    pub(crate) fn read(
        &mut self,
        reading: &LinkReading,
        read_at: Instant,
        pace: Pace,
    ) -> (LinkState, LinkState) {
        let before = self.state;
        let Some(at) = reading.at.or(self.at) else { return (before, before) };
        if self.pace.interval != pace.interval {
            self.loss.reset();
        }
        self.pace = pace;
        if reading.at.is_some() && reading.frames != self.frames {
            let was_silent = self.at.is_some_and(|before| at > before.after(pace.warntime));
            if was_silent && before == LinkState::Late {
                self.frames_at_fault = reading.frames.saturating_sub(1);
            }
            self.frames = reading.frames;
            self.loss.feed(reading, at);
            self.round_trip.arrived(at, reading.sent_ns);
        }
        self.at = Some(at);
        let revived = self.frames.saturating_sub(self.frames_at_fault);
        let sign = if read_at > at.after(pace.deadtime) {
            Sign::Expired
        } else if read_at > at.after(pace.warntime) {
            Sign::Overdue
        } else {
            Sign::Fresh { revived }
        };
        self.state = next(before, sign);
        let is_silent = match sign {
            Sign::Expired => true,
            Sign::Overdue => self.state == LinkState::Late || before != self.state,
            Sign::Fresh { .. } => false,
        };
        if is_silent {
            self.frames_at_fault = self.frames;
        }
        if self.state == LinkState::Dead {
            self.round_trip.forget();
        }
        (before, self.state)
    }

    /// Whether it is heard.
    pub(crate) const fn is_heard(&self) -> bool {
        matches!(self.state, LinkState::Up | LinkState::Late)
    }

    /// What is told to the peer for its round trip.
    pub(crate) fn delay(&self) -> Option<i64> {
        self.round_trip.delay().filter(|_| self.is_heard())
    }

    /// The peer told what it measured of ours.
    pub(crate) fn echoed(&mut self, told: i64) {
        self.round_trip.echoed(told);
    }

    /// The first moment at which a reading without a new frame would change the verdict.
    pub(crate) fn deadline(&self) -> Instant {
        let Some(at) = self.at else { return Instant::NEVER };
        let span = match self.state {
            LinkState::Up => self.pace.warntime.min(self.pace.deadtime),
            LinkState::Late => self.pace.deadtime,
            LinkState::Unknown | LinkState::Dead => return Instant::NEVER,
        };
        Instant(at.after(span).0.saturating_add(1))
    }

    /// The link for people.
    pub(crate) fn view(&self) -> LinkView {
        LinkView {
            state: self.state,
            at: self.at,
            frames: self.frames,
            loss_ppm: self.loss.missed_ppm(self.pace.interval),
            rtt: self.round_trip.smoothed(),
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
