//! The socket for echo requests of one family: unprivileged (`net.ipv4.ping_group_range`) where the system allows it, raw
//! otherwise. An unprivileged one is handed only the answers to its own requests; a raw one sees those of everybody.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage,
    recvfrom, sendto, setsockopt, socket, sockopt,
};

use super::packet::without_ip_header;
use crate::io::sockopt::{set_int, set_words};
use crate::settings::PingTarget;

/// Room for answers that wait to be read, in bytes of the kernel's accounting.
const RECEIVE_BUFFER: usize = 128 * 1024;
/// linux/icmp.h: of SOL_RAW, a mask of the types that are not handed out.
const ICMP_FILTER: i32 = 1;
/// linux/icmpv6.h: of SOL_ICMPV6, the same with 256 bits.
const ICMPV6_FILTER: i32 = 1;
const SOL_ICMPV6: i32 = 58;
const REPLY_V4: u32 = 0;
const REPLY_V6: u32 = 129;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// ICMP.
    V4,
    /// ICMPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// How it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without privilege; identifier and checksum are the kernel's.
    Unprivileged,
    /// With CAP_NET_RAW.
    Raw,
}

/// The socket.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
    family: Family,
    kind: Kind,
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From {
    /// The address.
    pub address: IpAddr,
    /// The interface's index of a link-local address, 0 for others.
    pub scope: u32,
}

impl Socket {
    /// Opens it, unprivileged if that is allowed.
    ///
    /// # Errors
    /// Neither is allowed, or the system has no such family.
    pub fn open(family: Family) -> Result<Self, Errno> {
        Self::open_as(family, Kind::Unprivileged).or_else(|_| Self::open_as(family, Kind::Raw))
    }

    /// Opens it in one way.
    ///
    /// # Errors
    /// It is not allowed, or the system has no such family.
    pub fn open_as(family: Family, kind: Kind) -> Result<Self, Errno> {
        let (domain, protocol) = match family {
            Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
            Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let sort = match kind {
            Kind::Unprivileged => SockType::Datagram,
            Kind::Raw => SockType::Raw,
        };
        let socket = socket(domain, sort, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)?;
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        match (kind, family) {
            (Kind::Unprivileged, _) => {}
            (Kind::Raw, Family::V4) => {
                set_int(&socket, libc::SOL_RAW, ICMP_FILTER, (!(1_u32 << REPLY_V4)).cast_signed())?;
            }
            (Kind::Raw, Family::V6) => {
                let mut blocked = [u32::MAX; 8];
                if let Some(word) = blocked.get_mut((REPLY_V6 / 32) as usize) {
                    *word &= !(1 << (REPLY_V6 % 32));
                }
                set_words(&socket, SOL_ICMPV6, ICMPV6_FILTER, &blocked)?;
            }
        }
        Ok(Self { socket, family, kind })
    }

    /// How it was opened.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Sends a message. A link-local target's interface is looked up each time: it may have come back with another index.
    ///
    /// # Errors
    /// The kernel's: there is no route, or no such interface.
    pub fn send(&self, target: &PingTarget, message: &[u8]) -> Result<(), Errno> {
        let flags = MsgFlags::empty();
        let sent = match target.address {
            IpAddr::V4(v4) => {
                sendto(self.socket.as_raw_fd(), message, &SockaddrIn::from(SocketAddrV4::new(v4, 0)), flags)
            }
            IpAddr::V6(v6) => {
                let to = SocketAddrV6::new(v6, 0, 0, scope(target)?);
                sendto(self.socket.as_raw_fd(), message, &SockaddrIn6::from(to), flags)
            }
        };
        sent.map(drop)
    }

    /// The next message and where it came from, `None` when there is none.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<(From, &'b [u8])> {
        let (length, from) = loop {
            match recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), buffer) {
                Ok(received) => break received,
                // EAGAIN, or an error that ICMP brought: both mean that there is nothing to read now.
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        };
        let from = from?;
        let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
            (Some(v4), _) => From { address: v4.ip().into(), scope: 0 },
            (None, Some(v6)) => From { address: v6.ip().into(), scope: v6.scope_id() },
            (None, None) => return None,
        };
        let message = buffer.get(..length)?;
        let message = match (self.kind, self.family) {
            (Kind::Raw, Family::V4) => without_ip_header(message).unwrap_or(&[]),
            (Kind::Raw, Family::V6) | (Kind::Unprivileged, _) => message,
        };
        Some((from, message))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The index of a target's interface, 0 for one that has none.
fn scope(target: &PingTarget) -> Result<u32, Errno> {
    match &target.interface {
        Some(name) => nix::net::if_::if_nametoindex(name.as_str()),
        None => Ok(0),
    }
}

/// Whether a message came from the target.
pub fn is_from(from: From, target: &PingTarget) -> bool {
    from.address == target.address
        && (target.interface.is_none() || scope(target).is_ok_and(|index| index == from.scope))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;

    use super::{Family, From, Kind, Socket, is_from};
    use crate::ping::packet::{Echo, Mark};
    use crate::settings::PingTarget;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Asks loopback, until an answer of ours is there. What others' pings get is passed over.
    fn asked(kind: Kind, family: Family) {
        let socket = match Socket::open_as(family, kind) {
            Ok(socket) => socket,
            Err(errno) => return println!("SKIP: {kind:?} {family:?}: {errno}"),
        };
        assert_eq!(socket.kind(), kind);
        let address = match family {
            Family::V4 => "127.0.0.1".parse().unwrap(),
            Family::V6 => "::1".parse().unwrap(),
        };
        let target = PingTarget { address, interface: None };
        let mark = Mark { nonce: 7, id: 0x7777 };
        let echo = Echo { group: 1, target: 2, sequence: 3 };
        if let Err(errno) = socket.send(&target, &mark.request(address, echo)) {
            return println!("SKIP: {address}: {errno}");
        }
        let mut buffer = [0; 128];
        loop {
            let mut watched = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            assert_eq!(
                poll(&mut watched, PollTimeout::try_from(LIMIT).unwrap()),
                Ok(1),
                "{kind:?} {family:?}"
            );
            let Some((from, message)) = socket.receive(&mut buffer) else { continue };
            if let Some(answered) = mark.answered(from.address, message) {
                assert_eq!(answered, echo);
                assert!(is_from(from, &target));
                return;
            }
        }
    }

    #[test]
    fn a_raw_socket_is_answered() {
        asked(Kind::Raw, Family::V4);
        asked(Kind::Raw, Family::V6);
    }

    #[test]
    fn an_unprivileged_socket_is_answered_where_there_is_one() {
        asked(Kind::Unprivileged, Family::V4);
        asked(Kind::Unprivileged, Family::V6);
    }

    #[test]
    fn a_link_local_answer_comes_from_its_interface() {
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        let address = "fe80::1".parse().unwrap();
        let target = PingTarget { address, interface: Some("lo".to_owned()) };
        assert!(is_from(From { address, scope: lo }, &target));
        assert!(!is_from(From { address, scope: lo + 1 }, &target));
        let gone = PingTarget { interface: Some("no-such-dev0".to_owned()), ..target };
        assert!(!is_from(From { address, scope: 0 }, &gone));
        let global = PingTarget { address: "fd00::1".parse().unwrap(), interface: None };
        assert!(!is_from(From { address, scope: 0 }, &global));
    }
}
