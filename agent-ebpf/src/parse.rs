//! From a packet to the UDP datagram in it: Ethernet, up to two VLAN tags, IPv4 or IPv6, UDP.
//! Copies out, never changes; whatever is not whole, plain UDP is `None`, and goes on unchanged.

use aya_ebpf::programs::{TcContext, XdpContext};

const ETHERNET_LEN: usize = 14;
const VLAN_LEN: usize = 4;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q and 802.1ad.
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
const PROTOCOL_UDP: u8 = 17;
/// "More fragments" and the offset (RFC 791, 3.1).
const FRAGMENT: u16 = 0x3fff;
const U16_MASK: usize = 0xffff;

/// A UDP datagram, and where its payload lies.
#[derive(Clone, Copy)]
pub(crate) struct Datagram {
    /// Offset of the payload from the start of the packet, at most 90.
    pub(crate) payload: usize,
    /// Offset of the source address, which is as long as the version says.
    pub(crate) source: usize,
    /// IPv6, else IPv4.
    pub(crate) is_ipv6: bool,
    /// Under a VLAN tag: perhaps for another interface, on top of this one.
    pub(crate) is_tagged: bool,
    /// Bytes of the payload, all of them in the packet if the caller asked for that.
    pub(crate) len: usize,
    /// Destination port in native order.
    pub(crate) port: u32,
    /// Destination address as words in memory order, IPv4 as ::ffff:a.b.c.d.
    pub(crate) destination: [u32; 4],
}

/// What a program is called with: a frame of a driver, or a packet on its way into the stack.
pub(crate) trait Context {
    /// Where the packet starts, at its Ethernet header.
    fn start(&self) -> usize;
    /// Where the bytes end that can be read.
    fn end(&self) -> usize;
    /// The interface on which it arrived.
    fn ifindex(&self) -> u32;
    /// Whether the outermost VLAN tag has been taken off already.
    fn was_tagged(&self) -> bool;
}

impl Context for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn was_tagged(&self) -> bool {
        false
    }
}

impl Context for TcContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the kernel's own structure, for as long as the program runs.
        unsafe { (*self.skb.skb).ifindex }
    }

    #[inline(always)]
    fn was_tagged(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.skb.skb).vlan_present != 0 }
    }
}

/// The packet's bytes.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    /// Reads the bounds afresh from the context.
    #[inline(always)]
    pub(crate) fn of<C: Context>(ctx: &C) -> Self {
        Self { start: ctx.start(), end: ctx.end() }
    }

    /// Where the packet starts; nothing is checked to be there.
    #[inline(always)]
    pub(crate) fn first(self) -> Place {
        Place(self.start)
    }

    /// The one bounds check: the place of `len` bytes at `offset`, if they are all there.
    #[inline(always)]
    pub(crate) fn place(self, offset: usize, len: usize) -> Option<Place> {
        self.check(self.start + offset, len)
    }

    /// The same, `offset` bytes after a place whose own offset is not a constant.
    #[inline(always)]
    pub(crate) fn after(self, base: Place, offset: usize, len: usize) -> Option<Place> {
        self.check(opaque(base.0 + offset), len)
    }

    #[inline(always)]
    fn check(self, at: usize, len: usize) -> Option<Place> {
        if at + len > self.end { None } else { Some(Place(at)) }
    }
}

/// Makes one value of a sum. Otherwise the compiler adds the constants of the check elsewhere than those of the reads,
/// and the verifier takes the two for different pointers, of which only one was checked.
#[inline(always)]
fn opaque(mut at: usize) -> usize {
    let place = &raw mut at;
    // SAFETY: a local variable.
    unsafe { core::ptr::write_volatile(place, at) };
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(place) }
}

/// Bytes of the packet that were checked to be there.
#[derive(Clone, Copy)]
pub(crate) struct Place(usize);

impl Place {
    /// The value at `offset`, in memory order; the caller checked for as many bytes.
    #[inline(always)]
    pub(crate) fn read<T: Copy>(self, offset: usize) -> T {
        // SAFETY: `Packet::place` has checked the bytes, and the verifier checks that it has. The address may not be
        // aligned, which the kernels of the supported architectures allow here; the compiler makes one load of it.
        unsafe { core::ptr::read_volatile((self.0 + offset) as *const T) }
    }

    #[inline(always)]
    pub(crate) fn be16(self, offset: usize) -> u16 {
        u16::from_be(self.read(offset))
    }
}

/// The datagram of a packet, `None` when the packet is anything else, or its end is not there.
#[inline(always)]
pub(crate) fn datagram(packet: Packet) -> Option<Datagram> {
    let datagram = headers(packet)?;
    // A swap of bytes loses the bound of its value on 5.10.
    packet.place(datagram.payload, opaque(datagram.len) & U16_MASK)?;
    Some(datagram)
}

/// What the headers say of a datagram, of which nothing else needs to be there.
#[inline(always)]
pub(crate) fn headers(packet: Packet) -> Option<Datagram> {
    let mut kind = packet.place(0, ETHERNET_LEN)?.be16(12);
    let mut at = ETHERNET_LEN;
    let mut tags = 0;
    while tags < 2 && (kind == ETHERTYPE_VLAN || kind == ETHERTYPE_SERVICE_VLAN) {
        kind = packet.place(at, VLAN_LEN)?.be16(2);
        at += VLAN_LEN;
        tags += 1;
    }
    let mut datagram = match kind {
        ETHERTYPE_IPV4 => ipv4(packet, at),
        ETHERTYPE_IPV6 => ipv6(packet, at),
        _ => None,
    }?;
    datagram.is_tagged = tags > 0;
    Some(datagram)
}

/// RFC 791. Options are skipped, fragments are left to the stack.
#[inline(always)]
fn ipv4(packet: Packet, at: usize) -> Option<Datagram> {
    let header = packet.place(at, IPV4_LEN)?;
    let first: u8 = header.read(0);
    let header_len = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header_len < IPV4_LEN || header.read::<u8>(9) != PROTOCOL_UDP {
        return None;
    }
    if header.be16(6) & FRAGMENT != 0 {
        return None;
    }
    let total = usize::from(header.be16(2));
    let destination = [0, 0, u32::from_be(0xffff), header.read(16)];
    let found = udp(packet, at + header_len, total.wrapping_sub(header_len), destination)?;
    Some(Datagram { source: at + 12, ..found })
}

/// RFC 8200. Heartbeats bear no extension headers.
#[inline(always)]
fn ipv6(packet: Packet, at: usize) -> Option<Datagram> {
    let header = packet.place(at, IPV6_LEN)?;
    if header.read::<u8>(0) >> 4 != 6 || header.read::<u8>(6) != PROTOCOL_UDP {
        return None;
    }
    let destination = [header.read(24), header.read(28), header.read(32), header.read(36)];
    let found = udp(packet, at + IPV6_LEN, usize::from(header.be16(4)), destination)?;
    Some(Datagram { source: at + 8, is_ipv6: true, ..found })
}

/// RFC 768. The length must be what the IP header says; Ethernet's padding may follow.
#[inline(always)]
fn udp(packet: Packet, at: usize, ip_len: usize, destination: [u32; 4]) -> Option<Datagram> {
    let header = packet.place(at, UDP_LEN)?;
    let udp_len = usize::from(header.be16(4));
    if udp_len != ip_len || udp_len < UDP_LEN {
        return None;
    }
    Some(Datagram {
        source: 0,
        is_ipv6: false,
        is_tagged: false,
        payload: at + UDP_LEN,
        len: udp_len - UDP_LEN,
        port: u32::from(header.be16(2)),
        destination,
    })
}
