//! The end of a round: what is due is sent.

use agent_common::LinkId;

use crate::action::Action;
use crate::life::{self, Life};
use crate::outgoing::{Carriers, Words};
use crate::time::Instant;

use super::Node;

impl Node {
    pub(super) fn send(&mut self, now: Instant) {
        let due = self.pacer.take(now);
        if due.beat && !self.groups.is_unsafe(self.leases.gate()) {
            self.actions.push(Action::PetWatchdog);
        }
        if due.links == 0 {
            return;
        }
        // The last words go on every link, slow ones too: there is no later heartbeat to say it.
        let links = if matches!(self.life, Life::Telling { .. }) { self.pacer.all() } else { due.links };
        self.leases.sent(self.outgoing.next_seq(), now);
        if self.leases.is_moved() {
            self.review_groups(now);
        }
        let words = Words {
            state: self.life.state(),
            maintenance: self.maintenance,
            vote_number: self.leases.voters().number(),
            deadtime: self.leases.announced(),
            score: self.score,
        };
        let slow = due.links & !self.pacer.fast();
        let carriers = Carriers { slow, all: due.links };
        self.outgoing.build(words, &self.view, &self.peers, carriers, now);
        (self.sent_links, self.was_sent) = (links, true);
        self.actions.push(Action::Send { links });
        self.life = life::next(self.life, life::Input::Sent, now);
        match self.life {
            Life::Telling { .. } => self.pacer.tell(),
            Life::Gone => {
                self.commands.end(&mut self.actions);
                self.actions.push(Action::Finished);
            }
            Life::Joining | Life::Up | Life::Yielding { .. } => {}
        }
    }

    /// A heartbeat that no link took was not sent: no lease of this node rests on it.
    pub(super) fn send_failed(&mut self, link: LinkId) {
        self.sent_links &= !(1 << link.raw());
        if self.sent_links == 0 && core::mem::take(&mut self.was_sent) {
            self.leases.not_sent();
        }
    }
}
