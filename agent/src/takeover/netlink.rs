//! Two route sockets of the kernel: one for requests with their answers, one that hears of every change of an address.
//! Both are opened at start, so that a takeover opens nothing.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::message::Message;

/// How long the kernel may take to answer. It answers within the request unless the RTNL lock is held for long.
const ANSWER_TIMEOUT_S: i64 = 3;
/// Room for one datagram of a dump (the kernel sends at most 32 KiB at once to a reader that offers as much).
const BUFFER_LEN: usize = 32 * 1024;
/// Answers to earlier requests that are skipped before a request is given up.
const STALE_ANSWERS_MAX: usize = 64;
/// Datagrams of one dump.
const DUMP_DATAGRAMS_MAX: usize = 1024;
/// Notifications read in one go.
const NOTIFICATIONS_MAX: usize = 256;

/// Why a request was not done. Nothing has changed, except perhaps after [`RequestError::TimedOut`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The kernel said no.
    #[error("the kernel refused: {0}")]
    Refused(Errno),
    /// The kernel did not answer.
    #[error("the kernel did not answer within {ANSWER_TIMEOUT_S} s")]
    TimedOut,
    /// What came back is not netlink.
    #[error("the kernel's answer could not be read")]
    Malformed,
}

/// One address that is on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// The interface's index.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

/// The socket for requests.
pub struct Requests {
    socket: OwnedFd,
    buffer: Box<[u8]>,
    sequence: u32,
}

impl Requests {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, Errno> {
        let socket = open_route_socket(0, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_S, 0))?;
        Ok(Self { socket, buffer: vec![0; BUFFER_LEN].into_boxed_slice(), sequence: 0 })
    }

    /// Sends a request and waits for its acknowledgement.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn request(&mut self, message: &mut Message) -> Result<(), RequestError> {
        let sequence = self.send(message)?;
        for _ in 0..STALE_ANSWERS_MAX {
            let length = self.receive()?;
            let answer = parse(self.buffer.get(..length).unwrap_or(&[])).ok_or(RequestError::Malformed)?;
            if answer.header.sequence_number != sequence {
                continue;
            }
            if let NetlinkPayload::Error(error) = answer.payload {
                return match error.code {
                    None => Ok(()),
                    Some(code) => Err(RequestError::Refused(Errno::from_raw(-code.get()))),
                };
            }
        }
        Err(RequestError::Malformed)
    }

    /// Lists every address of this network namespace.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn dump(&mut self, mut each: impl FnMut(Present)) -> Result<(), RequestError> {
        self.list(&mut Message::dump(), |found| {
            if let RouteNetlinkMessage::NewAddress(found) = found {
                present(found).into_iter().for_each(&mut each);
            }
        })
    }

    /// Sends a request for a list, and hands over each message of it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn list(
        &mut self,
        request: &mut Message,
        mut each: impl FnMut(&RouteNetlinkMessage),
    ) -> Result<(), RequestError> {
        let sequence = self.send(request)?;
        for _ in 0..DUMP_DATAGRAMS_MAX {
            let length = self.receive()?;
            let mut rest = self.buffer.get(..length).unwrap_or(&[]);
            while let Some(message) = parse(rest) {
                let advance = aligned(message.header.length as usize);
                rest = rest.get(advance..).unwrap_or(&[]);
                if message.header.sequence_number != sequence {
                    continue;
                }
                if let NetlinkPayload::InnerMessage(found) = message.payload {
                    each(&found);
                } else if let NetlinkPayload::Error(error) = message.payload {
                    let errno = error.code.map_or(Errno::UnknownErrno, |code| Errno::from_raw(-code.get()));
                    return Err(RequestError::Refused(errno));
                } else if let NetlinkPayload::Done(_) = message.payload {
                    return Ok(());
                }
            }
        }
        Err(RequestError::Malformed)
    }

    fn send(&mut self, message: &mut Message) -> Result<u32, RequestError> {
        self.sequence = self.sequence.wrapping_add(1);
        send(self.socket.as_raw_fd(), message.with_sequence(self.sequence), MsgFlags::empty())
            .map_err(RequestError::Refused)?;
        Ok(self.sequence)
    }

    fn receive(&mut self) -> Result<usize, RequestError> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(RequestError::TimedOut),
                Err(errno) => return Err(RequestError::Refused(errno)),
            }
        }
    }
}

/// The socket that hears of changes.
pub struct Notifications {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

impl Notifications {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, Errno> {
        let groups = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
        let socket = open_route_socket(groups, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        Ok(Self { socket, buffer: vec![0; BUFFER_LEN].into_boxed_slice() })
    }

    /// Reads what is there. True when one of them concerned an address that `ours` knows, or when some were lost:
    /// then somebody should look at what is there now.
    pub fn drain(&mut self, ours: impl Fn(IpAddr) -> bool) -> bool {
        let mut concerned = false;
        for _ in 0..NOTIFICATIONS_MAX {
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => {
                    concerned = true;
                    continue;
                }
                Err(_) => break,
            };
            let mut rest = self.buffer.get(..length).unwrap_or(&[]);
            while let Some(message) = parse(rest) {
                rest = rest.get(aligned(message.header.length as usize)..).unwrap_or(&[]);
                if let NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewAddress(changed) | RouteNetlinkMessage::DelAddress(changed),
                ) = message.payload
                {
                    concerned |= present(&changed).is_some_and(|change| ours(change.address));
                }
            }
        }
        concerned
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket of the kernel's routing family that hears of `groups`.
pub(crate) fn open_route_socket(groups: u32, flags: SockFlag) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

fn parse(bytes: &[u8]) -> Option<NetlinkMessage<RouteNetlinkMessage>> {
    NetlinkMessage::deserialize(bytes).ok().filter(|message| message.header.length > 0)
}

/// Messages of one datagram start at multiples of four (NLMSG_ALIGN).
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The local address: of a point-to-point interface IFA_ADDRESS is the other end.
fn present(message: &AddressMessage) -> Option<Present> {
    let mut address = None;
    for attribute in &message.attributes {
        if let AddressAttribute::Local(local) = attribute {
            address = Some(*local);
        } else if let AddressAttribute::Address(other) = attribute {
            address = address.or(Some(*other));
        }
    }
    Some(Present { index: message.header.index, address: address?, prefix: message.header.prefix_len })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use nix::errno::Errno;

    use super::{Message, Notifications, RequestError, Requests};

    #[test]
    fn a_dump_lists_loopback_and_refusals_name_the_errno() {
        let mut requests = Requests::open().expect("a route socket");
        let mut found = Vec::new();
        requests.dump(|present| found.push(present)).expect("a dump");
        let lo = found.iter().find(|present| present.address == IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(lo.is_none_or(|lo| lo.prefix == 8));

        // No interface has this index: ENODEV as root, EPERM otherwise. The next answer is read in step again.
        let mut delete = Message::delete(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 32, i32::MAX as u32);
        for _ in 0..2 {
            let refused = requests.request(&mut delete);
            let expected = [Errno::ENODEV, Errno::EPERM].map(|errno| Err(RequestError::Refused(errno)));
            assert!(expected.contains(&refused), "{refused:?}");
        }
        requests.dump(|_| {}).expect("a dump after refusals");
    }

    #[test]
    fn no_change_is_no_news() {
        let mut notifications = Notifications::open().expect("a route socket");
        assert!(!notifications.drain(|_| false));
    }
}
