//! What the program does with a packet: is it for one of our links, is it valid, then stamp and record it.
//! All judgement is `agent_common`'s; here are only the packet, the maps and the lock that it runs on.

use crate::{
    digest::KernelHasher,
    gate_bar,
    maps::{self, NO_LINK, Scratch},
    parse::{Context, Datagram, Packet, Place, datagram},
    time::KernelInstant,
};
use agent_common::{
    LinkId, NodeId, Reject,
    frame::Frame,
    ids::MAX_LINKS,
    maps::{ClusterConfig, Counter, KeyState, LinkConfig, News, PeerSlot},
    rival::{self, Origin},
    validate::{MAGIC_WORD, Tables, Valid, validate},
    window::{PeerWindow, Recorded, mark_told, record},
    wire::{BODY_MIN, TAG_LEN, at},
};

/// Bytes that every heartbeat has at least: what was checked at once for all reads of the header.
const FRAME_MIN: usize = BODY_MIN + TAG_LEN;
/// Payloads start within the first 90 bytes.
const PAYLOAD_OFFSET_MASK: usize = 127;
/// [`Scratch::source`]: the address is of IPv6.
const SOURCE_IPV6: u64 = 1 << 8;
/// Frames are shorter than this.
const FRAME_OFFSET_MASK: usize = 2047;

/// What became of a packet.
pub(crate) enum Verdict {
    /// Nothing that concerns this cluster.
    Foreign,
    /// A heartbeat, recorded and used up.
    Heard,
    /// Sent to one of our links, and refused; counted.
    Refused(Reject),
}

/// Handles one packet.
#[inline(always)]
pub(crate) fn handle<C: Context>(ctx: &C) -> Verdict {
    let Some(scratch) = find(ctx) else { return Verdict::Foreign };
    match hear(ctx, scratch) {
        Ok(()) => Verdict::Heard,
        Err(reason) => {
            maps::count(reason.index());
            if reason == Reject::OwnNode {
                note_rival(ctx, scratch);
            }
            Verdict::Refused(reason)
        }
    }
}

/// Finds a datagram that was sent to one of our links and notes where its payload lies.
#[inline(always)]
fn find<C: Context>(ctx: &C) -> Option<*mut Scratch> {
    let packet = Packet::of(ctx);
    let datagram = datagram(packet)?;
    let start = packet.place(datagram.payload, 4)?;
    let has_magic = u32::from_be(start.read(0)) >> 8 == MAGIC_WORD;
    let arrival = arrival(ctx, packet, &datagram, has_magic)?;
    if datagram.len < 4 {
        return None;
    }
    let scratch = maps::scratch()?;
    note(scratch, &datagram, arrival);
    Some(scratch)
}

#[inline(always)]
fn note(scratch: *mut Scratch, datagram: &Datagram, arrival: u64) {
    let family = if datagram.is_ipv6 { SOURCE_IPV6 } else { 0 };
    let found = Scratch {
        payload: datagram.payload as u64,
        len: datagram.len as u64,
        arrival,
        source: datagram.source as u64 | family,
    };
    // SAFETY: this processor's own memory, from the map.
    unsafe { core::ptr::write_volatile(scratch, found) };
}

/// The link that the frame names, if that is where it arrived; else [`NO_LINK`] if it was sent to the address and port
/// of some link of ours; else it is none of our business. Under a VLAN tag it may be for the link of an interface on top
/// of this one, and goes on to it.
#[inline(always)]
fn arrival<C: Context>(ctx: &C, packet: Packet, datagram: &Datagram, has_magic: bool) -> Option<u64> {
    let links = maps::links()?;
    let ifindex = ctx.ifindex();
    if has_magic && let Some(header) = packet.place(datagram.payload, BODY_MIN) {
        let id: u8 = header.read(at::LINK);
        // The mask keeps the index in bounds; whether the id itself was, is the validation's to say.
        let link = &links[usize::from(id) & (MAX_LINKS - 1)];
        if is_sent_to(link, datagram) && link.ifindex == ifindex {
            return Some(u64::from(id));
        }
    }
    let is_tagged = datagram.is_tagged || ctx.was_tagged();
    let mut id = 0;
    while id < MAX_LINKS {
        if is_sent_to(&links[id], datagram) && (!is_tagged || links[id].ifindex == ifindex) {
            return Some(NO_LINK);
        }
        id += 1;
    }
    None
}

/// Whether the datagram bears the port and the destination of this link.
#[inline(always)]
fn is_sent_to(link: &LinkConfig, datagram: &Datagram) -> bool {
    if link.port != datagram.port || link.ifindex == 0 {
        return false;
    }
    let [a, b, c, d] = datagram.destination;
    let address = (&raw const link.destination).cast::<[u32; 4]>();
    // SAFETY: sixteen bytes at a multiple of four in a structure aligned to four.
    let [e, f, g, h] = unsafe { core::ptr::read(address) };
    (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
}

/// Validates and records.
#[inline(always)]
fn hear<C: Context>(ctx: &C, scratch: *mut Scratch) -> Result<(), Reject> {
    let frame = PacketFrame::new(ctx, scratch).ok_or(Reject::Length)?;
    // SAFETY: this processor's own memory, from the map.
    let arrival = read_back(unsafe { &raw const (*scratch).arrival });
    let tables = MapTables { config: maps::config().ok_or(Reject::Cluster)? };
    let valid = validate(frame, LinkId::new(arrival as u8), &tables)?;
    keep(frame, &valid, tables.config.incarnation)
}

/// Records a valid frame under its peer's lock, and tells what is new once the lock is free.
#[inline(always)]
fn keep(frame: PacketFrame, valid: &Valid, ours: u64) -> Result<(), Reject> {
    let window = maps::window(valid.node)?;
    let slot: *mut PeerSlot = maps::slot(valid.node)?;
    let stamp = KernelInstant::now();
    let (recorded, counts) = maps::locked(window, |inside| {
        // SAFETY: from the map, and written only under the lock of the window beside it.
        let slot = unsafe { &mut *slot };
        let recorded = record(inside, slot, frame, valid, ours, stamp.0);
        (recorded, ours != 0 && inside.acked == ours)
    });
    match recorded? {
        Recorded::Newest => maps::count(Counter::Accepted.index()),
        Recorded::Copy => {
            maps::count(Counter::Copies.index());
            return Ok(());
        }
        Recorded::News(said) => {
            maps::count(Counter::Accepted.index());
            let node = u32::from(valid.node.raw());
            if maps::tell(News { stamp_ns: stamp.0, node, reserved: 0 }) {
                maps::locked(window, |inside| mark_told(inside, said));
            }
        }
    }
    if counts {
        gate_bar::raise(frame, valid.node);
    }
    Ok(())
}

/// Notes an authentic frame with our own id, and where it came from, under the lock of our own window, which guards
/// nothing else.
#[inline(always)]
fn note_rival<C: Context>(ctx: &C, scratch: *mut Scratch) {
    let Some(frame) = PacketFrame::new(ctx, scratch) else { return };
    let Some(config) = maps::config() else { return };
    let Some(me) = NodeId::new(config.me as u8) else { return };
    let Ok(window) = maps::window(me) else { return };
    let Some(entry) = maps::rival(rival::entry(frame, config.incarnation)) else { return };
    let origin = Origin {
        stamp_ns: KernelInstant::now().0,
        source: source(frame).unwrap_or([0; 4]),
        ifindex: ctx.ifindex(),
    };
    maps::locked(window, |_| {
        // SAFETY: from the map, and written only under this lock.
        let entry = unsafe { &mut *entry };
        rival::note(entry, frame, config.incarnation, &origin);
    });
}

/// The address that the packet came from.
#[inline(always)]
fn source(frame: PacketFrame) -> Option<[u32; 4]> {
    // SAFETY: this processor's own memory, from the map.
    let source = read_back(unsafe { &raw const (*frame.scratch).source });
    let at = source as usize & PAYLOAD_OFFSET_MASK;
    let packet = frame.packet;
    if source & SOURCE_IPV6 == 0 {
        let address = packet.after(packet.first(), at, 4)?;
        return Some([0, 0, u32::from_be(0xffff), address.read(0)]);
    }
    let address = packet.after(packet.first(), at, 16)?;
    Some([address.read(0), address.read(4), address.read(8), address.read(12)])
}

/// The maps as the validation asks for them.
struct MapTables {
    config: &'static ClusterConfig,
}

impl Tables for MapTables {
    type Hasher = KernelHasher;

    #[inline(always)]
    fn config(&self) -> &ClusterConfig {
        self.config
    }

    #[inline(always)]
    fn key(&self, id: u8) -> Option<&KeyState> {
        maps::key(id)
    }

    #[inline(always)]
    fn window(&self, node: NodeId) -> Option<&PeerWindow> {
        let window = maps::window(node).ok()?;
        // SAFETY: from the map; the look reads word by word and checks that nobody wrote meanwhile.
        Some(unsafe { &(*window).window })
    }

    #[inline(always)]
    fn hasher(&self) -> Option<KernelHasher> {
        KernelHasher::new()
    }
}

/// Where the payload starts, read afresh: two pointers made of two readings are two pointers to the verifier.
#[inline(always)]
fn payload(scratch: *const Scratch) -> usize {
    // SAFETY: this processor's own memory, from the map.
    let payload = read_back(unsafe { &raw const (*scratch).payload });
    payload as usize & PAYLOAD_OFFSET_MASK
}

/// Volatile, or the compiler would take what was written for what is read.
#[inline(always)]
fn read_back(field: *const u64) -> u64 {
    // SAFETY: a field of this processor's scratch memory, which was written before.
    unsafe { core::ptr::read_volatile(field) }
}

/// A heartbeat in the packet, at least [`FRAME_MIN`] bytes of it.
#[derive(Clone, Copy)]
struct PacketFrame {
    packet: Packet,
    /// The first [`FRAME_MIN`] bytes, for the plain reads.
    header: Place,
    scratch: *const Scratch,
}

impl PacketFrame {
    #[inline(always)]
    fn new<C: Context>(ctx: &C, scratch: *mut Scratch) -> Option<Self> {
        let packet = Packet::of(ctx);
        let header = packet.after(packet.first(), payload(scratch), FRAME_MIN)?;
        Some(Self { packet, header, scratch })
    }

    /// The place of `len` bytes at any offset, if they are in the packet. The mask is for the verifier, which must know
    /// a bound. It also notes at a pointer how far it was checked: were this made from [`Self::header`], each way out
    /// of a loop of reads would be a state of its own, and all that follows verified once for each.
    #[inline(always)]
    fn find_place(self, at: usize, len: usize) -> Option<Place> {
        self.packet.after(self.packet.first(), payload(self.scratch) + (at & FRAME_OFFSET_MASK), len)
    }

    #[inline(always)]
    fn find<T: Copy>(self, at: usize) -> Option<T> {
        Some(self.find_place(at, size_of::<T>())?.read(0))
    }
}

impl Frame for PacketFrame {
    type Block = Place;

    #[inline(always)]
    fn size(self) -> usize {
        // SAFETY: this processor's own memory, from the map.
        read_back(unsafe { &raw const (*self.scratch).len }) as usize
    }

    #[inline(always)]
    fn byte(self, at: usize) -> u8 {
        self.header.read(at)
    }

    #[inline(always)]
    fn be16(self, at: usize) -> u16 {
        self.header.be16(at)
    }

    #[inline(always)]
    fn be32(self, at: usize) -> u32 {
        u32::from_be(self.header.read(at))
    }

    #[inline(always)]
    fn be64(self, at: usize) -> u64 {
        u64::from_be(self.header.read(at))
    }

    #[inline(always)]
    fn le64(self, at: usize) -> u64 {
        u64::from_le(self.header.read(at))
    }

    #[inline(always)]
    fn find_byte(self, at: usize) -> Option<u8> {
        self.find(at)
    }

    #[inline(always)]
    fn find_be32(self, at: usize) -> Option<u32> {
        self.find(at).map(u32::from_be)
    }

    #[inline(always)]
    fn find_be64(self, at: usize) -> Option<u64> {
        self.find(at).map(u64::from_be)
    }

    #[inline(always)]
    fn block(self, index: usize) -> Option<Place> {
        self.find_place(64 * index, 64)
    }

    #[inline(always)]
    fn block_be32(block: Place, at: usize) -> u32 {
        u32::from_be(block.read(at))
    }

    #[inline(always)]
    fn block_raw64(block: Place, at: usize) -> u64 {
        block.read(at)
    }
}
