//! Which addresses this node guards: those of the groups that it may own, each with the interface that gets it.
//! Places count all addresses of the configuration, so that they mean the same wherever drops are shown.

use std::net::IpAddr;

use agent_common::GroupId;
use agent_common::maps::{GATE_ADDRESSES_MAX, GateAddress};

use super::Device;
use crate::io::interface;
use crate::settings::{AddressSettings, Settings};

/// An address of a group, and its place among all of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Where its drops are counted.
    pub place: u32,
    /// Its group.
    pub group: GroupId,
    /// The address.
    pub address: &'a AddressSettings,
}

/// All addresses of the configuration in order.
pub fn places(settings: &Settings) -> impl Iterator<Item = Placed<'_>> {
    let all = GroupId::all().zip(&settings.groups);
    let addresses = all.flat_map(|(group, of)| of.addresses.iter().map(move |address| (group, address)));
    (0u32..).zip(addresses).map(|(place, (group, address))| Placed { place, group, address })
}

/// Those that this node may own.
pub fn own(settings: &Settings) -> impl Iterator<Item = Placed<'_>> {
    places(settings).filter(|placed| {
        settings.groups.get(placed.group.index()).is_some_and(|group| group.prefer.contains(&settings.me))
    })
}

/// Key and value of an address in the map.
pub fn entry(placed: Placed<'_>) -> ([u8; 16], GateAddress) {
    let octets = match placed.address.address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    (octets, GateAddress { group: u32::from(placed.group.raw()), place: placed.place })
}

/// Why addresses cannot be guarded.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The interfaces could not be listed.
    #[error("the network interfaces could not be listed: {0}")]
    Interfaces(#[source] std::io::Error),
    /// More than the map holds.
    #[error("more than {GATE_ADDRESSES_MAX} service addresses")]
    TooMany,
}

/// The names of the interfaces of all addresses that this node may own, once each.
pub fn interfaces(settings: &Settings) -> Vec<&str> {
    let mut names = Vec::new();
    for Placed { address, .. } in own(settings) {
        if !names.contains(&address.interface.as_str()) {
            names.push(&address.interface);
        }
    }
    names
}

/// Those of them that are there. One that comes later gets its programs before any address.
///
/// # Errors
/// Not all addresses can be guarded.
pub fn devices(settings: &Settings) -> Result<Vec<Device>, GuardError> {
    if places(settings).count() > GATE_ADDRESSES_MAX {
        return Err(GuardError::TooMany);
    }
    let mut found: Vec<Device> = Vec::new();
    for name in interfaces(settings) {
        let interface = interface::look_up(name).map_err(GuardError::Interfaces)?;
        found.extend(interface.map(|found| Device { name: found.name, index: found.index }));
    }
    Ok(found)
}
