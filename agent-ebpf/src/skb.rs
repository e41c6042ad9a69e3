//! A packet on its way into the stack or out of it lies in pieces, of which a program can read the first: what is needed
//! is brought there. Nothing of the packet changes.

use aya_ebpf::programs::TcContext;

use crate::{
    gate, maps,
    parse::{Context as _, Datagram, Packet, headers},
};

/// Most bytes of headers before a datagram's payload: Ethernet, two VLAN tags, IPv4 with all its options, UDP.
const HEADERS_MAX: usize = 14 + 2 * 4 + 60 + 8;
/// Bytes that must be there before anything is known of an arriving packet.
const LOOK_LEN: usize = if HEADERS_MAX > gate::LOOK_LEN { HEADERS_MAX } else { gate::LOOK_LEN };

/// Of an arriving packet: the headers, and all of a datagram to one of our ports.
#[inline(always)]
pub(crate) fn bring_arriving(ctx: &TcContext) {
    pull(ctx, LOOK_LEN);
    if headers(Packet::of(ctx)).is_some_and(|datagram| is_to_a_port(&datagram)) {
        pull(ctx, usize::MAX);
    }
}

/// Of a leaving packet: the headers.
#[inline(always)]
pub(crate) fn bring_leaving(ctx: &TcContext) {
    pull(ctx, gate::LOOK_LEN);
}

/// Brings the first `len` bytes of a packet into its first piece, if there are as many. If that fails, it is nobody's.
/// What was read of the packet before must be read afresh.
#[inline(always)]
fn pull(ctx: &TcContext, len: usize) {
    let linear = ctx.end() - ctx.start();
    let whole = ctx.len() as usize;
    if linear < len && linear < whole {
        let _ = ctx.pull_data(whole.min(len) as u32);
    }
}

/// Whether a datagram is for the port of any link: the rest of it is worth looking at.
#[inline(always)]
fn is_to_a_port(datagram: &Datagram) -> bool {
    let Some(links) = maps::links() else { return false };
    links.iter().any(|link| link.port == datagram.port && link.ifindex != 0)
}
