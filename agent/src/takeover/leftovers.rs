//! What a killed predecessor left: service addresses that are on their interfaces before this agent has said anything.
//! Whoever serves them by now must not have a rival, so they go before the first frame.

use tracing::{info, warn};

use agent_common::GroupId;

use super::message::Message;
use super::netlink::{Present, Requests};
use crate::carry::Stays;
use crate::io::interface;
use crate::settings::{AddressSettings, Settings};

/// Removes every configured address that is found on its interface, and says so, but those of groups that go on being
/// served. One that cannot be removed is warned of; the core hears of it as soon as the takeover thread looks.
pub fn remove(settings: &Settings, stays: &Stays, requests: &mut Requests) {
    let mut present = Vec::new();
    if let Err(error) = requests.dump(|found| present.push(found)) {
        warn!("cannot see whether service addresses are left on this node: {error}");
        return;
    }
    let groups = GroupId::all().zip(&settings.groups);
    let leave = groups.filter(|(id, _)| stays.groups & 1 << id.raw() == 0);
    for address in leave.flat_map(|(_, group)| &group.addresses).chain(&stays.gone) {
        for found in present.iter().filter(|found| found.address == address.address) {
            remove_one(address, *found, requests);
        }
    }
}

fn remove_one(address: &AddressSettings, found: Present, requests: &mut Requests) {
    let index = interface::look_up(&address.interface).ok().flatten().map(|interface| interface.index);
    let (ip, prefix, name) = (found.address, found.prefix, &address.interface);
    if index != Some(found.index) {
        warn!(
            "service address {ip} is on another interface than {name} (index {}): remove it there",
            found.index
        );
        return;
    }
    match requests.request(&mut Message::delete(ip, prefix, found.index)) {
        Ok(()) => info!("removed {ip}/{prefix} from {name}: an earlier agent left it there"),
        Err(error) => {
            warn!("service address {ip}/{prefix} was left on {name} and could not be removed: {error}")
        }
    }
}
