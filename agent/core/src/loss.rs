//! How many frames of a link were missed lately: a few marks of (time, sequence, frames) in a ring, the oldest of which
//! is the start of the window. Fixed memory, and a figure that reacts within seconds.

use core::time::Duration;

use crate::event::LinkReading;
use crate::time::Instant;

/// Marks kept; the window is between `MARKS - 1` and `MARKS` steps long.
const MARKS: usize = 8;
/// Between two marks.
const STEP: Duration = Duration::from_secs(1);
/// Parts of a whole.
const MILLION: u64 = 1_000_000;

/// What a link had carried at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: Instant,
    seq: u64,
    frames: u64,
}

/// The sliding window of one (peer, link).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LossWindow {
    marks: [Mark; MARKS],
    /// Marks that are set, the oldest first at `next` once all are.
    len: usize,
    next: usize,
    newest: Mark,
}

impl LossWindow {
    /// Forgets all: the peer counts from anew.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Takes what the link has carried so far.
    pub(crate) fn feed(&mut self, link: &LinkReading, at: Instant) {
        if self.len == 0 {
            // The first frame itself was heard, so the window starts before it.
            self.push(Mark { at, seq: link.first_seq.saturating_sub(1), frames: 0 });
        }
        self.newest = Mark { at, seq: link.seq, frames: link.frames };
        let last = self.marks[(self.next + MARKS - 1) % MARKS];
        if at >= last.at.after(STEP) {
            self.push(self.newest);
        }
    }

    /// Frames missed out of a million sent within the window. `interval` is set for a link that carries only some of
    /// the sequence numbers, because it is slower than the node: then the time tells how many there should be.
    pub(crate) fn missed_ppm(&self, interval: Option<Duration>) -> u32 {
        if self.len == 0 {
            return 0;
        }
        let oldest = self.marks[if self.len < MARKS { 0 } else { self.next }];
        let heard = self.newest.frames.saturating_sub(oldest.frames);
        let sent = match interval {
            None => self.newest.seq.saturating_sub(oldest.seq),
            Some(step) => {
                let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
                self.newest.at.0.saturating_sub(oldest.at.0) / step
            }
        };
        if sent == 0 {
            return 0;
        }
        let missed = sent.saturating_sub(heard);
        u32::try_from(u128::from(missed) * u128::from(MILLION) / u128::from(sent)).unwrap_or(u32::MAX)
    }

    fn push(&mut self, mark: Mark) {
        self.marks[self.next] = mark;
        self.next = (self.next + 1) % MARKS;
        self.len = (self.len + 1).min(MARKS);
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
