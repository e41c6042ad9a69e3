//! Whose XDP program is on an interface already. Ours is never put in the place of somebody else's.

use std::os::fd::AsRawFd;

use aya::programs::links::LinkType;
use aya::programs::{loaded_links, loaded_programs};
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
/// The program of libxdp that calls several others.
const DISPATCHER: &str = "xdp_dispatcher";
const ANSWER_TIMEOUT_S: i64 = 3;

/// A program that is on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its id.
    pub id: u32,
    /// Its name, if the kernel tells.
    pub name: Option<String>,
    /// Where it runs, if the kernel tells.
    pub mode: Option<ReceiveMode>,
    /// By what it is attached.
    pub by: Attachment,
}

/// By what a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A link, which its owner keeps: it goes with its owner, or with the pin.
    Link(u32),
    /// Netlink, as `ip` and libxdp do: it stays until somebody takes it away.
    Netlink,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(name) = &self.name {
            write!(out, "'{name}' ")?;
        }
        write!(out, "(id {}", self.id)?;
        if let Some(mode) = self.mode {
            write!(out, ", {}", mode.label())?;
        }
        match self.by {
            Attachment::Link(link) => write!(out, ", attached by link {link})")?,
            Attachment::Netlink => write!(out, ", attached by netlink)")?,
        }
        match self.name.as_deref() {
            Some(DISPATCHER) => write!(out, ", libxdp's dispatcher"),
            Some(_) | None => Ok(()),
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
    let id = link.attributes.iter().find_map(program_id);
    Ok(id.map(|id| Foreign { id, name: name_of(id), mode, by: attachment_of(id) }))
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

/// The kernel tells of links only to whoever may see all of them: what is not seen counts as none.
fn attachment_of(id: u32) -> Attachment {
    let mut links = loaded_links().filter_map(Result::ok);
    let link = links.find(|link| link.program_id() == id && link.link_type().ok() == Some(LinkType::Xdp));
    link.map_or(Attachment::Netlink, |link| Attachment::Link(link.id()))
}

#[cfg(test)]
mod tests {
    use super::{Attachment, Foreign};
    use crate::settings::ReceiveMode;

    #[test]
    fn a_program_is_named_with_all_that_helps_to_find_it() {
        let mode = Some(ReceiveMode::Native);
        let named = Foreign { id: 7, name: Some("xdp_dispatcher".to_owned()), mode, by: Attachment::Netlink };
        let said = "'xdp_dispatcher' (id 7, native, attached by netlink), libxdp's dispatcher";
        assert_eq!(named.to_string(), said);
        let unnamed = Foreign { id: 7, name: None, mode: None, by: Attachment::Link(3) };
        assert_eq!(unnamed.to_string(), "(id 7, attached by link 3)");
    }

    #[test]
    fn loopback_has_no_program() {
        let lo = crate::io::interface::look_up("lo").expect("interfaces").expect("every machine has lo");
        assert_eq!(super::program_on(lo.index), Ok(None));
    }
}
