//! The local rules by which peers and their links are judged: made once from the configuration.

use core::time::Duration;

use agent_common::NodeId;
use agent_common::ids::MAX_LINKS;

use crate::config::{Config, Start};
use crate::mutation::Mutated;
use crate::time::Instant;

/// What the configuration says of one link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkRules {
    /// Its interval, microseconds; a peer may announce another.
    pub(crate) keepalive_us: u32,
    /// Whether it is slower than the node.
    pub(crate) is_slow: bool,
}

/// The local rules by which peers are judged.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// This node.
    pub(crate) me: NodeId,
    /// Its incarnation.
    pub(crate) incarnation: u64,
    /// The node's interval, microseconds.
    pub(crate) keepalive_us: u32,
    /// Silent for longer is late.
    pub(crate) warntime: Duration,
    /// The bound of announced deadtimes.
    pub(crate) initdead: Duration,
    /// When this life of this node started: an earlier process of the same life is not a start.
    pub(crate) started_at: Instant,
    /// Until then a peer that was never heard is unknown.
    pub(crate) unknown_until: Instant,
    /// A rule that a test broke.
    pub(crate) mutated: Mutated,
    /// Configured links.
    pub(crate) links: usize,
    /// By link id.
    pub(crate) link: [LinkRules; MAX_LINKS],
}

impl Rules {
    /// The rules of `config` for a node that starts at `now`.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let timing = &config.timing;
        let keepalive_us = micros(timing.keepalive);
        let mut link = [LinkRules { keepalive_us, is_slow: false }; MAX_LINKS];
        for (rules, link) in link.iter_mut().zip(&config.links) {
            if link.keepalive > timing.keepalive {
                *rules = LinkRules { keepalive_us: micros(link.keepalive), is_slow: true };
            }
        }
        Self {
            me: config.me,
            incarnation: config.incarnation,
            keepalive_us,
            warntime: timing.warntime,
            initdead: timing.initdead,
            started_at: match &config.start {
                Start::Fresh => now,
                Start::Carried(_) => Instant::ZERO,
            },
            unknown_until: now.after(timing.initdead),
            mutated: config.mutated,
            links: config.links.len().min(MAX_LINKS),
            link,
        }
    }
}

/// At least 1.
fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX).max(1)
}
