//! Whose XDP program is on an interface already. Ours is never put in the place of somebody else's.

use std::os::fd::AsRawFd;

use aya::programs::loaded_programs;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::settings::ReceiveMode;

/// A link's description, attributes and all, fits.
const BUFFER_LEN: usize = 32 * 1024;
const ANSWER_TIMEOUT_S: i64 = 3;

/// A program that is on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its id.
    pub id: u32,
    /// Its name, if the kernel tells.
    pub name: Option<String>,
    /// How it is attached, if the kernel tells.
    pub mode: Option<ReceiveMode>,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(out, "'{name}' (id {})", self.id),
            None => write!(out, "id {}", self.id),
        }
    }
}

/// The program on the interface with `index`; `None` when there is none.
///
/// # Errors
/// The kernel did not say.
pub fn program_on(index: u32) -> Result<Option<Foreign>, Errno> {
    let answer = ask(index)?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = answer.payload else {
        return Err(Errno::EBADMSG);
    };
    let mode = link.attributes.iter().find_map(mode);
    Ok(link.attributes.iter().find_map(program_id).map(|id| Foreign { id, name: name_of(id), mode }))
}

fn ask(index: u32) -> Result<NetlinkMessage<RouteNetlinkMessage>, Errno> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_S, 0))?;
    let mut link = LinkMessage::default();
    link.header.index = index;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let payload = NetlinkPayload::from(RouteNetlinkMessage::GetLink(link));
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut buffer = vec![0; BUFFER_LEN.max(message.buffer_len())];
    message.serialize(&mut buffer);
    send(socket.as_raw_fd(), buffer.get(..message.buffer_len()).unwrap_or(&[]), MsgFlags::empty())?;
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    NetlinkMessage::deserialize(buffer.get(..length).unwrap_or(&[])).map_err(|_| Errno::EBADMSG)
}

fn program_id(attribute: &LinkAttribute) -> Option<u32> {
    let LinkAttribute::Xdp(details) = attribute else { return None };
    details.iter().find_map(|detail| {
        if let LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) =
            detail
        {
            Some(*id)
        } else {
            None
        }
    })
}

fn mode(attribute: &LinkAttribute) -> Option<ReceiveMode> {
    let LinkAttribute::Xdp(details) = attribute else { return None };
    details.iter().find_map(|detail| {
        if let LinkXdp::DrvProgId(_) | LinkXdp::HwProgId(_) = detail {
            Some(ReceiveMode::Native)
        } else if let LinkXdp::SkbProgId(_) = detail {
            Some(ReceiveMode::Generic)
        } else {
            None
        }
    })
}

fn name_of(id: u32) -> Option<String> {
    let known = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id)?;
    known.name_as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_has_no_program() {
        let lo = crate::io::interface::look_up("lo").expect("interfaces").expect("every machine has lo");
        assert_eq!(super::program_on(lo.index), Ok(None));
    }
}
