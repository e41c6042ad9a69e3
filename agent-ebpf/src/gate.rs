//! The gate: while the lease of a group is over, nothing goes to its addresses and nothing comes from them. The agent
//! says until when a gate is open; that nobody says anything any more is what shuts it.
//!
//! What a neighbour asks is dropped, what it announces is not: a gratuitous ARP of the address's new holder is for
//! everybody, also for a node whose own gate is shut.

use agent_common::maps::{Direction, Gate, GateAddress};

use crate::{
    gate_maps::{self, Address},
    parse::Packet,
    time::KernelInstant,
};

const ETHERNET_LEN: usize = 14;
const VLAN_LEN: usize = 4;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// ARP for IPv4 over Ethernet (RFC 826).
const ARP_LEN: usize = 28;
/// A neighbour solicitation or advertisement up to its target's end (RFC 4861, 4.3 and 4.4).
const NEIGHBOUR_LEN: usize = 24;
/// Most bytes that a look needs: the headers above, under two VLAN tags.
pub(crate) const LOOK_LEN: usize = ETHERNET_LEN + 2 * VLAN_LEN + IPV6_LEN + NEIGHBOUR_LEN;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q and 802.1ad.
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
const ARP_REQUEST: u16 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Whether a packet that arrived is for an address behind a shut gate; then it is counted.
#[inline(always)]
pub(crate) fn shuts_out(packet: Packet) -> bool {
    target(packet).is_some_and(|address| is_shut(&address, Direction::Ingress))
}

/// Whether a packet that is about to leave comes from an address behind a shut gate; then it is counted.
#[inline(always)]
pub(crate) fn shuts_in(packet: Packet) -> bool {
    source(packet).is_some_and(|address| is_shut(&address, Direction::Egress))
}

#[inline(always)]
fn is_shut(address: &Address, direction: Direction) -> bool {
    let Some(GateAddress { group, place }) = gate_maps::address(address) else { return false };
    // An address without a gate is none of ours; an index within the array always has one.
    let Some(gate) = gate_maps::gate(group) else { return false };
    let Some(bar) = gate_maps::bar(group) else { return false };
    // The clock costs more than all the rest: a gate that is shut anyhow needs none.
    let is_open =
        gate.expiry_ns != 0 && gate.epoch >= bar && Gate::is_open(gate, bar, KernelInstant::now().0);
    if !is_open {
        gate_maps::count(place, direction);
    }
    !is_open
}

/// Where the network header lies and what it is, beyond up to two VLAN tags.
#[inline(always)]
fn network(packet: Packet) -> Option<(u16, usize)> {
    let mut kind = packet.place(0, ETHERNET_LEN)?.be16(12);
    let mut at = ETHERNET_LEN;
    let mut tags = 0;
    while tags < 2 && (kind == ETHERTYPE_VLAN || kind == ETHERTYPE_SERVICE_VLAN) {
        kind = packet.place(at, VLAN_LEN)?.be16(2);
        at += VLAN_LEN;
        tags += 1;
    }
    Some((kind, at))
}

/// The address that a packet is for or asks for. Fragments bear it too. A solicitation under extension headers is
/// found by its destination only when that is the address itself; the answer to it is caught on its way out.
#[inline(always)]
fn target(packet: Packet) -> Option<Address> {
    let (kind, at) = network(packet)?;
    match kind {
        ETHERTYPE_IPV4 => Some(Address::v4(packet.place(at, IPV4_LEN)?.read(16))),
        ETHERTYPE_IPV6 => {
            if let Some(address) = neighbour(packet, at, NEIGHBOUR_SOLICITATION) {
                return Some(address);
            }
            Some(Address::v6(packet.place(at, IPV6_LEN)?, 24))
        }
        ETHERTYPE_ARP => {
            let arp = packet.place(at, ARP_LEN)?;
            let (sender, asked): (u32, u32) = (arp.read(14), arp.read(24));
            (arp.be16(6) == ARP_REQUEST && sender != asked).then_some(Address::v4(asked))
        }
        _ => None,
    }
}

/// The address that a packet comes from or speaks for.
#[inline(always)]
fn source(packet: Packet) -> Option<Address> {
    let (kind, at) = network(packet)?;
    match kind {
        ETHERTYPE_IPV4 => Some(Address::v4(packet.place(at, IPV4_LEN)?.read(12))),
        ETHERTYPE_IPV6 => {
            if let Some(address) = neighbour(packet, at, NEIGHBOUR_ADVERTISEMENT) {
                return Some(address);
            }
            Some(Address::v6(packet.place(at, IPV6_LEN)?, 8))
        }
        ETHERTYPE_ARP => Some(Address::v4(packet.place(at, ARP_LEN)?.read(14))),
        _ => None,
    }
}

/// The target of a neighbour solicitation or advertisement.
#[inline(always)]
fn neighbour(packet: Packet, at: usize, wanted: u8) -> Option<Address> {
    let header = packet.place(at, IPV6_LEN + NEIGHBOUR_LEN)?;
    if header.read::<u8>(6) != PROTOCOL_ICMPV6 || header.read::<u8>(IPV6_LEN) != wanted {
        return None;
    }
    Some(Address::v6(header, IPV6_LEN + 8))
}
