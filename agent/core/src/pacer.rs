//! When to send: one heartbeat each keepalive on an absolute schedule, without drift and without bursts after a stall; and
//! one more at once when there is news, but not faster than [`NEWS_SPACING`].

use alloc::vec::Vec;
use core::time::Duration;

use agent_common::LinkId;

use crate::config::Config;
use crate::time::Instant;

/// Least time between a heartbeat and an extra one with news; half a keepalive if that is less.
pub(crate) const NEWS_SPACING: Duration = Duration::from_millis(1);

/// What is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Bit for each link to send on, 0 for none.
    pub(crate) links: u8,
    /// Whether a keepalive has passed.
    pub(crate) beat: bool,
}

/// The schedule of one link.
#[derive(Clone, Copy, Debug)]
struct LinkPace {
    keepalive: Duration,
    next: Instant,
}

/// The schedule of the node.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    keepalive: Duration,
    spacing: Duration,
    next: Instant,
    news: bool,
    news_from: Instant,
    /// Links that carry every heartbeat.
    fast: u8,
    links: Vec<LinkPace>,
}

impl Pacer {
    /// A schedule whose first heartbeat is due at `now`.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        // A keepalive of zero would spin; the configuration refuses it.
        let keepalive = config.timing.keepalive.max(Duration::from_micros(1));
        let links: Vec<LinkPace> = config
            .links
            .iter()
            .take(agent_common::ids::MAX_LINKS)
            .map(|link| LinkPace { keepalive: link.keepalive.max(keepalive), next: now })
            .collect();
        let fast = mask(&links, |link| link.keepalive == keepalive);
        let spacing = NEWS_SPACING.min(keepalive / 2);
        Self { keepalive, spacing, next: now, news: false, news_from: now, fast, links }
    }

    /// There is news to send.
    pub(crate) const fn tell(&mut self) {
        self.news = self.fast != 0;
    }

    /// All links.
    pub(crate) fn all(&self) -> u8 {
        mask(&self.links, |_| true)
    }

    /// Links that carry every heartbeat.
    pub(crate) const fn fast(&self) -> u8 {
        self.fast
    }

    /// A link has its carrier back: it is sent on at once.
    pub(crate) fn came_up(&mut self, link: LinkId, now: Instant) {
        if let Some(link) = self.links.get_mut(link.index()) {
            link.next = link.next.min(now);
        }
        self.tell();
    }

    /// When something is due.
    pub(crate) fn wake(&self) -> Instant {
        if self.news { self.next.min(self.news_from) } else { self.next }
    }

    /// What is due at `now`, and moves the schedule on. Heartbeats missed in a stall are not made up for.
    pub(crate) fn take(&mut self, now: Instant) -> Due {
        let beat = now >= self.next;
        if beat {
            self.next = advance(self.next, self.keepalive, now);
        } else if !self.news || now < self.news_from {
            return Due::default();
        }
        let links = mask(&self.links, |link| link.next <= now) | if self.news { self.fast } else { 0 };
        for link in self.links.iter_mut().filter(|link| link.next <= now) {
            link.next = advance(link.next, link.keepalive, now);
        }
        if links & self.fast != 0 {
            self.news = false;
            self.news_from = now.after(self.spacing);
        }
        Due { links, beat }
    }
}

/// The first moment of the schedule `from + k * step` that is later than `now`.
fn advance(from: Instant, step: Duration, now: Instant) -> Instant {
    let next = from.after(step);
    if next > now {
        return next;
    }
    let step_ns = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
    let steps = now.0.saturating_sub(from.0) / step_ns + 1;
    Instant(from.0.saturating_add(steps.saturating_mul(step_ns)))
}

fn mask(links: &[LinkPace], of: impl Fn(&LinkPace) -> bool) -> u8 {
    links.iter().zip(0_u32..8).filter(|(link, _)| of(link)).fold(0, |set, (_, bit)| set | 1 << bit)
}

#[cfg(test)]
#[path = "pacer_tests.rs"]
mod tests;
