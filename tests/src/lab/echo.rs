//! The service of the laboratory: a UDP echo server in each node's namespace that answers every probe with the node's
//! number. It is bound to the wildcard address and answers from the address that was asked, as any real server does.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::netns::Netns;
use super::realtime;

/// UDP port of the service.
pub const PORT: u16 = 7007;
/// A probe is its number; an answer is the number and the node that answered.
pub const PROBE_LEN: usize = 8;
/// Length of an answer.
pub const ANSWER_LEN: usize = PROBE_LEN + 1;
/// How often a thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// Below the agent and above everything ordinary.
const PRIORITY: i32 = 45;

/// A running server of one node, for IPv4 and IPv6.
#[derive(Debug)]
pub struct Echo {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
}

impl Echo {
    /// Starts the server of `node` in its namespace.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(netns: &Netns, node: u8) -> Result<Self> {
        let sockets = netns.run(|| {
            let v4 =
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("cannot bind the echo service")?;
            setsockopt(&v4, sockopt::Ipv4PacketInfo, &true)?;
            let v6 = v6_socket().context("cannot bind the echo service on IPv6")?;
            setsockopt(&v6, sockopt::Ipv6RecvPacketInfo, &true)?;
            Ok([v4, v6])
        })?;
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for socket in sockets {
            socket.set_read_timeout(Some(LOOK))?;
            let shared = Arc::clone(&shared);
            threads.push(
                thread::Builder::new().name("echo".into()).spawn(move || serve(&socket, node, &shared))?,
            );
        }
        Ok(Self { shared, threads })
    }

    /// Probes answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the server has been printed already.
            let _ = thread.join();
        }
    }
}

/// Only IPv6, so that the IPv4 socket can have the same port.
fn v6_socket() -> Result<UdpSocket> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, socket};
    let fd = socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    let any = std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, PORT, 0, 0);
    bind(fd.as_raw_fd(), &SockaddrIn6::from(any))?;
    Ok(fd.into())
}

fn serve(socket: &UdpSocket, node: u8, shared: &Shared) {
    realtime::fifo(PRIORITY);
    let mut space = cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    while !shared.stop.load(Ordering::Relaxed) {
        let Some((probe, from, asked)) = receive(socket, &mut space) else { continue };
        let mut answer = [node; ANSWER_LEN];
        if let Some(number) = answer.first_chunk_mut() {
            *number = probe;
        }
        // The address may have gone since: the client then gets no answer, as it should.
        if send(socket, &answer, &from, asked).is_ok() {
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn receive(socket: &UdpSocket, space: &mut [u8]) -> Option<([u8; PROBE_LEN], SockaddrStorage, IpAddr)> {
    let mut probe = [0; PROBE_LEN];
    let mut buffers = [IoSliceMut::new(&mut probe)];
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut buffers, Some(space), MsgFlags::empty()).ok()?;
    let from = received.address?;
    let asked = received.cmsgs().ok()?.find_map(|message| asked_address(&message))?;
    (received.bytes == PROBE_LEN).then_some((probe, from, asked))
}

fn asked_address(message: &ControlMessageOwned) -> Option<IpAddr> {
    if let ControlMessageOwned::Ipv4PacketInfo(info) = message {
        return Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
    }
    if let ControlMessageOwned::Ipv6PacketInfo(info) = message {
        return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
    }
    None
}

fn send(socket: &UdpSocket, answer: &[u8], to: &SockaddrStorage, from: IpAddr) -> nix::Result<usize> {
    let buffers = [IoSlice::new(answer)];
    let fd = socket.as_raw_fd();
    match from {
        IpAddr::V4(from) => {
            let source = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: source };
            sendmsg(fd, &buffers, &[ControlMessage::Ipv4PacketInfo(&info)], MsgFlags::empty(), Some(to))
        }
        IpAddr::V6(from) => {
            let source = libc::in6_addr { s6_addr: from.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: source, ipi6_ifindex: 0 };
            sendmsg(fd, &buffers, &[ControlMessage::Ipv6PacketInfo(&info)], MsgFlags::empty(), Some(to))
        }
    }
}

/// Where the service of `address` is reached.
pub fn service(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}
