//! What a test can do to a world: break, mend, start and stop.

use std::time::Duration;

use agent_common::{LinkId, NodeId};

use super::machine::Message;
use super::network::Loss;
use super::world::{Due, World, nanos};

impl World {
    /// Starts the agent of `node` anew.
    pub fn start(&mut self, node: NodeId) {
        let now = self.now;
        let setup = self.setup.clone();
        let machine = self.machine(node);
        machine.start(&setup, now);
        let life = machine.life;
        self.plan(now, Due::Round { node, life, timer: None });
    }

    /// Kills the agent of `node`: its addresses stay.
    pub fn kill(&mut self, node: NodeId) {
        self.machine(node).agent = None;
    }

    /// The machine of `node` loses its power: nothing of it stays.
    pub fn crash(&mut self, node: NodeId) {
        self.kill(node);
        let machine = self.machine(node);
        machine.addresses.clear();
        machine.gates.clear();
    }

    /// Stops the agent of `node` for `span`; its kernel goes on.
    pub fn pause(&mut self, node: NodeId, span: Duration) {
        let until = self.now + nanos(span);
        let machine = self.machine(node);
        let life = machine.life;
        if let Some(agent) = machine.agent.as_mut().filter(|agent| !agent.is_paused) {
            agent.is_paused = true;
            self.witness.long_pauses += u64::from(span > self.setup.timing.deadtime);
            self.plan(until, Due::Resume { node, life });
        }
    }

    /// The operator of `node` wants it to leave.
    pub fn leave(&mut self, node: NodeId) {
        self.tell(node, Message::Leave);
    }

    /// Somebody removes all addresses of `node`.
    pub fn meddle(&mut self, node: NodeId) {
        for resource in std::mem::take(&mut self.machine(node).addresses) {
            self.tell(node, Message::Vanished { resource });
        }
    }

    /// Cuts or heals all directed paths from `from` to `to`.
    pub fn cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        for link in LinkId::all().take(usize::from(self.setup.links)) {
            self.cut_link(from, to, link, cut);
        }
    }

    /// Cuts or heals one directed path.
    pub fn cut_link(&mut self, from: NodeId, to: NodeId, link: LinkId, cut: bool) {
        self.network.cut(from, to, link, cut);
    }

    /// Sets the loss of every path.
    pub fn lose(&mut self, loss: Loss) {
        self.network.lose(loss);
    }

    /// Heals the network.
    pub fn heal(&mut self) {
        self.network.heal();
    }
}
