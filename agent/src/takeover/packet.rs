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

    /// The Ethernet address that the interface bears now; `None` when it has none (a loopback's is all zeroes and counts
    /// as none) or is not there. One system call.
    pub fn mac(&self, interface: &str) -> Option<[u8; 6]> {
        // SAFETY: all of ifreq is integers, arrays of them and pointers, for which zeroes are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays zero.
        for (to, byte) in request.ifr_name.iter_mut().zip(interface.bytes()).take(libc::IFNAMSIZ - 1) {
            *to = byte as libc::c_char;
        }
        // SAFETY: the request is a whole ifreq with a terminated name; the kernel reads and writes it, and keeps nothing.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) };
        Errno::result(result).ok()?;
        // SAFETY: SIOCGIFHWADDR has filled this member of the union, and any bytes are a sockaddr.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mac = address.sa_data.first_chunk::<6>()?.map(|byte| byte as u8);
        (address.sa_family == libc::ARPHRD_ETHER && mac != [0; 6]).then_some(mac)
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

#[cfg(test)]
mod tests {
    use super::PacketSocket;

    #[test]
    fn the_hardware_address_is_that_of_the_list() {
        let Ok(socket) = PacketSocket::open() else {
            eprintln!("SKIP: a packet socket needs CAP_NET_RAW");
            return;
        };
        assert_eq!(socket.mac("lo"), None);
        assert_eq!(socket.mac("no-such-dev0"), None);
        for name in (1..=16).filter_map(|index| nix::net::if_::if_indextoname(index).ok()) {
            let name = name.to_string_lossy();
            let listed = crate::io::interface::look_up(&name).expect("interfaces are listed");
            let ethernet = listed.and_then(|interface| interface.mac);
            assert!(socket.mac(&name).is_none_or(|mac| Some(mac) == ethernet), "{name}");
        }
    }
}
