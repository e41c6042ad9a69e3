//! What the ping thread has seen, for `status` and metrics: relaxed atomics that it writes and the control thread reads.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use agent_core::Instant;

use super::PingState;
use crate::settings::{PING_TARGETS_MAX, PINGS_MAX};

/// By place of the group in the configuration.
#[derive(Default, Debug)]
pub struct PingCounters {
    groups: [GroupCounters; PINGS_MAX],
    /// Answers that did not count: of others, repeated, or too late.
    pub ignored: AtomicU64,
}

/// One group.
#[derive(Default, Debug)]
pub struct GroupCounters {
    state: AtomicU8,
    last_reply_ns: AtomicU64,
    targets: [TargetCounters; PING_TARGETS_MAX],
}

/// One target.
#[derive(Default, Debug)]
pub struct TargetCounters {
    state: AtomicU8,
    rtt_ns: AtomicU64,
    /// Requests that the kernel took.
    pub sent: AtomicU64,
    /// Answers that counted.
    pub received: AtomicU64,
    /// Requests that the kernel did not take.
    pub failed: AtomicU64,
}

impl PingCounters {
    /// A group by its place.
    pub fn group(&self, place: usize) -> Option<&GroupCounters> {
        self.groups.get(place)
    }
}

impl GroupCounters {
    /// A target by its place.
    pub fn target(&self, place: usize) -> Option<&TargetCounters> {
        self.targets.get(place)
    }

    /// The group's state.
    pub fn state(&self) -> PingState {
        PingState::from_code(self.state.load(Ordering::Relaxed))
    }

    /// When an answer last arrived.
    pub fn last_reply(&self) -> Option<Instant> {
        some(self.last_reply_ns.load(Ordering::Relaxed)).map(Instant)
    }

    pub(super) fn set_state(&self, state: PingState) {
        self.state.store(state.code(), Ordering::Relaxed);
    }

    pub(super) fn replied(&self, at: Instant) {
        self.last_reply_ns.store(at.0, Ordering::Relaxed);
    }
}

impl TargetCounters {
    /// The target's state.
    pub fn state(&self) -> PingState {
        PingState::from_code(self.state.load(Ordering::Relaxed))
    }

    /// The newest round trip.
    pub fn rtt(&self) -> Option<Duration> {
        some(self.rtt_ns.load(Ordering::Relaxed)).map(Duration::from_nanos)
    }

    pub(super) fn set_state(&self, state: PingState) {
        self.state.store(state.code(), Ordering::Relaxed);
    }

    pub(super) fn measured(&self, rtt: Duration) {
        let ns = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
        self.rtt_ns.store(ns.max(1), Ordering::Relaxed);
    }
}

/// Zero stands for nothing.
const fn some(value: u64) -> Option<u64> {
    if value == 0 { None } else { Some(value) }
}
