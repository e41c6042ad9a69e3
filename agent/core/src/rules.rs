//! The local rules by which peers and their links are judged: made once from the configuration.

use core::time::Duration;

use agent_common::NodeId;
use agent_common::ids::MAX_LINKS;

use crate::config::{Config, Start};
use crate::link::LinkRules;
use crate::mutation::Mutated;
use crate::time::Instant;

/// The local rules by which peers are judged.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// This node.
    pub(crate) me: NodeId,
    /// Its incarnation.
    pub(crate) incarnation: u64,
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
        let plain = LinkRules { warntime: timing.warntime, stretch: 1, interval: None };
        let mut link = [plain; MAX_LINKS];
        for (rules, link) in link.iter_mut().zip(&config.links) {
            if link.keepalive > timing.keepalive {
                let ratio = link.keepalive.as_nanos().div_ceil(timing.keepalive.as_nanos().max(1));
                let stretch = u32::try_from(ratio).unwrap_or(u32::MAX);
                let warntime = timing.warntime.saturating_mul(stretch);
                *rules = LinkRules { warntime, stretch, interval: Some(link.keepalive) };
            }
        }
        Self {
            me: config.me,
            incarnation: config.incarnation,
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
