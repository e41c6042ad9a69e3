//! The frames that tell a network where an address lives now: gratuitous ARP in both forms (RFC 5227 section 3, and the
//! reply that some switches want) and the unsolicited neighbour advertisement (RFC 4861 section 7.2.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const BROADCAST_MAC: [u8; 6] = [0xff; 6];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Ethernet, IPv4, address lengths 6 and 4.
const ARP_HEADER: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const NEXT_HEADER_ICMPV6: u8 = 58;
/// Routers and hosts refuse neighbour discovery that may have crossed a router (RFC 4861 section 7.1.2).
const HOP_LIMIT: u8 = 255;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// "Override": replace what is cached.
const FLAG_OVERRIDE: u8 = 0x20;
/// Option: target link-layer address, one unit of eight bytes.
const OPTION_TARGET_MAC: [u8; 2] = [2, 1];

/// The frames to send for `address` at `mac`, in order.
pub fn frames(address: IpAddr, mac: [u8; 6]) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(v4) => vec![arp(ARP_REQUEST, v4, mac), arp(ARP_REPLY, v4, mac)],
        IpAddr::V6(v6) => vec![advertisement(v6, mac)],
    }
}

fn arp(operation: u8, address: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    // A request does not know the target's hardware address; a reply claims to be everybody's.
    let target_mac = if operation == ARP_REQUEST { [0; 6] } else { BROADCAST_MAC };
    let mut frame = ethernet(BROADCAST_MAC, mac, ETHERTYPE_ARP);
    frame.extend(ARP_HEADER);
    frame.extend([0, operation]);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend(target_mac);
    frame.extend(address.octets());
    frame
}

fn advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut message = vec![NEIGHBOR_ADVERTISEMENT, 0, 0, 0, FLAG_OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    message.extend(OPTION_TARGET_MAC);
    message.extend(mac);
    let checksum = icmpv6_checksum(address, ALL_NODES, &message).to_be_bytes();
    message[2..4].copy_from_slice(&checksum);

    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, NEXT_HEADER_ICMPV6, HOP_LIMIT]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: [u8; 2]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend(to);
    frame.extend(from);
    frame.extend(ethertype);
    frame
}

/// RFC 4443 section 2.3: over the pseudo-header of RFC 8200 section 8.1 and the message with a zero checksum.
fn icmpv6_checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let tail = [length[0], length[1], length[2], length[3], 0, 0, 0, NEXT_HEADER_ICMPV6];
    let (from, to) = (from.octets(), to.octets());
    let mut sum: u32 = [&from[..], &to[..], &tail[..], message]
        .iter()
        .flat_map(|part| part.chunks(2))
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::{ALL_NODES, frames, icmpv6_checksum};

    const MAC: [u8; 6] = [2, 0, 0, 0xaa, 0xbb, 0xcc];

    #[test]
    fn gratuitous_arp_is_request_then_reply() {
        let sent = frames("10.0.0.100".parse().expect("an address"), MAC);
        let request = [
            255, 255, 255, 255, 255, 255, 2, 0, 0, 0xaa, 0xbb, 0xcc, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // ARP request
            2, 0, 0, 0xaa, 0xbb, 0xcc, 10, 0, 0, 100, 0, 0, 0, 0, 0, 0, 10, 0, 0, 100,
        ];
        assert_eq!(sent.len(), 2);
        assert_eq!(sent[0], request);
        assert_eq!(sent[1][20..22], [0, 2], "the second is a reply");
        assert_eq!(sent[1][22..32], request[22..32]);
        assert_eq!(sent[1][32..38], [255; 6]);
        assert_eq!(sent[1][38..], request[38..]);
    }

    #[test]
    fn advertisement_has_hop_limit_override_and_a_checksum_that_verifies() {
        let address: std::net::Ipv6Addr = "2001:db8::64".parse().expect("an address");
        let sent = frames(address.into(), MAC);
        assert_eq!(sent.len(), 1);
        let frame = &sent[0];
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(frame[18..22], [0, 32, 58, 255], "payload length, next header, hop limit");
        assert_eq!(frame[54], 136);
        assert_eq!(frame[58], 0x20, "override, neither router nor solicited");
        assert_eq!(frame[80..86], MAC);
        // Summed over itself, checksum included, a right message gives zero.
        assert_eq!(icmpv6_checksum(address, ALL_NODES, &frame[54..]), 0);
        let mut damaged = frame.clone();
        damaged[60] ^= 1;
        assert_ne!(icmpv6_checksum(address, ALL_NODES, &damaged[54..]), 0);
    }

    #[test]
    fn checksum_of_a_known_message() {
        // Computed by hand: ::1 to ff02::1, type 136 and zeroes of 8 bytes.
        // 0001 + ff02 + 0001 + 0008 + 003a + 8800 = 1_8746 -> 8747 -> complement 78b8.
        let message = [136, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(icmpv6_checksum("::1".parse().expect("an address"), ALL_NODES, &message), 0x78b8);
    }
}
