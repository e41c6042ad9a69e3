//! The links of one peer: each has its own verdict, which kills nobody.

use agent_common::LinkId;

use crate::action::Change;
use crate::event::Reading;
use crate::queue::Actions;
use crate::rules::Rules;
use crate::time::Instant;

use super::Peer;

impl Peer {
    pub(super) fn read_links(&mut self, reading: &Reading, rules: &Rules, now: Instant, out: &mut Actions) {
        let (read_at, deadtime) = (self.read_at, self.deadtime);
        let links = self.links.iter_mut().zip(&reading.links).zip(&rules.link).zip(LinkId::all());
        for (((link, reading), rules), id) in links.take(rules.links) {
            let (from, to) = link.read(reading, read_at, deadtime, rules);
            if from != to {
                out.tell(now, Change::Link { peer: self.id, link: id, from, to });
            }
        }
    }
}
