//! Ethernet frames as the wire has them: what kind a captured frame is, and the edits that the tests make to heartbeats.
//! Checksums are always recomputed, because frames captured on a veth pair leave theirs to hardware that does not exist.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent_common::wire::{HEADER_LEN, MAGIC, at};

const ETHERNET_LEN: usize = 14;
const TYPE_AT: usize = 12;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const TYPE_IPV6: u16 = 0x86dd;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_VRRP: u8 = 112;
const PROTOCOL_ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// `ha-cluster`, BFD, kronosnet as corosync has it.
const PEER_PORTS: [u16; 3] = [694, 3784, 5405];

/// What a frame is to the laboratory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A heartbeat: of which node, its incarnation and number.
    Heartbeat {
        /// Node id.
        node: u8,
        /// Incarnation.
        incarnation: u64,
        /// Sequence number.
        seq: u64,
    },
    /// A gratuitous ARP (RFC 5227 section 3) or unsolicited neighbour advertisement (RFC 4861 section 7.2.6) for an address.
    Announcement(IpAddr),
    /// An advertisement of VRRP (RFC 5798 section 5.1), by its source.
    Vrrp(IpAddr),
    /// A sign of life of other cluster software, by its source: Linux-HA heartbeat, BFD (RFC 5881, section 4), kronosnet.
    Peer(IpAddr),
    /// None of these.
    Other,
}

/// Classifies a frame.
pub fn kind(frame: &[u8]) -> Kind {
    let found = match u16_at(frame, TYPE_AT) {
        Some(TYPE_ARP) => announcement_arp(frame),
        Some(TYPE_IPV4 | TYPE_IPV6) => heartbeat(frame)
            .or_else(|| vrrp(frame))
            .or_else(|| announcement_na(frame))
            .or_else(|| peer(frame)),
        Some(_) | None => None,
    };
    found.unwrap_or(Kind::Other)
}

fn peer(frame: &[u8]) -> Option<Kind> {
    let port = u16_at(frame, udp_at(frame)? + 2)?;
    let is_v4 = u16_at(frame, TYPE_AT)? == TYPE_IPV4;
    let source = address_v4(frame, ETHERNET_LEN + 12)?;
    (is_v4 && PEER_PORTS.contains(&port)).then_some(Kind::Peer(source.into()))
}

impl Kind {
    /// Whether it says that its sender is alive, in whichever protocol.
    pub const fn is_sign_of_life(self) -> bool {
        match self {
            Self::Heartbeat { .. } | Self::Vrrp(_) | Self::Peer(_) => true,
            Self::Announcement(_) | Self::Other => false,
        }
    }

    /// Whether it is a sign of life of other cluster software at this address.
    pub fn is_peer_at(self, wanted: IpAddr) -> bool {
        match self {
            Self::Vrrp(source) | Self::Peer(source) => source == wanted,
            Self::Heartbeat { .. } | Self::Announcement(_) | Self::Other => false,
        }
    }
}

/// Where the UDP payload of a frame starts.
pub fn payload_at(frame: &[u8]) -> Option<usize> {
    Some(udp_at(frame)? + UDP_LEN)
}

/// The UDP payload of a frame.
pub fn payload(frame: &[u8]) -> Option<&[u8]> {
    frame.get(payload_at(frame)?..)
}

/// A copy of `frame` whose payload is `edit`ed; lengths and checksums are made right again.
pub fn edited(frame: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
    let start = payload_at(frame)?;
    let mut payload = frame.get(start..)?.to_vec();
    edit(&mut payload);
    let mut copy = frame.get(..start)?.to_vec();
    copy.extend(payload);
    complete(&mut copy)?;
    Some(copy)
}

fn announcement_arp(frame: &[u8]) -> Option<Kind> {
    let sender = address_v4(frame, ETHERNET_LEN + 14)?;
    let target = address_v4(frame, ETHERNET_LEN + 24)?;
    (sender == target).then_some(Kind::Announcement(sender.into()))
}

fn announcement_na(frame: &[u8]) -> Option<Kind> {
    let icmp = ETHERNET_LEN + IPV6_LEN;
    let is_advertisement = u16_at(frame, TYPE_AT)? == TYPE_IPV6
        && *frame.get(ETHERNET_LEN + 6)? == PROTOCOL_ICMPV6
        && *frame.get(icmp)? == NEIGHBOUR_ADVERTISEMENT
        // To all nodes: nobody asked.
        && *frame.get(ETHERNET_LEN + 24)? == 0xff;
    is_advertisement
        .then(|| address_v6(frame, icmp + 8))
        .flatten()
        .map(|target| Kind::Announcement(target.into()))
}

fn vrrp(frame: &[u8]) -> Option<Kind> {
    let is_vrrp = u16_at(frame, TYPE_AT)? == TYPE_IPV4 && *frame.get(ETHERNET_LEN + 9)? == PROTOCOL_VRRP;
    is_vrrp.then(|| address_v4(frame, ETHERNET_LEN + 12)).flatten().map(|source| Kind::Vrrp(source.into()))
}

fn heartbeat(frame: &[u8]) -> Option<Kind> {
    let payload = payload(frame)?;
    let header = payload.get(..HEADER_LEN)?;
    header.starts_with(&MAGIC).then_some(())?;
    Some(Kind::Heartbeat {
        node: *header.get(at::NODE)?,
        incarnation: u64_at(header, at::INCARNATION)?,
        seq: u64_at(header, at::SEQ)?,
    })
}

fn udp_at(frame: &[u8]) -> Option<usize> {
    match u16_at(frame, TYPE_AT)? {
        TYPE_IPV4 => {
            let header = usize::from(frame.get(ETHERNET_LEN)? & 15) * 4;
            (*frame.get(ETHERNET_LEN + 9)? == PROTOCOL_UDP).then_some(ETHERNET_LEN + header)
        }
        TYPE_IPV6 => (*frame.get(ETHERNET_LEN + 6)? == PROTOCOL_UDP).then_some(ETHERNET_LEN + IPV6_LEN),
        _ => None,
    }
}

/// Makes lengths and checksums fit the payload.
fn complete(frame: &mut [u8]) -> Option<()> {
    let udp = udp_at(frame)?;
    let udp_len = u16::try_from(frame.len() - udp).ok()?;
    put_u16(frame, udp + 4, udp_len)?;
    put_u16(frame, udp + 6, 0)?;
    let addresses = if u16_at(frame, TYPE_AT)? == TYPE_IPV4 {
        let total = u16::try_from(frame.len() - ETHERNET_LEN).ok()?;
        put_u16(frame, ETHERNET_LEN + 2, total)?;
        put_u16(frame, ETHERNET_LEN + 10, 0)?;
        let header = !sum(0, frame.get(ETHERNET_LEN..udp)?);
        put_u16(frame, ETHERNET_LEN + 10, header)?;
        frame.get(ETHERNET_LEN + 12..ETHERNET_LEN + 20)?
    } else {
        put_u16(frame, ETHERNET_LEN + 4, udp_len)?;
        frame.get(ETHERNET_LEN + 8..ETHERNET_LEN + IPV6_LEN)?
    };
    // The pseudo header (RFC 768, RFC 8200 section 8.1).
    let pseudo = u32::from(sum(0, addresses)) + u32::from(PROTOCOL_UDP) + u32::from(udp_len);
    let checksum = match !sum(pseudo, frame.get(udp..)?) {
        0 => u16::MAX,
        other => other,
    };
    put_u16(frame, udp + 6, checksum)
}

/// The ones' complement sum of RFC 1071.
fn sum(start: u32, bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([high, low]))
    });
    let mut total = start + words.sum::<u32>();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).unwrap_or(u16::MAX)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_be_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_be_bytes(*chunk))
}

fn address_v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes.get(at..)?.first_chunk::<4>().map(|chunk| Ipv4Addr::from(*chunk))
}

fn address_v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    bytes.get(at..)?.first_chunk::<16>().map(|chunk| Ipv6Addr::from(*chunk))
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp_frame() -> Vec<u8> {
        let mut frame = vec![0; ETHERNET_LEN + 20 + UDP_LEN + 2];
        put_u16(&mut frame, TYPE_AT, TYPE_IPV4).unwrap();
        frame[ETHERNET_LEN] = 0x45;
        frame[ETHERNET_LEN + 9] = PROTOCOL_UDP;
        frame
    }

    #[test]
    fn edited_frames_have_right_lengths_and_checksums() {
        let frame = edited(&udp_frame(), |payload| *payload = vec![1, 2, 3]).unwrap();
        assert_eq!(payload(&frame), Some(&[1, 2, 3][..]));
        assert_eq!(u16_at(&frame, ETHERNET_LEN + 2), Some(20 + 8 + 3));
        // A right checksum makes the sum over everything all ones.
        assert_eq!(sum(0, &frame[ETHERNET_LEN..ETHERNET_LEN + 20]), u16::MAX);
        let pseudo = u32::from(PROTOCOL_UDP) + 11;
        assert_eq!(sum(pseudo, &frame[ETHERNET_LEN + 20..]), u16::MAX);
    }

    #[test]
    fn only_an_arp_about_its_own_sender_announces() {
        let mut frame = vec![0; ETHERNET_LEN + 28];
        put_u16(&mut frame, TYPE_AT, TYPE_ARP).unwrap();
        frame[ETHERNET_LEN + 14..ETHERNET_LEN + 18].copy_from_slice(&[10, 0, 0, 1]);
        assert_eq!(kind(&frame), Kind::Other);
        frame[ETHERNET_LEN + 24..ETHERNET_LEN + 28].copy_from_slice(&[10, 0, 0, 1]);
        assert_eq!(kind(&frame), Kind::Announcement(Ipv4Addr::new(10, 0, 0, 1).into()));
    }

    #[test]
    fn a_sign_of_life_is_known_by_its_port() {
        let mut frame = udp_frame();
        frame[ETHERNET_LEN + 12..ETHERNET_LEN + 16].copy_from_slice(&[10, 0, 0, 1]);
        assert!(!kind(&frame).is_sign_of_life());
        put_u16(&mut frame, ETHERNET_LEN + 20 + 2, PEER_PORTS[0]).unwrap();
        assert_eq!(kind(&frame), Kind::Peer(Ipv4Addr::new(10, 0, 0, 1).into()));
        assert!(kind(&frame).is_sign_of_life());
    }

    #[test]
    fn truncated_frames_are_nothing() {
        let frame = udp_frame();
        for len in 0..frame.len() {
            assert_eq!(kind(&frame[..len]), Kind::Other);
        }
    }
}
