//! From the notes of the realtime threads to events, with the names of the configuration; and how much each event matters to
//! whoever reads the log.

use std::sync::Arc;
use std::time::Duration;

use agent_common::{GroupId, NodeId};
use agent_core::snapshot::LeaseReason;
use agent_core::{Change, GateBy, PeerState, Transition};

use super::event::{Event, What};
use super::label;
use super::own::Own;
use crate::bridge::{AddressChange, LineChange, Note};
use crate::settings::Settings;
use crate::{links, serial};

/// How much an event matters to whoever reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Worth waking somebody.
    Warn,
    /// A transition.
    Info,
}

/// Turns notes into events; remembers what the interface wants and a note does not carry.
#[derive(Debug)]
pub struct Teller {
    settings: Arc<Settings>,
    peers: Vec<PeerState>,
}

impl Teller {
    /// For the names of `settings`.
    pub fn new(settings: &Settings) -> Self {
        let peers = vec![PeerState::Unknown; settings.nodes.len()];
        Self { settings: Arc::new(settings.clone()), peers }
    }

    /// Nodes have other names from now on.
    pub fn rename(&mut self, settings: &Arc<Settings>) {
        self.settings = Arc::clone(settings);
    }

    /// The events of a note: one for each address of a gate, none for what only one client waits for.
    pub fn tell(&mut self, note: &Note) -> Vec<Event> {
        match note {
            Note::Transition(Transition { at, what: Change::Gate { group, open, by } }) => {
                self.gate(*group, *open, *by).map(|what| Event { t_ns: at.0, what }).collect()
            }
            Note::Transition(transition) => {
                let event = self.transition(transition);
                // Of a node without a name nobody knows: it has not joined, or was removed.
                if let What::Peer { peer, .. } | What::Link { peer, .. } = &event.what
                    && peer.is_empty()
                {
                    return Vec::new();
                }
                vec![event]
            }
            Note::Answer { .. } | Note::Named { .. } => Vec::new(),
            Note::Ping { at, group, from, to } => {
                let group = self.settings.pings.get(usize::from(*group));
                let group = group.map_or_else(String::new, |ping| ping.name.clone());
                let what = What::Ping { group, from: from.label().to_owned(), to: to.label().to_owned() };
                vec![Event { t_ns: at.0, what }]
            }
            Note::SelfFenced { at, group } => vec![Event { t_ns: at.0, what: self.fenced(*group) }],
            Note::Interface { at, place, change, view } => {
                let what = self.interface(usize::from(*place), *change, *view);
                vec![Event { t_ns: at.0, what }]
            }
            Note::Line { at, line, change } => {
                self.line(*line, *change).map(|what| Event { t_ns: at.0, what }).into_iter().collect()
            }
            Note::Rival { at, sighting } => {
                vec![Event { t_ns: at.0, what: What::Own(Own::rival(sighting, &self.settings)) }]
            }
            Note::WatchdogFailed { at, errno } => {
                let errno = nix::errno::Errno::from_raw(*errno);
                let what = What::own(&format!("the watchdog could not be petted: {}", errno.desc()));
                vec![Event { t_ns: at.0, what }]
            }
            Note::Address { at, resource, done } => {
                let to = match done {
                    AddressChange::Added => "added",
                    AddressChange::Deleted => "deleted",
                    AddressChange::Announced => "announced",
                };
                vec![Event { t_ns: at.0, what: self.address(*resource, to, None, None) }]
            }
        }
    }

    /// How much an event matters, told right after it. A node that said that it goes wakes nobody.
    pub fn weight(&self, event: &Event) -> Weight {
        let leaving = |peer: &str| {
            let mut states = self.settings.nodes.iter().zip(&self.peers);
            states.any(|(node, state)| node.name == peer && *state == PeerState::Leaving)
        };
        let warn = match &event.what {
            What::Peer { from, to, incarnation: None, .. } => to == "dead" && from != "leaving",
            What::Peer { incarnation: Some(_), .. } => false,
            What::Link { peer, to, .. } => to == "dead" && !leaving(peer),
            What::Ping { to, .. } => to == "dead",
            What::Group { to, .. } => to == "failed",
            What::Lease { to, reason, .. } => {
                to == "lost" && LOST_UNWANTED.iter().any(|lost| lost.text() == reason)
            }
            What::Gate { to, by, .. } => to == "closed" && by == label::gate_by(GateBy::Kernel),
            What::Vote { .. } => false,
            What::Node { to, .. } => to == "refused",
            What::Fence { .. } => true,
            What::Line { to, .. } => to == "lost",
            What::Interface { to, gate, .. } => {
                let unguarded = gate.as_deref() == links::Guard::Missing.label();
                unguarded || [links::Change::Gone, links::Change::Down].iter().any(|bad| bad.label() == to)
            }
            What::Address { to, .. } => to == "failed" || to == "vanished",
            What::Config { to, .. } => to == "refused",
            What::Own(own) => own.is_bad(),
        };
        if warn { Weight::Warn } else { Weight::Info }
    }

    fn transition(&mut self, transition: &Transition) -> Event {
        let what = match transition.what {
            Change::Peer { peer, from, to, silent, deadtime } => {
                if let Some(state) = self.peers.get_mut(peer.index()) {
                    *state = to;
                }
                self.peer(peer, from, to, silent, deadtime)
            }
            Change::Restarted { peer, incarnation } => self.restarted(peer, incarnation),
            Change::Link { peer, link, from, to } => What::Link {
                peer: self.settings.node_name(peer).to_owned(),
                link: self.settings.link_name(link),
                from: label::link(from).to_owned(),
                to: label::link(to).to_owned(),
            },
            Change::Group { group, from, to, owner, epoch } => What::Group {
                group: self.settings.group_name(group).to_owned(),
                from: label::group(from).to_owned(),
                to: label::group(to).to_owned(),
                owner: owner.map(|owner| self.settings.node_name(owner).to_owned()),
                epoch,
            },
            Change::Failed { resource, failure, attempts } => {
                self.address(resource, "failed", Some(label::failure(failure)), Some(attempts))
            }
            Change::Vanished { resource } => {
                let reason = "somebody else removed it; it is put back".to_owned();
                self.address(resource, "vanished", Some(reason), None)
            }
            Change::Lease { group, held, reason } => What::Lease {
                group: self.settings.group_name(group).to_owned(),
                to: if held { "held" } else { "lost" }.to_owned(),
                reason: reason.text().to_owned(),
            },
            Change::Vote { group, epoch, candidate } => What::Vote {
                group: self.settings.group_name(group).to_owned(),
                epoch,
                candidate: candidate.map(|node| self.settings.node_name(node).to_owned()),
            },
            // Told above, once for each address.
            Change::Gate { group, open, by } => {
                gate(String::new(), self.settings.group_name(group), open, by)
            }
            Change::Quorum { have } => What::Own(Own { quorum: Some(have), ..Own::default() }),
            Change::Late { by } => {
                What::Own(Own { lateness_us: Some(whole(by.as_micros())), ..Own::default() })
            }
        };
        Event { t_ns: transition.at.0, what }
    }

    fn peer(
        &self,
        peer: NodeId,
        from: PeerState,
        to: PeerState,
        silent: Duration,
        deadtime: Duration,
    ) -> What {
        What::Peer {
            peer: self.settings.node_name(peer).to_owned(),
            from: label::peer(from).to_owned(),
            to: label::peer(to).to_owned(),
            silent_ms: whole(silent.as_millis()),
            silent_us: whole(silent.as_micros()),
            deadtime_ms: whole(deadtime.as_millis()),
            incarnation: None,
        }
    }

    fn restarted(&self, peer: NodeId, incarnation: u64) -> What {
        let state = label::peer(self.peers.get(peer.index()).copied().unwrap_or_default());
        What::Peer {
            peer: self.settings.node_name(peer).to_owned(),
            from: state.to_owned(),
            to: state.to_owned(),
            silent_ms: 0,
            silent_us: 0,
            deadtime_ms: 0,
            incarnation: Some(incarnation),
        }
    }

    fn gate(&self, group: GroupId, open: bool, by: GateBy) -> impl Iterator<Item = What> {
        let settings = self.settings.groups.get(group.index());
        let addresses = settings.into_iter().flat_map(|settings| &settings.addresses);
        let name = settings.map_or("", |settings| settings.name.as_str());
        addresses.map(move |settings| gate(settings.address.to_string(), name, open, by))
    }

    fn interface(&self, place: usize, change: links::Change, view: links::View) -> What {
        let name = links::interfaces(&self.settings).get(place).map(|name| (*name).to_owned());
        What::Interface {
            interface: name.unwrap_or_default(),
            to: change.label().to_owned(),
            index: view.index,
            receives: view.mode.map(|mode| mode.label().to_owned()),
            gate: view.guard.label().map(str::to_owned),
        }
    }

    fn line(&self, number: u8, change: LineChange) -> Option<What> {
        let line = serial::lines(&self.settings).into_iter().nth(usize::from(number))?;
        let (to, reason) = match change {
            LineChange::Open => ("open", None),
            LineChange::Lost(loss) => ("lost", Some(loss.text())),
        };
        let (device, link) = (line.device.display().to_string(), self.settings.link_name(line.link));
        Some(What::Line { device, link, to: to.to_owned(), reason })
    }

    fn fenced(&self, group: GroupId) -> What {
        let group = self.settings.group_name(group);
        What::Fence {
            node: self.settings.node_name(self.settings.me).to_owned(),
            to: "unavoidable".to_owned(),
            reason: if self.settings.watchdog.is_some() {
                format!("the lost lease of {group} could not be withdrawn: the watchdog is petted no more")
            } else {
                format!(
                    "the lost lease of {group} could not be withdrawn, and there is no [watchdog]: stop this node"
                )
            },
        }
    }

    fn address(
        &self,
        resource: agent_core::ResourceRef,
        to: &str,
        reason: Option<String>,
        attempts: Option<u32>,
    ) -> What {
        let address = self.settings.address(resource).map(|settings| settings.address.to_string());
        What::Address {
            address: address.unwrap_or_default(),
            to: to.to_owned(),
            group: self.settings.group_name(resource.group).to_owned(),
            reason,
            attempts,
        }
    }
}

/// Leases that are lost for these reasons were not given away.
const LOST_UNWANTED: [LeaseReason; 4] =
    [LeaseReason::Expired, LeaseReason::Failed, LeaseReason::Rival, LeaseReason::PingLost];

fn gate(address: String, group: &str, open: bool, by: GateBy) -> What {
    What::Gate {
        address,
        to: if open { "open" } else { "closed" }.to_owned(),
        by: label::gate_by(by).to_owned(),
        group: group.to_owned(),
    }
}

fn whole(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
