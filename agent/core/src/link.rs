//! The verdict of one (peer, link), from the link's own stamps. It is for the operator and for choosing links: a link never
//! kills a node (design: detection).
//!
//! ```text
//!            frame                 overdue                 expired
//! Unknown ----------> Up <-----------------------> Late -----------> Dead
//!                      ^         frame               |                 |
//!                      |     (Up also expires)       v                 |
//!                      +------------------- REVIVE_FRAMES frames ------+
//! ```

use core::time::Duration;

use crate::event::LinkReading;
use crate::loss::LossWindow;
use crate::snapshot::{LinkState, LinkView};
use crate::time::Instant;

/// Frames that a dead link must carry before it is up again: one frame through a broken cable is not a repair.
pub(crate) const REVIVE_FRAMES: u64 = 3;

/// What the stamps of a link say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A frame within warntime.
    Fresh {
        /// Frames since the link died.
        revived: u64,
    },
    /// Silent for longer than warntime.
    Overdue {
        /// Frames since the link died.
        revived: u64,
    },
    /// Silent for longer than the deadtime.
    Expired,
}

/// The state after `sign`.
pub(crate) const fn next(state: LinkState, sign: Sign) -> LinkState {
    match (state, sign) {
        (LinkState::Unknown | LinkState::Up | LinkState::Late, Sign::Fresh { .. }) => LinkState::Up,
        (LinkState::Unknown | LinkState::Up | LinkState::Late, Sign::Overdue { .. }) => LinkState::Late,
        (LinkState::Dead, Sign::Fresh { revived }) => {
            if revived >= REVIVE_FRAMES {
                LinkState::Up
            } else {
                LinkState::Dead
            }
        }
        (LinkState::Dead, Sign::Overdue { .. }) => LinkState::Dead,
        (LinkState::Unknown | LinkState::Up | LinkState::Late | LinkState::Dead, Sign::Expired) => {
            LinkState::Dead
        }
    }
}

/// The local rules for one link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkRules {
    /// Overdue after this.
    pub(crate) warntime: Duration,
    /// How many times slower than the node the link is: its deadtime is as many times longer.
    pub(crate) stretch: u32,
    /// Interval of a slow link, `None` for one that carries every heartbeat.
    pub(crate) interval: Option<Duration>,
}

/// One link of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    state: LinkState,
    at: Option<Instant>,
    frames: u64,
    frames_at_death: u64,
    deadtime: Duration,
    loss: LossWindow,
}

impl Link {
    /// The peer counts its frames from anew; the verdict stays.
    pub(crate) fn restart(&mut self) {
        self.frames = 0;
        self.frames_at_death = 0;
        self.loss.reset();
    }

    /// Takes the link's part of a reading; the states before and after.
    pub(crate) fn read(
        &mut self,
        reading: &LinkReading,
        read_at: Instant,
        deadtime: Duration,
        rules: &LinkRules,
    ) -> (LinkState, LinkState) {
        let before = self.state;
        let Some(at) = reading.at.or(self.at) else { return (before, before) };
        if reading.at.is_some() && reading.frames != self.frames {
            self.frames = reading.frames;
            self.loss.feed(reading, at);
        }
        self.at = Some(at);
        self.deadtime = deadtime.saturating_mul(rules.stretch);
        let revived = self.frames.saturating_sub(self.frames_at_death);
        let sign = if read_at > at.after(self.deadtime) {
            Sign::Expired
        } else if read_at > at.after(rules.warntime) {
            Sign::Overdue { revived }
        } else {
            Sign::Fresh { revived }
        };
        self.state = next(before, sign);
        if self.state == LinkState::Dead && (before != LinkState::Dead || sign == Sign::Expired) {
            self.frames_at_death = self.frames;
        }
        (before, self.state)
    }

    /// The first moment at which a reading without a new frame would change the verdict.
    pub(crate) fn deadline(&self, rules: &LinkRules) -> Instant {
        let Some(at) = self.at else { return Instant::NEVER };
        let span = match self.state {
            LinkState::Up => rules.warntime.min(self.deadtime),
            LinkState::Late => self.deadtime,
            LinkState::Unknown | LinkState::Dead => return Instant::NEVER,
        };
        Instant(at.after(span).0.saturating_add(1))
    }

    /// The link for people.
    pub(crate) fn view(&self, rules: &LinkRules) -> LinkView {
        LinkView {
            state: self.state,
            at: self.at,
            frames: self.frames,
            loss_ppm: self.loss.missed_ppm(rules.interval),
            rtt: None,
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
