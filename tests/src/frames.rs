//! Packets for tests: heartbeats and what surrounds them, byte by byte, and a plain reader of packets to compare the
//! XDP program's parser with. Here nothing is shared with the program but the layer above UDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent_common::{
    Beat, KeyId, LinkId, NodeId, NodeState,
    maps::{ClusterConfig, KeyState, LinkConfig, LinkTable},
    wire::{self, FRAME_MAX, TAG_LEN},
};

/// Ourselves.
pub const ME: u8 = 0;
/// A peer.
pub const PEER: u8 = 1;
/// Nodes 0 to 2 are configured.
pub const NODES: u32 = 0b111;
/// The port of links 0 to 2.
pub const PORT: u16 = 694;
/// Our own incarnation.
pub const OURS: u64 = 77;
/// Upper bound of the deadtime.
pub const DEADTIME_MAX_US: u32 = 2_000_000;
/// The interface on which test-runs arrive: a test-run without a context is received by `lo`.
pub const INTERFACE: u32 = 1;
/// The key that signs.
pub const KEY: u8 = 1;

/// A link of the tests' cluster.
#[derive(Clone, Copy, Debug)]
pub struct TestLink {
    /// Its id.
    pub id: u8,
    /// Where its frames arrive.
    pub ifindex: u32,
    /// Their destination port.
    pub port: u16,
    /// Their destination address.
    pub destination: IpAddr,
}

/// The links: IPv4, IPv6, another interface, multicast on another port.
pub const LINKS: [TestLink; 4] = [
    TestLink { id: 0, ifindex: INTERFACE, port: PORT, destination: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)) },
    TestLink {
        id: 1,
        ifindex: INTERFACE,
        port: PORT,
        destination: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    },
    TestLink { id: 2, ifindex: 2, port: PORT, destination: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)) },
    TestLink {
        id: 3,
        ifindex: INTERFACE,
        port: 5405,
        destination: IpAddr::V4(Ipv4Addr::new(239, 192, 0, 1)),
    },
];

/// The links as the map holds them.
pub fn link_table() -> LinkTable {
    let mut table = LinkTable::default();
    for link in &LINKS {
        table.links[usize::from(link.id)] = LinkConfig {
            ifindex: link.ifindex,
            port: u32::from(link.port),
            destination: mapped(link.destination),
        };
    }
    table
}

/// The cluster's settings as the map holds them.
pub fn cluster_config() -> ClusterConfig {
    ClusterConfig {
        cluster: wire::cluster_id("test"),
        nodes: NODES,
        incarnation: OURS,
        deadtime_max_us: DEADTIME_MAX_US,
        me: u32::from(ME),
    }
}

/// The keys 1 and 2; no others.
pub fn key(id: u8) -> KeyState {
    match id {
        1 | 2 => KeyState::from_secret(&[0x40 + id; 32]),
        _ => KeyState::default(),
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A steady heartbeat of a node that acks our present incarnation.
///
/// # Panics
/// On a node id that is out of range.
#[expect(clippy::expect_used, reason = "a test's own constants")]
pub fn beat(node: u8, incarnation: u64, seq: u64) -> Beat {
    let mut beat = Beat::empty(NodeId::new(node).expect("a node id"));
    beat.state = NodeState::Up;
    beat.incarnation = incarnation;
    beat.seq = seq;
    beat.sent_ns = seq * 10_000_000;
    beat.keepalive_us = 10_000;
    beat.deadtime_us = 50_000;
    if let Some(me) = NodeId::new(ME).filter(|me| *me != beat.node) {
        beat.acked.insert(me);
        beat.acks[me.index()] = agent_common::Ack { incarnation: OURS, seq: 9, table: 0 };
    }
    beat.view = Some(agent_common::NodeSet::EMPTY);
    beat
}

/// The signed frame of a heartbeat on a link.
///
/// # Panics
/// On a link id that is out of range.
#[expect(clippy::expect_used, reason = "a test's own constants")]
pub fn frame(beat: &Beat, link: u8) -> Vec<u8> {
    let mut out = [0; FRAME_MAX];
    let id = KeyId::new(KEY).expect("a key id");
    let link = LinkId::new(link).expect("a link id");
    let cluster = cluster_config().cluster;
    let len = wire::encode(beat, link, beat.keepalive_us, cluster, id, &key(KEY), &mut out);
    out[..len].to_vec()
}

/// Changes a frame's body and signs it again, so that only what was changed can be why it is refused.
pub fn resigned(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame);
    let state = key(KEY);
    let body = frame.len() - TAG_LEN;
    frame[wire::at::SCREEN..wire::HEADER_LEN].fill(0);
    let tag = agent_common::hmac::hmac(&state, &frame[..body]);
    frame[body..].copy_from_slice(&tag[..TAG_LEN]);
    screened(frame, |_| ())
}

/// Changes a frame and makes its screen right again but not its tag, as nobody can who has no key.
///
/// # Panics
/// When the frame has no heartbeat's length.
#[expect(clippy::expect_used, reason = "a test's own frames")]
pub fn screened(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame);
    let screen = agent_common::screen::screen(key(KEY).screen, agent_common::frame::SliceFrame(&frame));
    let screen = screen.expect("a heartbeat's length");
    frame[wire::at::SCREEN..wire::HEADER_LEN].copy_from_slice(&screen.to_le_bytes());
    frame
}

/// A packet with UDP in it, each part as it is to be sent.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Tag protocol ids, outermost first.
    pub tags: Vec<u16>,
    /// Destination.
    pub destination: IpAddr,
    /// Destination port.
    pub port: u16,
    /// Words of IPv4 options.
    pub options: u8,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Added to the UDP header's length.
    pub udp_len_error: i32,
    /// Added to the IP header's length.
    pub ip_len_error: i32,
    /// Bytes of Ethernet padding.
    pub padding: usize,
    /// What UDP carries.
    pub payload: Vec<u8>,
}

impl Packet {
    /// A plain packet with `payload` to where frames of `link` go.
    pub fn on(link: u8, payload: Vec<u8>) -> Self {
        let link = &LINKS[usize::from(link)];
        Self {
            tags: Vec::new(),
            destination: link.destination,
            port: link.port,
            options: 0,
            fragment: 0,
            protocol: 17,
            udp_len_error: 0,
            ip_len_error: 0,
            padding: 0,
            payload,
        }
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x02; 12];
        for tag in &self.tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend(100u16.to_be_bytes());
        }
        let udp_len = 8 + self.payload.len();
        match self.destination {
            IpAddr::V4(destination) => self.ipv4(&mut bytes, destination, udp_len),
            IpAddr::V6(destination) => self.ipv6(&mut bytes, destination, udp_len),
        }
        bytes.extend(40_000u16.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend(wrong(udp_len, self.udp_len_error).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(&self.payload);
        bytes.resize(bytes.len() + self.padding, 0);
        bytes
    }

    fn ipv4(&self, bytes: &mut Vec<u8>, destination: Ipv4Addr, udp_len: usize) {
        let header_len = 20 + 4 * usize::from(self.options);
        bytes.extend(0x0800u16.to_be_bytes());
        bytes.extend([0x45 + self.options, 0]);
        bytes.extend(wrong(header_len + udp_len, self.ip_len_error).to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]);
        bytes.extend([10, 0, 0, 2]);
        bytes.extend(destination.octets());
        bytes.extend(std::iter::repeat_n(1, 4 * usize::from(self.options)));
    }

    fn ipv6(&self, bytes: &mut Vec<u8>, destination: Ipv6Addr, udp_len: usize) {
        bytes.extend(0x86ddu16.to_be_bytes());
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend(wrong(udp_len, self.ip_len_error).to_be_bytes());
        bytes.extend([self.protocol, 64]);
        bytes.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).octets());
        bytes.extend(destination.octets());
    }
}

fn wrong(len: usize, error: i32) -> u16 {
    (len as i32 + error) as u16
}

/// What a packet's UDP datagram is, by a reader that knows nothing of verifiers.
#[derive(Clone, Debug)]
pub struct Delivered<'a> {
    /// Destination address, IPv4 mapped.
    pub destination: [u8; 16],
    /// Destination port.
    pub port: u16,
    /// What UDP carries.
    pub payload: &'a [u8],
    /// Under a VLAN tag.
    pub is_tagged: bool,
}

/// Reads a packet: `None` when it is anything but a whole, plain UDP datagram under at most two VLAN tags.
pub fn deliver(packet: &[u8]) -> Option<Delivered<'_>> {
    let be16 = |bytes: &[u8], at: usize| bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let mut rest = packet.get(12..)?;
    let mut tags = 0;
    while matches!(be16(rest, 0)?, 0x8100 | 0x88a8) {
        tags += 1;
        rest = rest.get(4..)?;
    }
    let kind = be16(rest, 0)?;
    let ip = rest.get(2..)?;
    if tags > 2 {
        return None;
    }
    let (destination, header_len, len) = match kind {
        0x0800 => {
            let header_len = usize::from(*ip.first()? & 15) * 4;
            let plain =
                ip[0] >> 4 == 4 && header_len >= 20 && be16(ip, 6)? & 0x3fff == 0 && *ip.get(9)? == 17;
            let destination: [u8; 4] = ip.get(16..20)?.try_into().ok()?;
            let len = usize::from(be16(ip, 2)?).checked_sub(header_len)?;
            plain.then_some((mapped(IpAddr::from(destination)), header_len, len))?
        }
        0x86dd => {
            let plain = ip.first()? >> 4 == 6 && *ip.get(6)? == 17;
            let destination: [u8; 16] = ip.get(24..40)?.try_into().ok()?;
            plain.then_some((destination, 40, usize::from(be16(ip, 4)?)))?
        }
        _ => return None,
    };
    let udp = ip.get(header_len..header_len + len)?;
    let payload = udp.get(8..)?;
    let port = be16(udp, 2)?;
    (usize::from(be16(udp, 4)?) == len).then_some(Delivered {
        destination,
        port,
        payload,
        is_tagged: tags > 0,
    })
}

/// The link to whose address and port a datagram was sent: the one that the frame names if it is such a link on the
/// interface of the test-runs, else `Some(None)` if there is any such link at all, else `None`. Under a VLAN tag only
/// links of that interface are any: others may be on top of it.
pub fn arrival(datagram: &Delivered<'_>) -> Option<Option<LinkId>> {
    let sent_to =
        |link: &&TestLink| link.port == datagram.port && mapped(link.destination) == datagram.destination;
    let _any = LINKS.iter().filter(sent_to).find(|link| link.ifindex == INTERFACE || !datagram.is_tagged)?;
    let named = datagram.payload.get(wire::at::LINK).copied();
    let link = LINKS.iter().filter(sent_to).find(|link| link.ifindex == INTERFACE && Some(link.id) == named);
    Some(link.and_then(|link| LinkId::new(link.id)))
}
