//! What the kernel says of one interface, by netlink and ethtool: /sys shows the interfaces of the network namespace that it was
//! mounted in, which need not be this one.

use std::os::fd::{AsRawFd as _, OwnedFd};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

/// A link's description, attributes and all, fits.
const BUFFER_LEN: usize = 64 * 1024;
const ANSWER_TIMEOUT_S: i64 = 3;
/// linux/sockios.h and linux/ethtool.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 3;

/// An interface.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) up: bool,
    pub(super) carrier: bool,
    pub(super) mtu: u32,
    pub(super) kind: Option<String>,
    pub(super) has_master: bool,
}

/// # Errors
/// The kernel did not say.
pub(super) fn describe(index: u32) -> Result<Described, Errno> {
    let answer = ask(index)?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = answer.payload else {
        return Err(Errno::EBADMSG);
    };
    let mut described = Described {
        up: link.header.flags.contains(LinkFlags::Up),
        carrier: link.header.flags.contains(LinkFlags::LowerUp),
        ..Described::default()
    };
    for attribute in &link.attributes {
        if let LinkAttribute::Mtu(mtu) = attribute {
            described.mtu = *mtu;
        } else if let LinkAttribute::Controller(_) = attribute {
            described.has_master = true;
        } else if let LinkAttribute::LinkInfo(details) = attribute {
            described.kind = details.iter().find_map(kind);
        }
    }
    Ok(described)
}

fn kind(detail: &LinkInfo) -> Option<String> {
    let LinkInfo::Kind(kind) = detail else { return None };
    let kind: &InfoKind = kind;
    Some(kind.to_string())
}

fn ask(index: u32) -> Result<NetlinkMessage<RouteNetlinkMessage>, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_S, 0))?;
    let mut link = LinkMessage::default();
    link.header.index = index;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetLink(link)));
    message.finalize();
    let mut buffer = vec![0; BUFFER_LEN.max(message.buffer_len())];
    message.serialize(&mut buffer);
    send(socket.as_raw_fd(), buffer.get(..message.buffer_len()).unwrap_or(&[]), MsgFlags::empty())?;
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    NetlinkMessage::deserialize(buffer.get(..length).unwrap_or(&[])).map_err(|_| Errno::EBADMSG)
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// The driver's name.
pub(super) fn driver(name: &str) -> Option<String> {
    let socket: OwnedFd =
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the request names an interface and points to a whole `ethtool_drvinfo`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return None;
    }
    let end = info.driver.iter().position(|byte| *byte == 0).unwrap_or(info.driver.len());
    let name = String::from_utf8_lossy(info.driver.get(..end)?).into_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{DriverInfo, describe, driver};

    #[test]
    fn loopback_is_described_and_the_struct_is_the_kernels() {
        assert_eq!(size_of::<DriverInfo>(), 196);
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        let lo = describe(index).unwrap();
        assert!(lo.mtu >= 1500 && !lo.has_master && lo.kind.is_none(), "{lo:?}");
        assert_eq!(driver("no-such-dev0"), None);
    }
}
