//! Socket options that nix does not know: a filter that drops everything, and joining a group by interface index.
//! One system call each.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

/// Drops every datagram before it reaches the socket's queue: for a socket that only sends, while XDP receives.
///
/// # Errors
/// The kernel's.
pub fn drop_everything(socket: &OwnedFd) -> Result<(), Errno> {
    // BPF_RET | BPF_K with 0: keep no byte of the packet.
    let mut refuse = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut refuse };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Joins an IPv4 group on the interface with `index`, and sends to groups through it.
///
/// # Errors
/// The kernel's.
pub fn join_v4(socket: &OwnedFd, group: Ipv4Addr, index: u32) -> Result<(), Errno> {
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: u32::from_ne_bytes(group.octets()) },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: index as i32,
    };
    set(socket, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request)?;
    set(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)
}

/// Joins an IPv6 group on the interface with `index`, and sends to groups through it.
///
/// # Errors
/// The kernel's.
pub fn join_v6(socket: &OwnedFd, group: Ipv6Addr, index: u32) -> Result<(), Errno> {
    let request = libc::ipv6_mreq {
        ipv6mr_multiaddr: libc::in6_addr { s6_addr: group.octets() },
        ipv6mr_interface: index,
    };
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &request)?;
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &index)
}

/// An integer option.
///
/// # Errors
/// The kernel's.
pub fn set_int(socket: &OwnedFd, level: i32, option: i32, value: i32) -> Result<(), Errno> {
    set(socket, level, option, &value)
}

fn set<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> Result<(), Errno> {
    // SAFETY: `value` is readable for its size, and the kernel copies it before it returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}
