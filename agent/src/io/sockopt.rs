//! Socket options that nix does not know: packet filters, and joining a group by interface index.
//! One system call each.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

/// Drops every datagram before it reaches the socket's queue: for a socket that only sends, while XDP receives.
///
/// # Errors
/// The kernel's.
pub fn drop_everything(socket: &OwnedFd) -> Result<(), Errno> {
    attach_filter(socket, &mut [instruction(BPF_RETURN, 0, 0)])
}

/// Drops this node's own broadcasts, which the kernel loops back to every socket of the port: they would wake the agent
/// for nothing.
///
/// # Errors
/// The kernel's.
pub fn drop_own_broadcasts(socket: &OwnedFd) -> Result<(), Errno> {
    let packet_type = libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE;
    attach_filter(
        socket,
        &mut [
            instruction(BPF_LOAD_WORD, 0, packet_type as u32),
            instruction(BPF_JUMP_UNLESS, 1, u32::from(libc::PACKET_LOOPBACK)),
            instruction(BPF_RETURN, 0, 0),
            instruction(BPF_RETURN, 0, u32::MAX),
        ],
    )
}

/// BPF_RET | BPF_K: keep that many bytes of the packet, none to drop it.
const BPF_RETURN: u16 = 0x06;
/// BPF_LD | BPF_W | BPF_ABS.
const BPF_LOAD_WORD: u16 = 0x20;
/// BPF_JMP | BPF_JEQ | BPF_K: skip when it is not equal.
const BPF_JUMP_UNLESS: u16 = 0x15;

const fn instruction(code: u16, skip: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: skip, k }
}

fn attach_filter(socket: &OwnedFd, program: &mut [libc::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
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

/// An option of eight words: the types of ICMPv6 that a raw socket is not handed.
///
/// # Errors
/// The kernel's.
pub fn set_words(socket: &OwnedFd, level: i32, option: i32, value: &[u32; 8]) -> Result<(), Errno> {
    set(socket, level, option, value)
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
