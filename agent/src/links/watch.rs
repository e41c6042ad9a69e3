//! Hears from the kernel that an interface or its addresses have changed. What has changed is looked up afterwards: only
//! what is there now counts, and a message that was lost (the socket's buffer overran) is as good as one that came.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, recv};

use crate::takeover::netlink::open_route_socket;

/// Room for one datagram of the kernel's.
const BUFFER_LEN: usize = 32 * 1024;
/// Datagrams read in one go.
const DATAGRAMS_MAX: usize = 1024;

/// The socket.
pub struct Watch {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

impl Watch {
    /// Opens it: what changes from now on is heard.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, Errno> {
        let groups = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
        let socket = open_route_socket(groups, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        Ok(Self { socket, buffer: vec![0; BUFFER_LEN].into_boxed_slice() })
    }

    /// Reads what is there. True when it concerned an interface that `ours` knows by index or name, or when something
    /// was lost.
    pub fn drain(&mut self, ours: impl Fn(u32, Option<&str>) -> bool) -> bool {
        let mut concerned = false;
        for _ in 0..DATAGRAMS_MAX {
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => {
                    concerned = true;
                    continue;
                }
                Err(_) => break,
            };
            concerned |= concerns(self.buffer.get(..length).unwrap_or(&[]), &ours);
        }
        concerned
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether one of the messages of a datagram concerns us. One that cannot be read does.
fn concerns(mut rest: &[u8], ours: &impl Fn(u32, Option<&str>) -> bool) -> bool {
    while !rest.is_empty() {
        let message: NetlinkMessage<RouteNetlinkMessage> = match NetlinkMessage::deserialize(rest) {
            Ok(message) if message.header.length > 0 => message,
            Ok(_) | Err(_) => return true,
        };
        // Messages of one datagram start at multiples of four (NLMSG_ALIGN).
        rest = rest.get((message.header.length as usize).next_multiple_of(4)..).unwrap_or(&[]);
        let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
        let concerned =
            if let RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) = message {
                ours(link.header.index, name_of(&link))
            } else if let RouteNetlinkMessage::NewAddress(address)
            | RouteNetlinkMessage::DelAddress(address) = message
            {
                ours(address.header.index, None)
            } else {
                false
            };
        if concerned {
            return true;
        }
    }
    false
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute { Some(name.as_str()) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{setsockopt, sockopt};

    use super::{Watch, concerns};

    #[test]
    fn a_message_that_cannot_be_read_concerns_us() {
        assert!(concerns(&[1, 2, 3], &|_, _| false));
        assert!(!concerns(&[], &|_, _| true));
    }

    #[test]
    fn messages_that_were_lost_are_as_good_as_one_that_came() {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            println!("SKIP: not permitted");
            return;
        }
        let mut watch = Watch::open().expect("a route socket");
        setsockopt(&watch.socket, sockopt::RcvBuf, &1).expect("the least there is");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let lines: String = (1..200).map(|host| format!("addr add 10.9.0.{host}/32 dev lo\n")).collect();
        std::fs::write(file.path(), lines).expect("written");
        assert!(
            Command::new("ip").arg("-batch").arg(file.path()).status().is_ok_and(|status| status.success())
        );
        assert!(watch.drain(|_, _| false), "none of what was read concerns us");
        assert!(!watch.drain(|_, _| false), "and it is told once");
    }

    #[test]
    fn an_interface_that_comes_and_goes_is_heard_of_by_its_name() {
        let ip = |args: &[&str]| Command::new("ip").args(args).status().is_ok_and(|status| status.success());
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            println!("SKIP: not permitted");
            return;
        }
        let mut watch = Watch::open().expect("a route socket");
        assert!(!watch.drain(|_, _| true), "nothing has changed");
        let ours = |_: u32, name: Option<&str>| name == Some("watched0");
        if !ip(&["link", "add", "other0", "type", "veth", "peer", "name", "other1"]) {
            println!("SKIP: no veth");
            return;
        }
        assert!(!watch.drain(ours), "another one came");
        assert!(ip(&["link", "set", "other0", "name", "watched0"]));
        assert!(watch.drain(ours), "it got the name");
        assert!(ip(&["link", "del", "watched0"]));
        assert!(watch.drain(ours), "it went");
        assert!(!watch.drain(ours));
    }
}
