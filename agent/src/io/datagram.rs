//! Datagrams by the batch, with what the kernel says beside each: when it arrived, where it was sent, on which
//! interface. The memory is there from the start; one system call reads a whole batch.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use agent_common::wire::FRAME_MAX;

/// Datagrams of one batch.
pub const BATCH: usize = 16;
/// One byte more than a frame, so that a longer datagram does not pass for one.
const PAYLOAD_MAX: usize = FRAME_MAX + 1;
/// Room for a stamp and the packet information of either family, in words.
const CONTROL_WORDS: usize = 16;
/// Room for struct sockaddr_in6, in words.
const SOURCE_WORDS: usize = 4;
/// Length of struct cmsghdr: a length and two integers.
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();

/// One datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// What it carries.
    pub payload: &'a [u8],
    /// CLOCK_REALTIME of its arrival, nanoseconds.
    pub stamp_wall_ns: Option<u64>,
    /// Where it was sent.
    pub destination: Option<IpAddr>,
    /// The interface on which it arrived.
    pub index: Option<u32>,
    /// Where it came from.
    pub source: Option<IpAddr>,
}

#[derive(Clone, Copy)]
struct Room {
    payload: [u8; PAYLOAD_MAX],
    control: [u64; CONTROL_WORDS],
    source: [u64; SOURCE_WORDS],
    payload_len: usize,
    control_len: usize,
    source_len: usize,
}

/// The memory of a batch.
pub struct Batch {
    rooms: Box<[Room]>,
    filled: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        let room = Room {
            payload: [0; PAYLOAD_MAX],
            control: [0; CONTROL_WORDS],
            source: [0; SOURCE_WORDS],
            payload_len: 0,
            control_len: 0,
            source_len: 0,
        };
        Self { rooms: vec![room; BATCH].into_boxed_slice(), filled: 0 }
    }

    /// Datagrams in it.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Reads what is there, at most [`BATCH`]; true when there may be more. A failure (an ICMP error on the socket, for
    /// example) reads nothing, and is over with the next call.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> bool {
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        // SAFETY: all of msghdr is integers and pointers, for which zeroes are valid.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for ((header, part), room) in headers.iter_mut().zip(&mut parts).zip(&mut self.rooms) {
            part.iov_base = room.payload.as_mut_ptr().cast();
            part.iov_len = PAYLOAD_MAX;
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = room.control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of_val(&room.control);
            header.msg_hdr.msg_name = room.source.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of_val(&room.source) as libc::socklen_t;
        }
        // SAFETY: each header points to memory of `parts` and `rooms`, which outlives the call and is not used meanwhile.
        let read = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(read).unwrap_or(0);
        for (header, room) in headers.iter().zip(&mut self.rooms).take(self.filled) {
            room.payload_len = header.msg_len as usize;
            room.control_len = header.msg_hdr.msg_controllen;
            room.source_len = header.msg_hdr.msg_namelen as usize;
        }
        self.filled == BATCH
    }

    /// The datagram at `place`.
    pub fn get(&self, place: usize) -> Option<Datagram<'_>> {
        let room = self.rooms.get(..self.filled)?.get(place)?;
        let payload = room.payload.get(..room.payload_len)?;
        let source: [u8; SOURCE_WORDS * 8] = bytes(&room.source);
        let mut datagram = Datagram {
            payload,
            stamp_wall_ns: None,
            destination: None,
            index: None,
            source: source.get(..room.source_len).and_then(address),
        };
        let control: [u8; CONTROL_WORDS * 8] = bytes(&room.control);
        read_control(control.get(..room.control_len)?, &mut datagram);
        Some(datagram)
    }
}

fn bytes<const N: usize>(words: &[u64]) -> [u8; N] {
    let mut bytes = [0; N];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// struct sockaddr_in: family, port, address. struct sockaddr_in6: family, port, flow, address.
fn address(name: &[u8]) -> Option<IpAddr> {
    match i32::from(u16::from_ne_bytes(array(name, 0)?)) {
        libc::AF_INET => array::<4>(name, 4).map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        libc::AF_INET6 => array::<16>(name, 8).map(|octets| Ipv6Addr::from(octets).to_canonical()),
        _ => None,
    }
}

/// Walks the control messages (cmsg(3)): length of the message with its header, level, type, then the data.
fn read_control(mut rest: &[u8], datagram: &mut Datagram<'_>) {
    while let Some((length, level, kind)) = control_header(rest) {
        let data = rest.get(CONTROL_HEADER..length).unwrap_or(&[]);
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => datagram.stamp_wall_ns = wall_ns(data),
            // struct in_pktinfo: interface, address of the socket, destination in the header
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                datagram.index = word(data, 0);
                datagram.destination = array::<4>(data, 8).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
            }
            // struct in6_pktinfo: destination, interface
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                datagram.destination = array::<16>(data, 0).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
                datagram.index = word(data, 16);
            }
            _ => {}
        }
        let next = length.checked_next_multiple_of(size_of::<usize>());
        rest = next.and_then(|next| rest.get(next..)).unwrap_or(&[]);
    }
}

fn control_header(bytes: &[u8]) -> Option<(usize, i32, i32)> {
    let length = usize::from_ne_bytes(array(bytes, 0)?);
    let level = i32::from_ne_bytes(array(bytes, size_of::<usize>())?);
    let kind = i32::from_ne_bytes(array(bytes, size_of::<usize>() + 4)?);
    (length >= CONTROL_HEADER).then_some((length, level, kind))
}

/// struct timespec as this machine has it.
fn wall_ns(data: &[u8]) -> Option<u64> {
    const HALF: usize = size_of::<libc::c_long>();
    let seconds = libc::c_long::from_ne_bytes(array::<HALF>(data, 0)?);
    let nanoseconds = libc::c_long::from_ne_bytes(array::<HALF>(data, HALF)?);
    let seconds = u64::try_from(seconds).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(nanoseconds).ok()?)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};
    use std::os::fd::AsFd;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::{BATCH, Batch, Datagram, read_control};

    #[test]
    fn a_batch_has_payload_stamp_destination_and_interface_of_each() {
        let here = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        setsockopt(&here, sockopt::ReceiveTimestampns, &true).expect("stamps");
        setsockopt(&here, sockopt::Ipv4PacketInfo, &true).expect("packet information");
        let there = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = here.local_addr().expect("an address");
        let before = crate::rt::clock::wall_ns();
        for payload in 0..=BATCH as u8 {
            there.send_to(&[payload; 3], to).expect("sent");
        }

        let mut batch = Batch::new();
        assert!(batch.receive(here.as_fd()), "a full batch means more");
        for place in 0..BATCH {
            let datagram = batch.get(place).expect("filled");
            assert_eq!(datagram.payload, [place as u8; 3]);
            assert_eq!(datagram.destination, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            assert_eq!(datagram.source, datagram.destination);
            assert!(datagram.index.is_some_and(|index| index > 0));
            let stamp = datagram.stamp_wall_ns.expect("stamped");
            assert!(stamp + 1_000_000_000 > before && stamp <= crate::rt::clock::wall_ns());
        }
        assert!(!batch.receive(here.as_fd()));
        assert_eq!(batch.len(), 1);
        assert!(!batch.receive(here.as_fd()));
        assert!(batch.is_empty() && batch.get(0).is_none());
    }

    #[test]
    fn broken_control_data_ends_the_walk() {
        let mut datagram =
            Datagram { payload: &[], stamp_wall_ns: None, destination: None, index: None, source: None };
        for length in [0usize, 3, 15, 4096, usize::MAX - 3] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend([0xff; 16]);
            read_control(&bytes, &mut datagram);
        }
        assert_eq!(datagram.stamp_wall_ns, None);
    }
}
