//! The books of the oracle: what each node has sent, promised and asked for, as seen from outside.

use super::clock::Clock;
use super::packet::Packet;

/// The heartbeats of one node's present incarnation.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) incarnation: u64,
    /// Sequence number, until when (the sender's clock) what was promised for it holds, and by how much less it counts
    /// that while its clock is slewed.
    pub(super) log: Vec<(u64, u64, u64)>,
    /// The newest number sent before a standstill of the clock ended.
    pub(super) thawed: u64,
    pub(super) deadtime: u64,
    /// The clock by which it was sent, once its machine was switched off.
    pub(super) clock: Option<Clock>,
    /// How fast the clock is slewed, parts per million.
    pub(super) slewed: u64,
}

impl Sent {
    pub(super) fn push(&mut self, packet: &Packet) {
        let is_again = self.log.last().is_some_and(|last| packet.seq <= last.0);
        if packet.incarnation != self.incarnation || is_again {
            *self = Self { incarnation: packet.incarnation, slewed: self.slewed, ..Self::default() };
        }
        self.deadtime = u64::from(packet.deadtime_us) * 1000;
        let until = packet.sent_ns + self.deadtime - self.deadtime / 500;
        for earlier in self.log.iter_mut().rev().take_while(|earlier| earlier.1 > until) {
            earlier.1 = until;
        }
        self.log.push((packet.seq, until, self.less()));
    }

    /// The part of a deadtime that the sender gives away while its clock is slewed.
    pub(super) fn less(&self) -> u64 {
        self.deadtime * 2 * self.slewed / 1_000_000
    }

    /// The sender's clock begins to be slewed, or ends.
    pub(super) fn slew(&mut self, ppm: u64) {
        self.slewed = ppm;
        let less = self.less();
        self.log.iter_mut().for_each(|sent| sent.2 = sent.2.max(less));
    }

    /// Until when the sender itself counts on it.
    pub(super) fn counted_until(&self, seq: u64) -> u64 {
        let place = self.log.partition_point(|sent| sent.0 < seq);
        self.log.get(place).map_or(0, |sent| sent.1.saturating_sub(sent.2))
    }

    /// Until when it is promised.
    pub(super) fn until(&self, seq: u64) -> u64 {
        let place = self.log.partition_point(|sent| sent.0 < seq);
        self.log.get(place).map_or(0, |sent| sent.1)
    }
}

/// What a voter last promised to one candidate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promise {
    /// The voter's incarnation, 0 for no promise.
    pub(super) by: u64,
    /// The candidate's incarnation and the heartbeat that was acknowledged.
    pub(super) to: u64,
    pub(super) seq: u64,
    pub(super) epoch: u64,
}

/// What a candidate said last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asking {
    /// Whether its newest heartbeat asks or holds.
    pub(super) asks: bool,
    /// The newest heartbeat that did not.
    pub(super) silent_at: u64,
    /// The epoch with which it began.
    pub(super) epoch: u64,
    /// A voter voted for another meanwhile.
    pub(super) refused: bool,
}
