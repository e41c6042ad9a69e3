//! What the agent must know of a network interface: its index, its hardware address and its IP addresses.
//! Looked up by name at start, and again whenever the kernel says that something has changed.

use std::net::{IpAddr, Ipv4Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// One interface as it was when it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its Ethernet address, if it has one (a loopback's is all zeroes and counts as none).
    pub mac: Option<[u8; 6]>,
    /// Whether it is up and has a carrier.
    pub carries: bool,
    /// Its addresses, broadcast address beside each that has one.
    pub addresses: Vec<(IpAddr, Option<Ipv4Addr>)>,
}

impl Interface {
    /// Whether `address` is on the interface.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(own, _)| *own == address)
    }

    /// The broadcast address of its first IPv4 network that has one.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|(_, broadcast)| *broadcast)
    }
}

/// Looks an interface up by name; `None` when there is none.
///
/// # Errors
/// The kernel did not list the interfaces.
pub fn look_up(name: &str) -> std::io::Result<Option<Interface>> {
    let mut found: Option<Interface> = None;
    for entry in getifaddrs()?.filter(|entry| entry.interface_name == name) {
        let interface = match &mut found {
            Some(interface) => interface,
            None => {
                let index = nix::net::if_::if_nametoindex(name)?;
                let carries = entry.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
                let (mac, addresses) = (None, Vec::new());
                found.insert(Interface { name: name.to_owned(), index, mac, carries, addresses })
            }
        };
        let Some(address) = &entry.address else { continue };
        if let Some(link) = address.as_link_addr() {
            interface.mac = link.addr().filter(|mac| *mac != [0; 6]);
        } else if let Some(v4) = address.as_sockaddr_in() {
            let broadcast = entry.broadcast.as_ref().and_then(|to| to.as_sockaddr_in()).map(|to| to.ip());
            interface.addresses.push((v4.ip().into(), broadcast));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            interface.addresses.push((v6.ip().into(), None));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::look_up;

    #[test]
    fn loopback_has_an_index_and_no_hardware_address() {
        let lo = look_up("lo").expect("interfaces are listed").expect("every machine has lo");
        assert!(lo.index > 0);
        assert_eq!(lo.mac, None);
        assert!(lo.has(IpAddr::V4(Ipv4Addr::LOCALHOST)) || lo.addresses.is_empty());
    }

    #[test]
    fn an_unknown_name_is_none() {
        assert_eq!(look_up("no-such-dev0").expect("interfaces are listed"), None);
    }
}
