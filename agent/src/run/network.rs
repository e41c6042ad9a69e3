//! The links of the configuration on the interfaces of this machine: looked up, attached, sockets opened.
//! What cannot be used is named and left out, as long as one link works.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;

use agent_core::config::GateKind;
use tracing::{info, warn};

use super::RunError;
use crate::bridge::{KernelView, Keyring};
use crate::gate::keeper::Keeper;
use crate::gate::{Gates, guard};
use crate::io::counters::NoKernel;
use crate::io::interface::{self, Interface};
use crate::io::paths::{Arrival, Part, Paths};
use crate::io::programs::Programs;
use crate::io::receiver::Receiver;
use crate::io::xdp::{self, Attached, Kernel, LoadError, cluster_config};
use crate::links::follower::Watched;
use crate::links::{self, Guard, View};
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
    if arrivals.is_empty() && !settings.links.is_empty() && !has_lines {
        Err(RunError::NoLink)
    } else {
        Ok(arrivals)
    }
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
    pub(super) watched: Vec<Watched>,
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
    let (paths, watched) = open(settings, &arrivals, &modes, gate, &keeper)?;
    let receiver = Receiver::new(cluster, keyring);
    let view: Box<dyn KernelView> = match view {
        Some(view) => Box::new(view),
        None => Box::new(NoKernel),
    };
    Ok(Network { kernel, programs, view, modes, receiver, paths, watched, keeper, gates, gate })
}

/// The sockets, and what the follower must know of the start.
///
/// # Errors
/// No link can be used.
fn open(
    settings: &Settings,
    arrivals: &[Arrival],
    modes: &BTreeMap<String, ReceiveMode>,
    gate: GateKind,
    keeper: &Keeper,
) -> Result<(Paths, Vec<Watched>), RunError> {
    let (mut paths, mut denied, mut all) = (Paths::default(), false, Vec::new());
    let (link_interfaces, guarded) = (settings.link_interfaces().len(), guard::interfaces(settings));
    for (place, name) in links::interfaces(settings).into_iter().enumerate() {
        let found = interface::look_up(name).map_err(RunError::Interfaces)?;
        let arrivals: Vec<Arrival> =
            arrivals.iter().filter(|arrival| arrival.interface == name).cloned().collect();
        // What went or came since it was looked at is the follower's.
        let device = keeper.devices().iter().find(|device| device.name == name).map(|device| device.index);
        let index = arrivals.first().map(|arrival| arrival.index).or(device).unwrap_or(0);
        let guard = match gate {
            _ if !guarded.contains(&name) => Guard::NoAddress,
            GateKind::Userspace => Guard::Userspace,
            GateKind::Kernel if device.is_some() => Guard::Kernel,
            GateKind::Kernel => Guard::Missing,
        };
        let carries = found.is_some_and(|found| found.carries && found.index == index);
        let mode = modes.get(name).copied().filter(|_| index != 0);
        let mut view = View { index, carries, mode, guard, usable: 0 };
        let has_part = !arrivals.is_empty() && place < link_interfaces;
        if has_part {
            let (part, errors) = Part::open(settings, &arrivals, mode.unwrap_or(ReceiveMode::Socket));
            for (link, error) in &errors {
                warn!("link {}: {error}", settings.link_name(*link));
                denied |= error.is_denied();
            }
            view.usable = part.usable();
            paths.put(place, Some(Box::new(part)));
        }
        all.push(Watched { name: name.to_owned(), view, arrivals, has_part });
    }
    if settings.link_interfaces().is_empty() || all.iter().any(|watched| watched.view.usable != 0) {
        return Ok((paths, all));
    }
    Err(if denied { RunError::NotPermitted(ErrorKind::PermissionDenied.into()) } else { RunError::NoLink })
}
