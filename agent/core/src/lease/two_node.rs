//! Two nodes without a witness (design: Two nodes without a witness): no I1 under partition, and the configuration says so.
//!
//! The lease is a dead-man's switch: last own heartbeat *sent* + deadtime x (1 - margin). While the peer is heard, its vote
//! decides as with any majority. Takeover from a dead peer needs what the configuration names: a successful fence
//! (`fence`: only the taker fences, never the holder), a reachable ping group (`ping`), or nothing (`always`). A peer that
//! left in order and claims nothing needs none of them. On healing the higher *held* epoch stays.
//!
//! A switch that ran out stays off: `tenure::counted` grants the lease anew, from a peer that is heard only by a vote and an ack of
//! what was sent since.

use core::time::Duration;

use crate::carried::CarriedTieBreak;
use crate::config::TieBreak;
use crate::lease::log::SentLog;
use crate::time::Instant;

/// Pause between two tries of fencing.
pub(crate) const FENCE_PAUSE: Duration = Duration::from_secs(1);

/// What the tie-break has said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TwoNode {
    tie_break: TieBreak,
    /// The peer was fenced and not heard since.
    fenced: bool,
    /// A fence is under way, or failed: not again before.
    fence_at: Instant,
    fence_is_open: bool,
    /// When the request was sent that the ping group answered last.
    reached: Option<Instant>,
}

/// How the peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    /// Heard: its vote decides.
    Heard,
    /// It left in order, and claims nothing.
    Left,
    /// Silent for its deadtime.
    Dead,
}

impl TwoNode {
    /// Nothing said yet.
    pub(crate) const fn new(tie_break: TieBreak) -> Self {
        Self { tie_break, fenced: false, fence_at: Instant::ZERO, fence_is_open: false, reached: None }
    }

    /// What is handed over of it.
    pub(crate) const fn carry(&self) -> CarriedTieBreak {
        CarriedTieBreak { fenced: self.fenced, reached: self.reached }
    }

    /// Takes up what was handed over.
    pub(crate) const fn restore(&mut self, carried: CarriedTieBreak) {
        (self.fenced, self.reached) = (carried.fenced, carried.reached);
    }

    /// Whether a ping group breaks the tie.
    pub(crate) const fn needs_ping(&self) -> bool {
        matches!(self.tie_break, TieBreak::Ping)
    }

    /// A fence ended.
    pub(crate) fn fenced(&mut self, done: bool, now: Instant) {
        self.fenced |= done && self.fence_is_open;
        self.fence_is_open = false;
        self.fence_at = now.after(FENCE_PAUSE);
    }

    /// The peer is heard: an earlier fence says nothing any more.
    pub(crate) const fn heard(&mut self) {
        self.fenced = false;
    }

    /// The ping group answered a request sent then, or not at all.
    pub(crate) const fn pinged(&mut self, reached: Option<Instant>) {
        self.reached = reached;
    }

    /// Whether a fence is to be ordered now; it is taken as ordered.
    pub(crate) fn order_fence(&mut self, now: Instant) -> bool {
        let due =
            self.tie_break == TieBreak::Fence && !self.fenced && !self.fence_is_open && now >= self.fence_at;
        self.fence_is_open |= due;
        due
    }

    /// When a fence may be ordered again.
    pub(crate) const fn wake(&self) -> Instant {
        match self.tie_break {
            TieBreak::Fence if !self.fence_is_open => self.fence_at,
            TieBreak::Fence | TieBreak::Ping | TieBreak::Always => Instant::NEVER,
        }
    }

    /// Whether a group may be taken from a peer that stands like this.
    pub(crate) fn may_take(&self, other: Other, deadtime: Duration, now: Instant) -> bool {
        match other {
            Other::Heard => false,
            Other::Left => true,
            Other::Dead => match self.tie_break {
                TieBreak::Always => true,
                TieBreak::Fence => self.fenced,
                TieBreak::Ping => self.reached.is_some_and(|at| at.after(deadtime) > now),
            },
        }
    }

    /// The lease: that of the newest heartbeat in `sent`, and `acked_until` the end of the newest one that the peer acked. With
    /// `ping` the lesser of the first and of what shows that the rest of the world is there: the peer itself, or the ping
    /// group. A reply counts for the heartbeat that was sent before its request, not from the request on: a holder that
    /// loses both at once was heard last with no later one, and the peer counts its deadtime from there.
    pub(crate) fn lease(&self, sent: &SentLog, acked_until: Instant) -> Instant {
        match self.tie_break {
            TieBreak::Always | TieBreak::Fence => sent.newest_until(),
            TieBreak::Ping => {
                let reached = self.reached.map_or(Instant::ZERO, |at| sent.until_sent_by(at));
                sent.newest_until().min(reached.max(acked_until))
            }
        }
    }
}

#[cfg(test)]
#[path = "two_node_tests.rs"]
mod tests;
