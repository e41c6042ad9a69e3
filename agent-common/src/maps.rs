//! The BPF maps: names, capacities and the layout of their values, `repr(C)` and free of implicit padding.
//! The socket path keeps the same slots in ordinary memory, so everything above reads one shape.

use crate::ids::{MAX_GROUPS, MAX_LINKS, MAX_NODES};
use crate::reject::Reject;
use crate::wire::BODY_MAX;

/// Map names, as in the object.
pub mod name {
    /// `Array<ClusterConfig, 1>`, written by the agent.
    pub const CONFIG: &str = "CONFIG";
    /// `Array<LinkTable, 1>`, written by the agent.
    pub const LINKS: &str = "LINKS";
    /// `Array<KeyState, 256>` by key id, written by the agent.
    pub const KEYS: &str = "KEYS";
    /// Spin-locked replay state by node id, the kernel's own.
    pub const WINDOWS: &str = "WINDOWS";
    /// `Array<PeerSlot, MAX_NODES>`, `BPF_F_MMAPABLE`, written by the kernel.
    pub const SLOTS: &str = "SLOTS";
    /// `PerCpuArray<u64, COUNTERS>`, written by the kernel.
    pub const COUNTERS: &str = "COUNTERS";
    /// `RingBuf` of [`super::News`].
    pub const NEWS: &str = "NEWS";
    /// `Array<Rival, RIVALS>`, `BPF_F_MMAPABLE`, written by the kernel.
    pub const RIVAL: &str = "RIVAL";
    /// `Hash<[u8; 16], GateAddress>` by address, IPv4 as ::ffff:a.b.c.d, network order; written by the agent. Pinned.
    pub const GATE_ADDRESSES: &str = "GATE_ADDRESSES";
    /// `Array<Gate, MAX_GROUPS>` by group id, `BPF_F_MMAPABLE`, written by the agent alone. Pinned.
    pub const GATES: &str = "GATES";
    /// `Array<Bar, MAX_GROUPS>` by group id, `BPF_F_MMAPABLE`, written by the kernel alone. Pinned.
    pub const BARS: &str = "BARS";
    /// `PerCpuArray<u64, GATE_DROPS>` by [`super::gate_drops`], written by the kernel. Pinned.
    pub const GATE_DROPS: &str = "GATE_DROPS";
}

/// How many counters there are: one for each [`Reject`], then one for each [`Counter`].
pub const COUNTERS: usize = Reject::COUNT + Counter::COUNT;
/// Size of the news ring in bytes (a power of two and of pages).
pub const NEWS_BYTES: u32 = 64 * 1024;

/// What is counted besides refusals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Counter {
    /// Heartbeats above everything heard before.
    Accepted = 0,
    /// Copies on another link, or reordered: they refresh their link only.
    Copies = 1,
    /// News for userspace.
    News = 2,
    /// News that found the ring full; they are told with the next heartbeat.
    NewsLost = 3,
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// The counter's index in the map.
    #[inline(always)]
    pub const fn index(self) -> usize {
        Reject::COUNT + self as usize
    }
}

/// What the XDP program must know of the cluster. Zeroed (`cluster` and `nodes` 0): every frame passes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct ClusterConfig {
    /// Cluster id in native order.
    pub cluster: u32,
    /// Bit for each configured node, our own included.
    pub nodes: u32,
    /// Our own incarnation; a frame counts only once its incarnation has acked it.
    pub incarnation: u64,
    /// Upper bound of an announced deadtime (initdead), microseconds.
    pub deadtime_max_us: u32,
    /// Our own node id.
    pub me: u32,
}

/// Where frames of one link arrive. `ifindex` 0: the link is not served by XDP.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct LinkConfig {
    /// Interface that carries the XDP program for this link.
    pub ifindex: u32,
    /// UDP destination port in native order.
    pub port: u32,
    /// Destination address that frames of this link bear: own unicast, broadcast or group address;
    /// IPv4 as ::ffff:a.b.c.d, network order.
    pub destination: [u8; 16],
}

/// All links, by link id: one value, so that a foreign datagram costs one lookup to be told apart.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct LinkTable {
    /// The links.
    pub links: [LinkConfig; MAX_LINKS],
}

/// A key as the verifier of a tag needs it: HMAC's two states after the padded key block, and the screen's key.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct KeyState {
    /// SHA-256 state after the block key ^ ipad (RFC 2104).
    pub inner: [u32; 8],
    /// SHA-256 state after the block key ^ opad.
    pub outer: [u32; 8],
    /// SipHash key of the screen, derived from the HMAC key.
    pub screen: [u64; 2],
    /// 1 when the key exists.
    pub valid: u64,
}

/// One (peer, link): only its own verdict, never the node's.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct LinkSlot {
    /// CLOCK_MONOTONIC ns of the newest frame on this link, 0 for never.
    pub stamp_ns: u64,
    /// The highest sequence number heard on this link in this incarnation.
    pub seq: u64,
    /// Frames heard on this link in this incarnation, without duplicates.
    pub frames: u64,
    /// The first sequence number heard on this link in this incarnation (loss = 1 - frames / (seq - first + 1)).
    pub first_seq: u64,
    /// When the frame of `stamp_ns` was sent, ns of the sender's CLOCK_MONOTONIC; 0 for unknown: it was of an earlier
    /// incarnation, whose clock may have been another.
    pub sent_ns: u64,
    /// The interval that the frame of `seq` announces on this link, microseconds. Outlives an incarnation, since it
    /// says something of the path.
    pub keepalive_us: u64,
}

impl LinkSlot {
    /// Nothing heard.
    pub const EMPTY: Self =
        Self { stamp_ns: 0, seq: 0, frames: 0, first_seq: 0, sent_ns: 0, keepalive_us: 0 };
}

/// All that is known of one peer. Written under `generation`: odd while a writer is inside.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PeerSlot {
    /// Sequence lock.
    pub generation: u64,
    /// Newest incarnation heard.
    pub incarnation: u64,
    /// Newest sequence number heard in it, over all links.
    pub seq: u64,
    /// Kernel stamp of that frame, CLOCK_MONOTONIC ns.
    pub heard_ns: u64,
    /// Newest stamp that *counts* (its incarnation has acked our present one), 0 for none in this incarnation.
    pub counts_ns: u64,
    /// 1 once a frame of this incarnation acked our present incarnation.
    pub acked: u64,
    /// Frames that were above everything heard before, ever.
    pub accepted: u64,
    /// By link id.
    pub links: [LinkSlot; MAX_LINKS],
    /// Length of `body`, 0 when nothing was heard.
    pub body_len: u64,
    /// The newest body, tag cut off.
    pub body: [u8; BODY_MAX + 1],
}

/// One record of the ring: what changed. The content is read from the slot.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct News {
    /// Kernel stamp of the frame, CLOCK_MONOTONIC ns.
    pub stamp_ns: u64,
    /// Sender's id.
    pub node: u32,
    /// Zero.
    pub reserved: u32,
}

/// How many entries the map of rivals has: one for frames of [`Rival::ANOTHER`] incarnation than ours, one for frames
/// of [`Rival::OURS`]. So neither can hide the other: what looped back from us is no rival.
pub const RIVALS: usize = 2;

/// The newest authentic frame that carries our own node id, of one kind. Zeroed: none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Rival {
    /// Sequence lock: odd while a writer is inside.
    pub generation: u64,
    /// CLOCK_MONOTONIC ns of its arrival.
    pub stamp_ns: u64,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its sequence number.
    pub seq: u64,
    /// Its send time, ns of its sender's CLOCK_MONOTONIC.
    pub sent_ns: u64,
    /// Frames of this kind, ever.
    pub frames: u64,
    /// Where it came from as words in memory order, IPv4 as ::ffff:a.b.c.d; zeroes when the way of arrival has no
    /// addresses.
    pub source: [u32; 4],
    /// The interface on which it arrived, 0 for unknown.
    pub ifindex: u32,
    /// The link on which it arrived.
    pub link: u32,
}

impl Rival {
    /// The entry for frames of another incarnation than our present one.
    pub const ANOTHER: usize = 0;
    /// The entry for frames of our present incarnation.
    pub const OURS: usize = 1;
}

/// Most addresses behind gates.
pub const GATE_ADDRESSES_MAX: usize = 512;
/// How many counters of gates there are.
pub const GATE_DROPS: usize = 2 * GATE_ADDRESSES_MAX;
/// Changes whenever the meaning of a pinned map does: maps with another number are not read, but replaced.
pub const GATE_ABI: u32 = 1;

/// Behind which group's gate an address is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct GateAddress {
    /// Group id.
    pub group: u32,
    /// Its place among the addresses, below [`GATE_ADDRESSES_MAX`]: what its drops are counted by.
    pub place: u32,
}

/// What the agent says of a gate: open until `expiry_ns`, as long as no bar is above `epoch`. Zeroed: shut.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Gate {
    /// The lease's epoch.
    pub epoch: u64,
    /// CLOCK_MONOTONIC ns.
    pub expiry_ns: u64,
}

impl Gate {
    /// Whether the gate lets packets through at `now_ns`.
    pub const fn is_open(self, bar: u64, now_ns: u64) -> bool {
        self.epoch >= bar && now_ns < self.expiry_ns
    }
}

/// What the kernel says of a gate: the highest epoch at which another node was seen to hold the group. It only rises.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Bar {
    /// That epoch, 0 for none.
    pub epoch: u64,
}

/// Which way a packet went that a gate dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// To the address.
    Ingress = 0,
    /// From the address.
    Egress = 1,
}

/// The counter of an address and a direction in the map of drops.
#[inline(always)]
pub const fn gate_drops(place: u32, direction: Direction) -> u32 {
    2 * place + direction as u32
}

const _: () = {
    assert!(MAX_GROUPS == 64);
    assert!(core::mem::size_of::<GateAddress>() == 8);
    assert!(core::mem::size_of::<Gate>() == 16);
    assert!(core::mem::size_of::<Bar>() == 8);
    assert!(GATE_ADDRESSES_MAX.is_power_of_two());
    assert!(core::mem::size_of::<LinkConfig>() == 24);
    assert!(core::mem::size_of::<KeyState>() == 88);
    assert!(core::mem::size_of::<Rival>() == 72);
    assert!(core::mem::size_of::<PeerSlot>() == 56 + 48 * MAX_LINKS + 8 + 1400);
    assert!(core::mem::size_of::<PeerSlot>().is_multiple_of(8));
    assert!(MAX_NODES == 32);
};

#[cfg(feature = "user")]
mod pod {
    //! Userspace's licence to hand these types to the map syscalls.
    use super::{Bar, ClusterConfig, Gate, GateAddress, KeyState, LinkTable, PeerSlot, Rival};

    // SAFETY: repr(C), integers only, no implicit padding.
    unsafe impl aya::Pod for ClusterConfig {}
    // SAFETY: as above.
    unsafe impl aya::Pod for LinkTable {}
    // SAFETY: as above.
    unsafe impl aya::Pod for KeyState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PeerSlot {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Rival {}
    // SAFETY: as above.
    unsafe impl aya::Pod for GateAddress {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Gate {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Bar {}
}
