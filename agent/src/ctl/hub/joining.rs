//! Nodes that join and are removed while the agent runs: the core knows every id, so all that changes is the host cache and
//! the names by which people see them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use agent_common::{Name, NodeId};
use agent_core::PeerState;
use tracing::warn;

use super::Hub;
use crate::ctl::event::What;
use crate::ctl::teller::{Teller, Weight};
use crate::hosts::Heard;
use crate::rt::clock;
use crate::settings::Autojoin;

/// What an operator wants of the nodes that joined.
pub(in crate::ctl) enum Wanted {
    /// Take one in, or say more of it.
    Add { name: String, id: Option<u8>, addresses: BTreeMap<String, IpAddr> },
    /// Remove one; also one that lives, with `force`.
    Remove { name: String, force: bool },
}

impl Hub {
    /// A peer said its name.
    pub(super) fn named(&mut self, node: NodeId, name: Name, teller: &mut Teller) {
        let Some(name) = name.as_str() else { return };
        let (heard, kept) = self.hosts.heard(&self.settings, node, name, now_s());
        if let Err(error) = kept {
            warn!("{name} has joined until the next start only: {error}");
        }
        match heard {
            Heard::Known => {}
            Heard::Joined => {
                self.call(node, name);
                teller.rename(&self.settings);
                self.tell(What::node(name, node, "joined", None), Weight::Info);
            }
            Heard::Refused(reason) => {
                self.tell(What::node(name, node, "refused", Some(reason)), Weight::Warn);
            }
        }
    }

    pub(super) fn join(&mut self, wanted: Wanted) -> Result<(), String> {
        match wanted {
            Wanted::Add { name, id, addresses } => {
                let settings = Arc::clone(&self.settings);
                let before = self.hosts.id_of(&name);
                let id = self.hosts.add(&settings, &name, id, addresses, now_s())?;
                // This node itself, and whoever changed its id, is so from the next start on.
                if id != settings.me && before.is_none_or(|before| before == id) {
                    self.call(id, &name);
                }
                self.tell(What::node(&name, id, "added", None), Weight::Info);
            }
            Wanted::Remove { name, force } => {
                let lives = self.hosts.id_of(&name).is_some_and(|id| self.lives(id));
                if lives && !force {
                    let help = "stop its agent first, or use --force to leave it out while it runs";
                    return Err(format!("{name} is heard: {help}"));
                }
                let settings = Arc::clone(&self.settings);
                let id = self.hosts.remove(&settings, &name, now_s())?;
                self.tell(What::node(&name, id, "removed", None), Weight::Info);
                self.call(id, "");
            }
        }
        Ok(())
    }

    fn lives(&mut self, node: NodeId) -> bool {
        let view = self.side.snapshots.read().nodes.get(node.index()).copied().unwrap_or_default();
        match view.state {
            PeerState::Up | PeerState::Late => true,
            PeerState::Unknown | PeerState::Dead | PeerState::Leaving => false,
        }
    }

    /// The name of a node from now on; nothing, for an id that this process has no room for: a restart makes it.
    fn call(&mut self, node: NodeId, name: &str) {
        let mut settings = (*self.settings).clone();
        let Some(called) = settings.nodes.get_mut(node.index()).filter(|called| called.joined) else {
            if self.settings.autojoin == Autojoin::None && !name.is_empty() {
                warn!("{name} is known from the next `xbeat restart` on");
            }
            return;
        };
        name.clone_into(&mut called.name);
        self.settings = Arc::new(settings);
        self.renamed = true;
    }
}

/// Seconds since 1970.
fn now_s() -> u64 {
    clock::wall_ns() / 1_000_000_000
}
