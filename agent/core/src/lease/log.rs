//! The heartbeats that this node sent, and until when the acknowledgement of each is a promise (design: Promise).
//! Bounded: what has fallen out of the ring promises nothing.

use alloc::vec::Vec;
use core::time::Duration;

use crate::mutation::{Mutated, Mutation};
use crate::time::Instant;

/// Heartbeats remembered. An acknowledgement that comes later than this many heartbeats is worth nothing.
pub(crate) const LOG_LEN: usize = 1024;

/// One heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Its number.
    pub(crate) seq: u64,
    /// The clock, read before its first copy was handed to the kernel.
    pub(crate) at: Instant,
    /// The deadtime that it announced.
    pub(crate) deadtime: Duration,
    /// until(seq): no later than its own end, and than that of every later heartbeat.
    pub(crate) until: Instant,
}

/// The newest heartbeats of this incarnation, with gapless numbers.
#[derive(Clone, Debug)]
pub(crate) struct SentLog {
    ring: Vec<Sent>,
    /// Number of the oldest that is there, and of the newest; oldest above newest when none is.
    oldest: u64,
    newest: u64,
    mutated: Mutated,
}

impl SentLog {
    /// A log of nothing.
    pub(crate) fn new(mutated: Mutated) -> Self {
        let nothing = Sent { seq: 0, at: Instant::ZERO, deadtime: Duration::ZERO, until: Instant::ZERO };
        Self { ring: alloc::vec![nothing; LOG_LEN], oldest: 1, newest: 0, mutated }
    }

    /// Notes heartbeat `seq`, sent at `at`. *Promise*: `until(s)` = the least `t(s') + deadtime(s') x (1 - margin)` over s and
    /// all later s', so a heartbeat that announces less shortens those before it.
    pub(crate) fn append(&mut self, seq: u64, at: Instant, deadtime: Duration, margin_ppm: u32) {
        if self.is_empty() || seq != self.newest.saturating_add(1) {
            self.oldest = seq;
        }
        self.newest = seq;
        self.oldest = self.oldest.max(seq.saturating_sub(LOG_LEN as u64 - 1));
        let until = end(at, deadtime, margin_ppm);
        self.put(Sent { seq, at, deadtime, until });
        if self.mutated.is(Mutation::AcksAfterShortenedDeadtime) {
            return;
        }
        for earlier in (self.oldest..seq).rev() {
            match self.slot(earlier) {
                Some(sent) if sent.until > until => sent.until = until,
                Some(_) | None => break,
            }
        }
    }

    /// until(seq), if that heartbeat is remembered.
    pub(crate) fn until(&self, seq: u64) -> Option<Instant> {
        let seq = if self.mutated.is(Mutation::MixedSequences) {
            seq.saturating_add(3).min(self.newest)
        } else {
            seq
        };
        self.get(seq).map(|sent| sent.until)
    }

    /// The number of the newest heartbeat, 0 when none was sent.
    pub(crate) const fn newest(&self) -> u64 {
        self.newest
    }

    /// until of the newest heartbeat: no lease goes past it.
    pub(crate) fn newest_until(&self) -> Instant {
        self.get(self.newest).map_or(Instant::ZERO, |sent| sent.until)
    }

    /// until of the newest heartbeat sent by `at`; the past when none is remembered.
    pub(crate) fn until_sent_by(&self, at: Instant) -> Instant {
        let sent =
            (self.oldest..=self.newest).rev().filter_map(|seq| self.get(seq)).find(|sent| sent.at <= at);
        sent.map_or(Instant::ZERO, |sent| sent.until)
    }

    /// The newest heartbeat did not leave on any link: nothing rests on it. Its number stays used.
    pub(crate) fn withdraw_newest(&mut self) {
        let before = self.get(self.newest.saturating_sub(1)).map_or(Instant::ZERO, |sent| sent.until);
        let newest = self.newest;
        if let Some(sent) = self.slot(newest) {
            sent.until = sent.until.min(before);
        }
    }

    /// No acknowledgement of what was sent so far promises more than `bound`.
    pub(crate) fn shorten(&mut self, bound: Instant) {
        for seq in self.oldest..=self.newest {
            if let Some(sent) = self.slot(seq) {
                sent.until = sent.until.min(bound);
            }
        }
    }

    /// The margin has grown: applies it to what was sent already.
    pub(crate) fn widen_margin(&mut self, margin_ppm: u32) {
        for seq in self.oldest..=self.newest {
            if let Some(sent) = self.slot(seq) {
                sent.until = sent.until.min(end(sent.at, sent.deadtime, margin_ppm));
            }
        }
    }

    /// The longest deadtime that was announced.
    pub(crate) fn longest_deadtime(&self) -> Duration {
        self.iter().map(|sent| sent.deadtime).max().unwrap_or_default()
    }

    /// Tests only: the clock of the newest heartbeat is read after it left.
    pub(crate) fn restamp_newest(&mut self, at: Instant, margin_ppm: u32) {
        let newest = self.newest;
        if let Some(sent) = self.slot(newest) {
            sent.at = at;
            sent.until = end(at, sent.deadtime, margin_ppm);
        }
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sent> {
        (self.oldest..=self.newest).filter_map(|seq| self.get(seq))
    }

    const fn is_empty(&self) -> bool {
        self.oldest > self.newest
    }

    fn get(&self, seq: u64) -> Option<&Sent> {
        let known = !self.is_empty() && seq >= self.oldest && seq <= self.newest;
        known.then(|| self.ring.get(place(seq))).flatten()
    }

    fn slot(&mut self, seq: u64) -> Option<&mut Sent> {
        let known = !self.is_empty() && seq >= self.oldest && seq <= self.newest;
        known.then(|| self.ring.get_mut(place(seq))).flatten()
    }

    fn put(&mut self, sent: Sent) {
        if let Some(slot) = self.ring.get_mut(place(sent.seq)) {
            *slot = sent;
        }
    }
}

/// `at + deadtime x (1 - margin)`.
pub(crate) fn end(at: Instant, deadtime: Duration, margin_ppm: u32) -> Instant {
    at.after(deadtime.saturating_sub(super::slew::share(deadtime, margin_ppm)))
}

#[expect(clippy::cast_possible_truncation, reason = "below LOG_LEN")]
const fn place(seq: u64) -> usize {
    (seq % LOG_LEN as u64) as usize
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
