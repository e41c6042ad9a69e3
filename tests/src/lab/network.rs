//! Hosts joined by bridges: each host is a namespace with an interface `ethN` on every bridge N, all bridges stand in a
//! switch namespace of their own. A link is cut at the switch's port: the host loses its carrier, as with a pulled cable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, anyhow};

use super::netns::Netns;

/// Hosts on bridges.
#[derive(Debug)]
pub struct Network {
    switch: Netns,
    hosts: Vec<Netns>,
    bridges: usize,
    /// For setting ports up and down at once; opened in the switch.
    control: OwnedFd,
}

/// A host's place on a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Port {
    /// Number of the host, from 0.
    pub host: usize,
    /// Number of the bridge, from 0.
    pub bridge: usize,
}

impl Network {
    /// Hosts with these names, each on all of `bridges` bridges.
    ///
    /// # Errors
    /// Not privileged, or iproute2 failed.
    pub fn new(names: &[&str], bridges: usize) -> Result<Self> {
        let switch = Netns::new("switch")?;
        let mut lines = String::new();
        for bridge in 0..bridges {
            lines += &format!(
                "link add br{bridge} type bridge stp_state 0 mcast_snooping 0 forward_delay 0\nlink set br{bridge} up\n"
            );
        }
        switch.ip(&lines)?;
        let mut hosts = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let host = Netns::new(name)?;
            switch.ip(&plug_lines(&host, number, bridges))?;
            host.ip(&address_lines(number, bridges))?;
            hosts.push(host);
        }
        let control = switch.run(|| datagram_socket().context("cannot open a control socket"))?;
        Ok(Self { switch, hosts, bridges, control })
    }

    /// The namespace with the bridges.
    pub fn switch(&self) -> &Netns {
        &self.switch
    }

    /// A host's namespace.
    ///
    /// # Errors
    /// No such host.
    pub fn host(&self, host: usize) -> Result<&Netns> {
        self.hosts.get(host).ok_or_else(|| anyhow!("there is no host {host}"))
    }

    /// How many bridges there are.
    pub fn bridges(&self) -> usize {
        self.bridges
    }

    /// Takes the carrier from a host's interface.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn cut(&self, port: Port) -> Result<()> {
        self.set_port(port, false)
    }

    /// Gives it back.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn heal(&self, port: Port) -> Result<()> {
        self.set_port(port, true)
    }

    /// Takes a host's interface out, as a card that is pulled or a driver that is reloaded: both ends are gone.
    ///
    /// # Errors
    /// iproute2 failed.
    pub fn unplug(&self, port: Port) -> Result<()> {
        self.switch.ip(&format!("link del {}", port.name()))
    }

    /// Puts it back, with its addresses, and with another index than before. The hardware address, which the others may
    /// still know, is `mac`.
    ///
    /// # Errors
    /// iproute2 failed.
    pub fn replug(&self, port: Port, mac: &str) -> Result<()> {
        let host = self.host(port.host)?;
        let (name, interface, path) = (port.name(), port.interface(), host.path());
        self.switch.ip(&format!(
            "link add {name} type veth peer name {interface} address {mac} netns {path}\nlink set {name} master br{bridge} up\n",
            path = path.display(),
            bridge = port.bridge,
        ))?;
        let (v4, v6) = (port.ipv4(), port.ipv6());
        host.ip(&format!(
            "link set {interface} up\naddr add {v4}/24 broadcast + dev {interface}\naddr add {v6}/64 dev {interface} nodad\n"
        ))
    }

    /// The index of a host's interface, 0 when it is not there, and its hardware address.
    ///
    /// # Errors
    /// No such host.
    pub fn interface(&self, port: Port) -> Result<(u32, String)> {
        let interface = port.interface();
        self.host(port.host)?.run(|| {
            let index = nix::net::if_::if_nametoindex(interface.as_str()).unwrap_or(0);
            // /sys shows the namespace that it was mounted in: the list of addresses is asked instead.
            let mac = nix::ifaddrs::getifaddrs()?
                .filter(|entry| entry.interface_name == interface)
                .find_map(|entry| entry.address.as_ref()?.as_link_addr()?.addr());
            let mac = mac.unwrap_or_default().map(|byte| format!("{byte:02x}")).join(":");
            Ok((index, mac))
        })
    }

    fn set_port(&self, port: Port, up: bool) -> Result<()> {
        let name = port.name();
        set_interface_up(&self.control, &name, up)
            .with_context(|| format!("cannot set {name} {}", if up { "up" } else { "down" }))
    }
}

impl Port {
    /// The interface in the switch.
    pub fn name(self) -> String {
        format!("p{}-{}", self.host, self.bridge)
    }

    /// The host's interface.
    pub fn interface(self) -> String {
        format!("eth{}", self.bridge)
    }

    /// The host's IPv4 address there, of a /24.
    pub fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, small(self.bridge), small(self.host + 1))
    }

    /// The host's IPv6 address there, of a /64.
    pub fn ipv6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, u16::from(small(self.bridge)), 0, 0, 0, 0, 0, u16::from(small(self.host + 1)))
    }

    /// The host's link-local address there, which only means something beside the interface.
    pub fn link_local(self) -> Ipv6Addr {
        let (bridge, host) = (u16::from(small(self.bridge)), u16::from(small(self.host + 1)));
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x77, bridge, host)
    }

    /// Either of them.
    pub fn address(self, ipv6: bool) -> IpAddr {
        if ipv6 { self.ipv6().into() } else { self.ipv4().into() }
    }
}

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn plug_lines(host: &Netns, number: usize, bridges: usize) -> String {
    let path = host.path();
    let mut lines = String::new();
    for bridge in 0..bridges {
        let port = Port { host: number, bridge };
        let (name, interface) = (port.name(), port.interface());
        lines += &format!(
            "link add {name} type veth peer name {interface} netns {path}\nlink set {name} master br{bridge} up\n",
            path = path.display()
        );
    }
    lines
}

fn address_lines(number: usize, bridges: usize) -> String {
    let mut lines = String::new();
    for bridge in 0..bridges {
        let port = Port { host: number, bridge };
        let (interface, v4, v6, local) = (port.interface(), port.ipv4(), port.ipv6(), port.link_local());
        lines += &format!(
            "link set {interface} up\naddr add {v4}/24 broadcast + dev {interface}\n\
             addr add {v6}/64 dev {interface} nodad\naddr add {local}/64 dev {interface} nodad\n"
        );
    }
    lines
}

fn datagram_socket() -> Result<OwnedFd> {
    // SAFETY: plain system call, no pointers.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: `raw` was just opened and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// `SIOCSIFFLAGS` (netdevice(7)): microseconds, where starting `ip` takes milliseconds.
fn set_interface_up(socket: &OwnedFd, name: &str, up: bool) -> Result<()> {
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    interface_ioctl(socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled this variant of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up_flag = i16::try_from(libc::IFF_UP)?;
    request.ifr_ifru.ifru_flags = if up { flags | up_flag } else { flags & !up_flag };
    interface_ioctl(socket, libc::SIOCSIFFLAGS, &mut request)
}

fn interface_ioctl(socket: &OwnedFd, code: libc::Ioctl, request: &mut libc::ifreq) -> Result<()> {
    // SAFETY: both codes take a pointer to an `ifreq`, which `request` is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), code, std::ptr::from_mut(request)) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}
