//! A peer for people.

use crate::rules::Rules;
use crate::snapshot::NodeView;

use super::Peer;

impl Peer {
    /// The peer for people.
    pub(crate) fn view(&self, rules: &Rules) -> NodeView {
        let mut view = NodeView {
            state: self.state,
            incarnation: self.incarnation,
            counts_at: self.counts_at,
            deadtime: self.deadtime,
            accepted: self.accepted,
            score: self.score,
            ..NodeView::default()
        };
        for (slot, link) in view.links.iter_mut().zip(&self.links).take(rules.links) {
            *slot = link.view();
        }
        view
    }
}
