//! The links of the configuration on the interfaces of this machine: looked up, attached, sockets opened.
//! What cannot be used is named and left out, as long as one link works.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;

use agent_common::LinkId;
use agent_core::config::GateKind;
use tracing::{info, warn};

use super::RunError;
use crate::bridge::{KernelView, Keyring};
use crate::gate::Gates;
use crate::gate::keeper::Keeper;
use crate::io::counters::NoKernel;
use crate::io::interface::{self, Interface};
use crate::io::paths::{Arrival, Paths};
use crate::io::programs::Programs;
use crate::io::receiver::Receiver;
use crate::io::xdp::{self, Attached, Kernel, LoadError, cluster_config};
use crate::serial;
use crate::settings::{ReceiveMode, Settings};

/// Where the frames of each usable link arrive. A link that cannot be used now is named and left out.
fn arrivals(settings: &Settings) -> Result<Vec<Arrival>, RunError> {
    let mut interfaces: BTreeMap<&str, Option<Interface>> = BTreeMap::new();
    let mut arrivals = Vec::new();
    let networks = settings.links.iter().filter_map(|link| Some((link.id, link.network()?)));
    for (id, link) in networks {
        if !interfaces.contains_key(link.interface.as_str()) {
            let found = interface::look_up(&link.interface).map_err(RunError::Interfaces)?;
            interfaces.insert(&link.interface, found);
        }
        let interface = interfaces.get(link.interface.as_str()).and_then(Option::as_ref);
        match Arrival::of(id, link, settings, interface) {
            Ok(arrival) => {
                warn_if_absent(&arrival, interface, settings);
                arrivals.push(arrival);
            }
            Err(error) => warn!("link {}: {error}", settings.link_name(id)),
        }
    }
    let has_lines = !serial::lines(settings).is_empty();
    if arrivals.is_empty() && !settings.links.is_empty() && !has_lines { Err(RunError::NoLink) } else { Ok(arrivals) }
}

fn warn_if_absent(arrival: &Arrival, interface: Option<&Interface>, settings: &Settings) {
    let unicast = !arrival.destination.is_multicast();
    let broadcast = interface.and_then(Interface::broadcast).map(IpAddr::V4);
    if unicast
        && broadcast != Some(arrival.destination)
        && interface.is_some_and(|interface| !interface.has(arrival.destination))
    {
        let (name, address) = (settings.link_name(arrival.link), arrival.destination);
        warn!(
            "link {name}: {address} is not on {} yet; nothing is heard on the link until it is",
            arrival.interface
        );
    }
}

/// The links as they work in fact.
pub(super) struct Network {
    pub(super) kernel: Option<Kernel>,
    pub(super) programs: Option<Programs>,
    pub(super) view: Box<dyn KernelView>,
    pub(super) modes: BTreeMap<String, ReceiveMode>,
    pub(super) receiver: Receiver,
    pub(super) paths: Paths,
    pub(super) keeper: Keeper,
    pub(super) gates: Option<Gates>,
    pub(super) gate: GateKind,
}

/// Brings the links up: XDP first, since attaching may take a link down for a moment, then the sockets.
///
/// # Errors
/// No link can be used.
pub(super) fn bring_up(
    settings: &Settings,
    keyring: &Keyring,
    incarnation: u64,
    mut keeper: Keeper,
) -> Result<Network, RunError> {
    let arrivals = arrivals(settings)?;
    let cluster = cluster_config(settings, incarnation);
    let Attached { kernel, programs, view, modes, gate, remarks } =
        xdp::attach(settings, cluster, keyring, &arrivals, &mut keeper);
    remarks.iter().for_each(|remark| warn!("{remark}"));
    let kernel = match kernel {
        Ok(kernel) => Some(kernel),
        Err(LoadError::Off) => None,
        Err(error) => {
            warn!("no XDP: {error}");
            None
        }
    };
    let (gate, gates) = match gate {
        Ok(gates) => (GateKind::Kernel, gates),
        Err(error) => {
            warn!(
                "the gate is in userspace only: {error}; an agent that is killed or hangs keeps its addresses"
            );
            (GateKind::Userspace, None)
        }
    };
    for (interface, mode) in &modes {
        match mode {
            ReceiveMode::Native | ReceiveMode::Generic => info!("{interface}: {} XDP", mode.label()),
            ReceiveMode::Tcx => info!("{interface}: heartbeats are received by a classifier"),
            ReceiveMode::Socket => info!("{interface}: heartbeats are received through a socket"),
        }
    }
    let (paths, errors) = Paths::open(settings, &arrivals, &modes);
    for (link, error) in &errors {
        warn!("link {}: {error}", settings.link_name(*link));
    }
    if !settings.links.is_empty() && !LinkId::all().any(|link| paths.usable(link)) && serial::lines(settings).is_empty() {
        let denied = errors.iter().find(|(_, error)| error.is_denied());
        return Err(
            denied.map_or(RunError::NoLink, |_| RunError::NotPermitted(ErrorKind::PermissionDenied.into()))
        );
    }
    let receiver = Receiver::new(cluster, keyring, paths.sockets().len());
    let view: Box<dyn KernelView> = match view {
        Some(view) => Box::new(view),
        None => Box::new(NoKernel),
    };
    Ok(Network { kernel, programs, view, modes, receiver, paths, keeper, gates, gate })
}
