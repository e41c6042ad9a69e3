//! The node for people.

use crate::membership::Standing;
use crate::snapshot::{NodeView, PeerState, Snapshot};
use crate::time::Instant;

use super::Node;

impl Node {
    /// Fills `out` with what this node thinks at `now`. Allocates only what `out` lacks.
    pub fn snapshot_into(&self, out: &mut Snapshot, now: Instant) {
        out.at = now.max(self.now);
        out.incarnation = self.rules.incarnation;
        out.quorum = self.view.standing == Standing::With;
        out.maintenance = self.is_suspended;
        out.leaving = self.life.is_leaving();
        out.nodes.clear();
        out.nodes.resize(self.nodes, NodeView::default());
        for peer in &self.peers {
            if let Some(view) = out.nodes.get_mut(peer.id().index()) {
                *view = peer.view(&self.rules);
            }
        }
        if let Some(own) = out.nodes.get_mut(self.rules.me.index()) {
            own.state = PeerState::Up;
            own.incarnation = self.rules.incarnation;
            own.deadtime = self.deadtime;
            own.score = self.score;
        }
        self.groups.view_into(self.rules.me, &self.peers, &mut out.groups, out.at);
    }
}
