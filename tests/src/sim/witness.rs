//! What happened in a world, counted; and the checks of every verdict against what the kernels received.

use std::time::Duration;

use agent_common::NodeId;
use agent_core::{Change, PeerState};

use super::world::{WAKE_MAX, World};

/// What happened: a test that asserts that something did not happen shows by these that its trouble came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Frames that arrived and were accepted.
    pub frames: u64,
    /// Frames that were lost or cut.
    pub lost: u64,
    /// Peers called dead.
    pub deaths: u64,
    /// Pauses that lasted longer than the deadtime.
    pub long_pauses: u64,
    /// Rounds that began later than the deadtime after they were due.
    pub late_rounds: u64,
    /// Addresses that came up.
    pub acquired: u64,
    /// Addresses that went down.
    pub released: u64,
    /// Times at which two machines had one address.
    pub doubles: u64,
    /// Announcements after the first.
    pub announced: u64,
    /// Agents that ended in order.
    pub finished: u64,
}

impl World {
    /// I2: whoever is called dead was silent for longer than it announced, by what the kernel received.
    pub(super) fn check_verdict(&mut self, node: NodeId, change: &Change) {
        let Change::Peer { peer, to: PeerState::Dead, .. } = change else { return };
        self.witness.deaths += 1;
        let now = self.now;
        let machine = &self.machines[node.index()];
        let clock = machine.clock(now);
        let excused = machine.agent.as_ref().map_or(0, |agent| agent.excused_until);
        if let Some(heard) = machine.heard.get(peer).copied() {
            let deadline = heard.at.after(heard.deadtime);
            assert!(clock > deadline, "I2: {node:?} calls {peer:?} dead, which it hears");
            let late = clock.since(deadline);
            let is_reborn = machine.reborn(*peer).is_some();
            assert!(
                late <= WAKE_MAX + Duration::from_nanos(1) || now <= excused || is_reborn,
                "I3: {node:?} calls {peer:?} dead {late:?} too late"
            );
        }
    }

    /// I3: whoever was silent for longer than it announced is dead after the round.
    pub(super) fn check(&mut self, node: NodeId) {
        let Some(view) = self.view(node).filter(|view| !view.leaving) else { return };
        let machine = &self.machines[node.index()];
        let clock = machine.clock(self.now);
        for peer in self.nodes().filter(|peer| *peer != node) {
            let state = view.nodes[peer.index()].state;
            let reborn = machine.reborn(peer);
            let heard = machine.heard.get(&peer);
            let is_silent = heard.map(|heard| clock > heard.at.after(heard.deadtime));
            let may_live = heard
                .is_some_and(|heard| clock <= heard.at.max(reborn.unwrap_or(heard.at)).after(heard.deadtime));
            match state {
                // A new life that does not count yet hides what the earlier one sent last: who was dead before stays so.
                PeerState::Unknown | PeerState::Dead if reborn.is_some() => {}
                PeerState::Unknown | PeerState::Dead => {
                    assert_ne!(
                        (state, is_silent),
                        (PeerState::Dead, Some(false)),
                        "I2: {node:?} holds {peer:?} dead, which it hears"
                    );
                }
                PeerState::Up | PeerState::Late | PeerState::Leaving => {
                    assert!(may_live, "I3: {node:?} holds {peer:?} for {state:?}");
                }
            }
        }
    }
}
