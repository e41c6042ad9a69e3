//! What the operator and the tie-break bring to a node.

use crate::action::Action;
use crate::answer::{Answer, Refusal};
use crate::command::Setting;
use crate::config::GateKind;
use crate::event::Operator;
use crate::lease::two_node::TwoNode;
use crate::life;
use crate::node::Node;
use crate::time::Instant;

/// The highest score that a heartbeat can say.
const SCORE_MAX: u8 = 15;

impl Node {
    /// Carries out, or begins to, what the operator wants.
    pub(crate) fn obey(&mut self, ticket: u32, what: Operator, now: Instant) {
        let setting = Setting {
            peers: &self.peers,
            leases: &self.leases,
            life: self.life,
            maintenance: self.is_suspended,
            now,
        };
        match what {
            Operator::Standby(group) => {
                self.commands.standby(ticket, group, &mut self.groups, setting, &mut self.actions);
            }
            Operator::Takeover(group) => {
                self.commands.takeover(ticket, group, &mut self.groups, setting, &mut self.actions);
            }
            Operator::Maintenance(on) => self.maintain(ticket, on, now),
            Operator::Pause => {
                if self.commands.pause(ticket, setting, &mut self.actions) {
                    let initdead = self.leases.initdead();
                    self.announce(initdead, now);
                }
            }
            Operator::Leave => self.leave(ticket, now),
        }
        self.view_is_old = true;
    }

    /// *Maintenance* suspends decisions, never leases. Whoever stops its agent has `initdead` to come back: so long is the
    /// deadtime that a node in maintenance announces.
    fn maintain(&mut self, ticket: u32, on: bool, now: Instant) {
        if self.life.is_leaving() {
            let answer = Answer::Refused(Refusal::Leaving);
            self.actions.push(Action::Answer { ticket, answer });
            return;
        }
        self.maintenance = on;
        if on {
            let initdead = self.leases.initdead();
            self.announce(initdead, now);
        } else {
            self.commands.take_back_pause(&mut self.actions);
            // What carried on shortens when that is borne.
            if !self.leases.resumes() {
                let deadtime = self.leases.deadtime();
                self.announce(deadtime, now);
            }
        }
        self.pacer.tell();
        self.actions.push(Action::Answer { ticket, answer: Answer::Done });
    }

    /// In maintenance, with a gate in the kernel, the agent just ends: the gate goes on until the lease is over.
    fn leave(&mut self, ticket: u32, now: Instant) {
        self.commands.leave(ticket, now, &mut self.actions);
        if self.maintenance && self.leases.gate() == GateKind::Kernel {
            self.life = life::Life::Gone;
            self.commands.end(&mut self.actions);
            self.actions.push(Action::Finished);
            return;
        }
        self.live(life::Input::Leave, now);
    }

    /// A pause that nobody bears is given up.
    pub(crate) fn review_commands(&mut self, now: Instant) {
        let setting = Setting {
            peers: &self.peers,
            leases: &self.leases,
            life: self.life,
            maintenance: self.is_suspended,
            now,
        };
        if self.commands.review(&mut self.groups, setting, &mut self.actions) && !self.maintenance {
            let deadtime = self.leases.deadtime();
            self.announce(deadtime, now);
        }
    }

    /// Announces another deadtime, at once.
    pub(crate) fn announce(&mut self, deadtime: core::time::Duration, now: Instant) {
        if self.leases.announce(deadtime, now) {
            self.pacer.tell();
        }
    }

    /// This node reaches so many ping groups.
    pub(crate) fn reach(&mut self, score: u8) {
        let score = score.min(SCORE_MAX);
        if self.score != score {
            self.score = score;
            self.view_is_old = true;
            self.pacer.tell();
        }
    }

    /// The tie-break of two nodes has spoken.
    pub(crate) fn tie_break(&mut self, tell: impl FnOnce(&mut TwoNode)) {
        if let Some(two_node) = self.leases.two_node_mut() {
            tell(two_node);
            self.view_is_old = true;
        }
    }

    /// *Two nodes*: only the taker fences, never the holder, and only when nothing else keeps it from taking over.
    pub(crate) fn order_fence(&mut self, now: Instant) {
        if !self.groups.lack_tie_break() {
            return;
        }
        let Some(peer) = self.leases.other_voter(&self.peers).map(crate::peer::Peer::id) else { return };
        if self.leases.two_node_mut().is_some_and(|two_node| two_node.order_fence(now)) {
            self.actions.push(Action::Fence { peer });
        }
    }
}
