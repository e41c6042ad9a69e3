//! One UDP socket: bound to an interface, a port and, for unicast, to this node's own address on it.
//! Links that agree in these share it. It always sends; it receives where no XDP program does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, sendto, setsockopt, socket, sockopt,
};

use super::sockopt::{drop_everything, drop_own_broadcasts, join_v4, join_v6, set_int};

/// Queueing priority of heartbeats (pfifo_fast's first band; `TC_PRIO_INTERACTIVE`).
const PRIORITY: i32 = 6;
/// Class selector 6, network control (RFC 2474), as the whole byte.
const TRAFFIC_CLASS: i32 = 0xc0;
/// Room for datagrams that wait to be read, in bytes of the kernel's accounting.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// What distinguishes sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Interface.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// Local address: this node's own for unicast, unspecified for broadcast and groups.
    pub local: IpAddr,
    /// Local port.
    pub port: u16,
}

/// Why a socket could not be made; nothing is left open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {errno}{}", remedy(*errno))]
pub struct ChannelError {
    step: &'static str,
    #[source]
    errno: Errno,
}

impl ChannelError {
    /// Whether more privilege would have helped.
    pub fn is_denied(&self) -> bool {
        self.errno == Errno::EPERM || self.errno == Errno::EACCES
    }
}

/// What an operator can do about it.
fn remedy(errno: Errno) -> &'static str {
    if errno == Errno::EADDRINUSE {
        " (another process has the address and port; is another agent running?)"
    } else if errno == Errno::EACCES || errno == Errno::EPERM {
        " (run it as root, or give it CAP_NET_BIND_SERVICE and CAP_NET_RAW)"
    } else if errno == Errno::ENODEV {
        " (the interface is gone)"
    } else {
        ""
    }
}

/// The socket.
pub struct Channel {
    socket: OwnedFd,
    index: u32,
}

impl Channel {
    /// Opens it; with `receives` unset everything that arrives is dropped by a filter. `shared` is for places that
    /// another socket of this agent overlaps.
    ///
    /// # Errors
    /// The step that failed.
    pub fn open(place: &Place, receives: bool, shared: bool) -> Result<Self, ChannelError> {
        let family = if place.local.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Datagram, flags, None).map_err(failed("socket"))?;
        if receives {
            prepare_receiving(&socket, place.local).map_err(failed("asking for stamps"))?;
        } else {
            drop_everything(&socket).map_err(failed("SO_ATTACH_FILTER"))?;
        }
        prepare_sending(&socket, place.local).map_err(failed("setting options"))?;
        setsockopt(&socket, sockopt::BindToDevice, &place.interface.clone().into())
            .map_err(failed("binding to the interface"))?;
        if shared {
            setsockopt(&socket, sockopt::ReuseAddr, &true).map_err(failed("SO_REUSEADDR"))?;
        }
        let local = socket_address(place.local, place.port, place.index);
        bind(socket.as_raw_fd(), &local).map_err(failed("binding to address and port"))?;
        Ok(Self { socket, index: place.index })
    }

    /// Joins `group` and sends to it with `ttl` hops, without hearing itself.
    ///
    /// # Errors
    /// The step that failed.
    pub fn join(&self, group: IpAddr, ttl: u8) -> Result<(), ChannelError> {
        let join = || match group {
            IpAddr::V4(v4) => {
                join_v4(&self.socket, v4, self.index)?;
                set_int(&self.socket, libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, 0)?;
                set_int(&self.socket, libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, i32::from(ttl))
            }
            IpAddr::V6(v6) => {
                join_v6(&self.socket, v6, self.index)?;
                set_int(&self.socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, 0)?;
                set_int(&self.socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, i32::from(ttl))
            }
        };
        join().map_err(failed("joining the group"))
    }

    /// Hands one frame to the kernel. It never waits: an unresolved neighbour is the kernel's to resolve.
    ///
    /// # Errors
    /// The kernel did not take it.
    pub fn send(&self, frame: &[u8], to: &SockaddrStorage) -> Result<(), Errno> {
        sendto(self.socket.as_raw_fd(), frame, to, MsgFlags::MSG_DONTWAIT).map(drop)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The address as the kernel takes it; link-local IPv6 addresses are of the interface with `index`.
pub fn socket_address(address: IpAddr, port: u16, index: u32) -> SockaddrStorage {
    let address = match address {
        IpAddr::V4(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
        IpAddr::V6(v6) => {
            let link_local = v6.is_unicast_link_local() || v6.is_multicast();
            SocketAddr::V6(SocketAddrV6::new(v6, port, 0, if link_local { index } else { 0 }))
        }
    };
    SockaddrStorage::from(address)
}

/// The address that belongs to a family and to nobody.
pub fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn failed(step: &'static str) -> impl Fn(Errno) -> ChannelError {
    move |errno| ChannelError { step, errno }
}

fn prepare_sending(socket: &OwnedFd, local: IpAddr) -> Result<(), Errno> {
    setsockopt(socket, sockopt::Priority, &PRIORITY)?;
    setsockopt(socket, sockopt::Broadcast, &true)?;
    match local {
        IpAddr::V4(_) => {
            setsockopt(socket, sockopt::Ipv4Tos, &TRAFFIC_CLASS)?;
            // The address may come later than the agent (boot order, duplicate address detection).
            set_int(socket, libc::IPPROTO_IP, libc::IP_FREEBIND, 1)
        }
        IpAddr::V6(_) => {
            setsockopt(socket, sockopt::Ipv6TClass, &TRAFFIC_CLASS)?;
            set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1)
        }
    }
}

fn prepare_receiving(socket: &OwnedFd, local: IpAddr) -> Result<(), Errno> {
    drop_own_broadcasts(socket)?;
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    match local {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true),
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use nix::errno::Errno;

    use super::{Channel, Place, socket_address};

    #[test]
    fn link_local_addresses_carry_the_interface() {
        let link_local = socket_address("fe80::1".parse().expect("an address"), 694, 7);
        assert_eq!(link_local.as_sockaddr_in6().map(|v6| v6.scope_id()), Some(7));
        let global = socket_address("2001:db8::1".parse().expect("an address"), 694, 7);
        assert_eq!(global.as_sockaddr_in6().map(|v6| v6.scope_id()), Some(0));
    }

    #[test]
    fn a_second_agent_on_the_same_address_and_port_is_told() {
        let index = crate::io::interface::look_up("lo").expect("interfaces").map_or(1, |lo| lo.index);
        let place =
            Place { interface: "lo".to_owned(), index, local: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 46_941 };
        let first = Channel::open(&place, false, false).expect("a free port");
        let second = Channel::open(&place, false, false).err().expect("taken");
        assert_eq!(second.errno, Errno::EADDRINUSE);
        assert!(second.to_string().contains("another agent"), "{second}");
        drop(first);
        Channel::open(&place, false, false).expect("free again");
    }
}
