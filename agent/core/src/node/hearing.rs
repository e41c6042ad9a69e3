//! What is read of the peers, and when their silence is judged.

use agent_common::NodeId;

use crate::event::Reading;
use crate::time::Instant;

use super::Node;

impl Node {
    pub(super) fn read(&mut self, reading: &Reading, now: Instant) {
        let id = reading.beat.node;
        self.look_for_outlived(reading);
        let Some(place) = self.place(id) else { return };
        let (Some(peer), Some(check)) = (self.peers.get_mut(place), self.checks.get_mut(place)) else {
            return;
        };
        let news = peer.read(reading, &self.rules, now, &mut self.actions);
        *check = peer.check_at();
        if news.reborn {
            self.leases.forget(id);
            self.groups.forget(id, self.leases.mutated());
        }
        if news.counted {
            if let Some(seq) = peer.acked() {
                self.leases.acked(id, seq, peer.table_is_known());
                self.view_is_old |= self.leases.greeted_by(id);
            }
            if !self.leases.voters().is_joined(id)
                && let Some(two_node) = self.leases.two_node_mut()
            {
                two_node.heard();
            }
        }
        self.view_is_old |= news.changed;
        if news.returned {
            self.groups.mark_announce();
        }
        if news.greet {
            self.pacer.tell();
        }
        self.peers_at = self.checks.iter().copied().fold(Instant::NEVER, Instant::min);
    }

    /// *Incarnation*: a node that sees its own acked at or above what it has sent takes that + 1 and starts over.
    fn look_for_outlived(&mut self, reading: &Reading) {
        let Some(ack) = reading.beat.ack_of(self.rules.me).filter(|_| reading.heard) else { return };
        let mine = (self.rules.incarnation, self.outgoing.beat().seq);
        if (ack.incarnation, ack.seq) > mine {
            self.outlived = self.outlived.max(ack.incarnation.checked_add(1));
        }
    }

    pub(super) fn judge(&mut self, now: Instant) {
        if self.peers_at > now {
            return;
        }
        for (peer, check) in self.peers.iter_mut().zip(&mut self.checks).filter(|(_, check)| **check <= now) {
            self.view_is_old |= peer.judge(&self.rules, now, &mut self.actions);
            *check = peer.check_at();
        }
        self.peers_at = self.checks.iter().copied().fold(Instant::NEVER, Instant::min);
    }

    /// Where a node stands in the list of peers, which leaves out this one.
    pub(super) const fn place(&self, id: NodeId) -> Option<usize> {
        let (id, me) = (id.index(), self.rules.me.index());
        if id == me {
            None
        } else if id > me {
            Some(id - 1)
        } else {
            Some(id)
        }
    }
}
