//! A packet socket that only sends: whole Ethernet frames, to the interface that each names.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// The socket. Opened at start; opening one in a takeover would cost more than the announcement.
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens it. With protocol 0 it receives nothing.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW.
    pub fn open() -> Result<Self, Errno> {
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
            .map(Self)
    }

    /// Sends `frame`, Ethernet header included, out of the interface with `index`.
    ///
    /// # Errors
    /// The kernel did not take it (ENETDOWN, ENXIO, ENOBUFS).
    pub fn send(&self, index: u32, frame: &[u8]) -> Result<(), Errno> {
        let to = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: frame.first_chunk::<6>().map_or([0xff; 8], |mac| {
                let [a, b, c, d, e, f] = *mac;
                [a, b, c, d, e, f, 0, 0]
            }),
        };
        // SAFETY: `frame` is readable for its length and `to` is a whole sockaddr_ll; the kernel keeps neither.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        Errno::result(sent).map(drop)
    }
}
