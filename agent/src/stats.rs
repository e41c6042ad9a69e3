//! Counters and histograms that the realtime threads write and the control thread reads: relaxed atomics, no locks (what a
//! thread says once, before its loop, is set once).
//! Refusals are counted in the kernel's map or in the socket receiver; `Stats` holds only what userspace counts.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use agent_common::ids::MAX_LINKS;
use agent_common::maps::COUNTERS;

use crate::ping::counters::PingCounters;
use crate::rt::admission::Told;
use crate::serial::LINES_MAX;

/// Upper bounds of the histograms' buckets, microseconds; the last bucket is everything above.
pub const BUCKETS_US: [u64; 16] = [
    10, 20, 50, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000,
];

/// Everything that is counted in userspace.
#[derive(Default, Debug)]
pub struct Stats {
    /// By link id: frames handed to the kernel (one for each destination).
    pub sent: [AtomicU64; MAX_LINKS],
    /// By link id: frames that the kernel did not take.
    pub send_failed: [AtomicU64; MAX_LINKS],
    /// The socket path's counters, indexed like the kernel's.
    pub socket: [AtomicU64; COUNTERS],
    /// Heartbeats that carry this node's id and that it has not sent.
    pub rival_heartbeats: AtomicU64,
    /// Announcements that the kernel did not take.
    pub announce_failed: AtomicU64,
    /// What the ping thread has seen.
    pub pings: PingCounters,
    /// Wake-ups of the rt thread.
    pub wakeups: AtomicU64,
    /// Wake-ups that news or a socket caused (steady heartbeats over XDP cause none).
    pub receive_wakeups: AtomicU64,
    /// Heartbeats that were authentic, but did not decode.
    pub undecodable: AtomicU64,
    /// Messages between threads that found their queue full.
    pub dropped: AtomicU64,
    /// Wake-up behind the armed timer.
    pub lateness: Histogram,
    /// Verdict behind the deadline.
    pub overshoot: Histogram,
    /// From the verdict (or the operator's word) to the address being there.
    pub takeover_address: Histogram,
    /// From the address to its first announcement.
    pub takeover_announce: Histogram,
    /// The rt thread's class. 0: ordinary, 1: SCHED_FIFO, 2: SCHED_DEADLINE.
    pub scheduling: AtomicU32,
    /// How the rt thread began.
    pub rt_told: OnceLock<Told>,
    /// How the takeover thread began.
    pub takeover_told: OnceLock<Told>,
    /// When the present life sent its first heartbeat, nanoseconds of CLOCK_MONOTONIC.
    pub began_ns: AtomicU64,
    /// 1 when memory is locked.
    pub memory_locked: AtomicU32,
    /// By the number of this node's serial line.
    pub lines: [LineStats; LINES_MAX],
}

/// What is counted of one serial line.
#[derive(Default, Debug)]
pub struct LineStats {
    /// 1 while its device is open.
    pub open: AtomicU32,
    /// Times that it was opened.
    pub opened: AtomicU64,
    /// The same, after it had been lost.
    pub reopened: AtomicU64,
    /// Times that it was lost.
    pub lost: AtomicU64,
    /// Bytes read.
    pub received_bytes: AtomicU64,
    /// Frames read that look like heartbeats.
    pub received_frames: AtomicU64,
    /// What was read between two delimiters and is no heartbeat: noise, half and damaged frames.
    pub noise: AtomicU64,
    /// The same, longer than any frame.
    pub overlong: AtomicU64,
    /// This node's own heartbeats that came back.
    pub returned: AtomicU64,
    /// Bytes written.
    pub sent_bytes: AtomicU64,
    /// Frames written.
    pub sent_frames: AtomicU64,
    /// Those of them that are other nodes' heartbeats.
    pub forwarded: AtomicU64,
    /// Heartbeats that did not leave: a newer one took their place, the line was lost, or their hops were used up.
    pub dropped: AtomicU64,
}

impl Stats {
    /// One of the socket path's counters, by its index in the kernel's map.
    pub fn socket_counter(&self, index: usize) -> u64 {
        self.socket.get(index).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// The scheduling class by its number.
    pub fn scheduling(&self) -> u32 {
        self.scheduling.load(Ordering::Relaxed)
    }

    /// Whether memory is locked.
    pub fn memory_locked(&self) -> bool {
        self.memory_locked.load(Ordering::Relaxed) != 0
    }
}

/// A histogram with the bounds of [`BUCKETS_US`].
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Histogram {
    /// Counts one value.
    pub fn record(&self, value: Duration) {
        let ns = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        let place = BUCKETS_US.iter().position(|bound| ns <= bound * 1_000).unwrap_or(BUCKETS_US.len());
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        self.max_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// Counts by bucket (the last is above all bounds), sum in ns, maximum in ns.
    pub fn read(&self) -> ([u64; BUCKETS_US.len() + 1], u64, u64) {
        let mut counts = [0; BUCKETS_US.len() + 1];
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        (counts, self.sum_ns.load(Ordering::Relaxed), self.max_ns.load(Ordering::Relaxed))
    }
}
