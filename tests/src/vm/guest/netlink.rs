//! Two things that are asked of a guest's kernel over netlink: to do something, and which filters an interface has.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// More than the filters of an interface take.
const ANSWER_MAX: usize = 1 << 16;
/// `TC_H_CLSACT` with `TC_H_MIN_INGRESS` or `TC_H_MIN_EGRESS`.
const CLSACT_INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0xfff2 };
const CLSACT_EGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0xfff3 };

/// One request to the kernel, and its acknowledgement.
pub(super) fn ask(payload: RouteNetlinkMessage, flags: u16) -> Result<()> {
    let socket = send(payload, NLM_F_ACK | flags)?;
    let mut answer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    let answer =
        NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer).context("not a netlink message")?;
    let NetlinkPayload::Error(error) = answer.payload else { bail!("the kernel acknowledges nothing") };
    ensure!(error.code.is_none(), "{}", error.to_io());
    Ok(())
}

/// Whether clsact of the interface has a filter of that name. Asked with the kernel's own words, and looked for in its
/// answer as bytes: the name is all that is wanted.
pub(super) fn has_filter(index: u32, egress: bool, name: &str) -> Result<bool> {
    let mut message = TcMessage::with_index(i32::try_from(index)?);
    message.header.parent = if egress { CLSACT_EGRESS } else { CLSACT_INGRESS };
    let socket = send(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?;
    let mut answer = vec![0; ANSWER_MAX];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    Ok(answer.windows(name.len()).any(|window| window == name.as_bytes()))
}

fn send(payload: RouteNetlinkMessage, flags: u16) -> Result<OwnedFd> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(payload));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let protocol = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    sendto(socket.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(socket)
}
