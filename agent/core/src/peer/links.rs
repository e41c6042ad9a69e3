//! The links of one peer: each has its own pace and its own verdict, which kills nobody, and its own round trip.

use core::time::Duration;

use agent_common::{Beat, LinkId};

use crate::action::Change;
use crate::event::{LinkReading, Reading};
use crate::link::Pace;
use crate::queue::Actions;
use crate::rules::{LinkRules, Rules};
use crate::time::Instant;

use super::Peer;

impl Peer {
    pub(super) fn read_links(&mut self, reading: &Reading, rules: &Rules, now: Instant, out: &mut Actions) {
        let read_at = self.read_at;
        let yardstick = Yardstick::of(reading, rules, self.deadtime);
        let counts = reading.counts_at.is_some();
        let links = self.links.iter_mut().zip(&reading.links).zip(&rules.link).zip(LinkId::all());
        for (((link, reading), link_rules), id) in links.take(rules.links) {
            let (from, to) = link.read(&heard(reading, counts), read_at, yardstick.pace(reading, link_rules));
            if from != to {
                out.tell(now, Change::Link { peer: self.id, link: id, from, to });
            }
        }
    }

    /// Takes what it measured of our heartbeats, if a frame that counts and acknowledges this life says so.
    pub(super) fn hear_echo(&mut self, beat: &Beat, rules: &Rules) {
        let knows_us = beat.ack_of(rules.me).is_some_and(|ack| ack.incarnation == rules.incarnation);
        let Some(echo) = beat.echo.as_ref().filter(|echo| knows_us && echo.nodes.contains(rules.me)) else {
            return;
        };
        let told = echo.delay_ns.get(rules.me.index());
        if let (Some(link), Some(told)) = (self.links.get_mut(echo.link.index()), told) {
            link.echoed(*told);
        }
    }

    /// The delay of its heartbeats on `link`, if it is heard there.
    pub(crate) fn delay(&self, link: LinkId) -> Option<i64> {
        self.links.get(link.index())?.delay()
    }

    /// Whether it is heard on a link of this set (bit = link id).
    pub(crate) fn is_heard_on(&self, links: u8) -> bool {
        let bits = self.links.iter().zip(0_u32..8);
        bits.into_iter().any(|(link, bit)| links & 1 << bit != 0 && link.is_heard())
    }
}

/// Before an incarnation has acknowledged ours its frames may be a session sent again, and say nothing of a link.
fn heard(link: &LinkReading, counts: bool) -> LinkReading {
    if counts { *link } else { LinkReading { at: None, ..*link } }
}

/// By what the links of one peer are judged.
#[derive(Clone, Copy, Debug)]
struct Yardstick {
    /// The peer's own interval, microseconds: the shortest that it announces on a link that is not slow by configuration.
    base_us: u32,
    /// This node's interval, microseconds, to which warntime belongs.
    own_us: u32,
    warntime: Duration,
    /// As the peer announced it.
    deadtime: Duration,
}

impl Yardstick {
    fn of(reading: &Reading, rules: &Rules, deadtime: Duration) -> Self {
        let links = reading.links.iter().zip(&rules.link).take(rules.links);
        let announced = links.filter(|(link, rules)| link.keepalive_us != 0 && !rules.is_slow);
        let base_us = announced.map(|(link, _)| link.keepalive_us).min().unwrap_or(rules.keepalive_us);
        Self { base_us, own_us: rules.keepalive_us, warntime: rules.warntime, deadtime }
    }

    /// A link that is so many times slower than its node is overdue and expires so many times later.
    fn pace(&self, reading: &LinkReading, rules: &LinkRules) -> Pace {
        let link_us = if reading.keepalive_us == 0 { rules.keepalive_us } else { reading.keepalive_us };
        let times = |base_us: u32| link_us.div_ceil(base_us.max(1)).max(1);
        Pace {
            warntime: self.warntime.saturating_mul(times(self.own_us)),
            deadtime: self.deadtime.saturating_mul(times(self.base_us)),
            interval: (link_us > self.base_us).then(|| Duration::from_micros(u64::from(link_us))),
        }
    }
}
