//! The loaded object as far as interfaces go: its programs, which are put on them, and the table that says which
//! link's frames arrive where. What the rt thread needs of the object is in [`super::xdp::Kernel`].

use std::net::IpAddr;

use agent_common::maps::{LinkConfig, LinkTable, name};
use aya::Ebpf;
use aya::maps::{Array, MapData};

use super::paths::Arrival;
use super::xdp::LoadError;
use crate::gate::Device;
use crate::gate::ingress::{self, Carried};
use crate::gate::keeper::Keeper;
use crate::settings::XdpSetting;

/// The programs and their attachments: those that are not pinned end with this.
pub struct Programs {
    /// The object.
    pub ebpf: Ebpf,
    links: Array<MapData, LinkTable>,
}

impl Programs {
    /// Of a loaded object whose table of links was taken out.
    pub const fn new(ebpf: Ebpf, links: Array<MapData, LinkTable>) -> Self {
        Self { ebpf, links }
    }

    /// The programs serve these links and no others.
    ///
    /// # Errors
    /// The map could not be written; the links served before stay so.
    pub fn serve(&mut self, arrivals: &[Arrival]) -> Result<(), LoadError> {
        let mut table = LinkTable::default();
        for arrival in arrivals {
            if let Some(link) = table.links.get_mut(arrival.link.index()) {
                *link = link_config(arrival);
            }
        }
        self.links.set(0, table, 0).map_err(|error| LoadError::Map(name::LINKS, error))
    }

    /// Attaches the program wherever it is needed; what did not work goes to `remarks`.
    pub(super) fn attach_all(
        &mut self,
        wanted: XdpSetting,
        arrivals: &[Arrival],
        keeper: &mut Keeper,
        remarks: &mut Vec<String>,
    ) -> Vec<(Device, Carried)> {
        let mut devices = keeper.devices().to_vec();
        for Arrival { interface, index, .. } in arrivals {
            if !devices.iter().any(|device| device.index == *index) {
                devices.push(Device { name: interface.clone(), index: *index });
            }
        }
        let attach = |device: Device| {
            let carried = self.attach(wanted, &device, keeper, remarks)?;
            Some((device, carried))
        };
        devices.into_iter().filter_map(attach).collect()
    }

    /// Attaches the program for what arrives on one interface; what did not work goes to `remarks`.
    pub fn attach(
        &mut self,
        wanted: XdpSetting,
        device: &Device,
        keeper: &mut Keeper,
        remarks: &mut Vec<String>,
    ) -> Option<Carried> {
        ingress::attach(&mut self.ebpf, device, wanted, keeper, remarks)
    }
}

fn link_config(arrival: &Arrival) -> LinkConfig {
    let destination = match arrival.destination {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    LinkConfig { ifindex: arrival.index, port: u32::from(arrival.port), destination: destination.octets() }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use agent_common::LinkId;

    use super::{Arrival, link_config};

    #[test]
    fn ipv4_destinations_are_mapped() {
        let address: IpAddr = "10.0.0.1".parse().expect("an address");
        let link = LinkId::new(0).expect("in range");
        let arrival =
            Arrival { link, interface: "eth0".to_owned(), index: 3, port: 694, destination: address };
        let config = link_config(&arrival);
        assert_eq!((config.ifindex, config.port), (3, 694));
        assert_eq!(config.destination, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    }
}
