//! The maps of the object, and the only code that turns their pointers into references.
//! A lookup in an array by an index within its size cannot fail; where it does all the same, the frame is not ours.

use agent_common::{
    Reject,
    ids::{MAX_LINKS, MAX_NODES, NodeId},
    maps::{
        COUNTERS as COUNTER_COUNT, ClusterConfig, Counter, KeyState, LinkConfig, LinkTable, NEWS_BYTES, News,
        PeerSlot, RIVALS, Rival,
    },
    sha256::Work,
    window::PeerWindow,
};
use aya_ebpf::{
    bindings::bpf_spin_lock,
    btf_maps,
    helpers::generated,
    macros::{btf_map, map},
    maps::{Array, PerCpuArray, RingBuf},
};

/// `BPF_F_MMAPABLE`: userspace reads the slots without a syscall.
const MMAPABLE: u32 = 1 << 10;

#[map]
static CONFIG: Array<ClusterConfig> = Array::with_max_entries(1, 0);
#[map]
static LINKS: Array<LinkTable> = Array::with_max_entries(1, 0);
#[map]
static KEYS: Array<KeyState> = Array::with_max_entries(256, 0);
/// A lock wants BTF, and a map with a lock cannot be mapped into memory: so the slots are a map of their own.
#[btf_map]
static WINDOWS: btf_maps::Array<LockedWindow, MAX_NODES, 0> = btf_maps::Array::new();
#[map]
static SLOTS: Array<PeerSlot> = Array::with_max_entries(MAX_NODES as u32, MMAPABLE);
#[map]
static RIVAL: Array<Rival> = Array::with_max_entries(RIVALS as u32, MMAPABLE);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT as u32, 0);
#[map]
static NEWS: RingBuf = RingBuf::with_byte_size(NEWS_BYTES, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// A hash in progress, out of the stack so that [`crate::digest`] needs no arguments.
#[map]
static HASH: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// A peer's window and the lock that guards it and the peer's slot.
#[repr(C)]
pub(crate) struct LockedWindow {
    lock: bpf_spin_lock,
    reserved: u32,
    pub(crate) window: PeerWindow,
}

/// Where the frame lies, told by way of memory. What the verifier reads from a map it knows nothing of, so all the
/// shapes of headers become one state, and the validation is verified once and not once for each.
#[repr(C)]
pub(crate) struct Scratch {
    /// Offset of the payload from the start of the packet.
    pub(crate) payload: u64,
    /// Bytes of the payload.
    pub(crate) len: u64,
    /// The link where it arrived, [`NO_LINK`] for none.
    pub(crate) arrival: u64,
    /// Offset of the source address, and of which family it is.
    pub(crate) source: u64,
}

/// [`Scratch::arrival`] of a frame that is for us, but not for the link where it arrived.
pub(crate) const NO_LINK: u64 = 0xff;

/// The cluster's settings.
#[inline(always)]
pub(crate) fn config() -> Option<&'static ClusterConfig> {
    CONFIG.get(0)
}

/// Where frames of each link arrive.
#[inline(always)]
pub(crate) fn links() -> Option<&'static [LinkConfig; MAX_LINKS]> {
    LINKS.get(0).map(|table| &table.links)
}

/// A key's states; `valid` tells whether it exists.
#[inline(always)]
pub(crate) fn key(id: u8) -> Option<&'static KeyState> {
    KEYS.get(u32::from(id))
}

/// A node's window and lock.
#[inline(always)]
pub(crate) fn window(node: NodeId) -> Result<*mut LockedWindow, Reject> {
    WINDOWS.get_ptr_mut(u32::from(node.raw())).ok_or(Reject::Node)
}

/// A node's slot.
#[inline(always)]
pub(crate) fn slot(node: NodeId) -> Result<*mut PeerSlot, Reject> {
    SLOTS.get_ptr_mut(u32::from(node.raw())).ok_or(Reject::Node)
}

/// The newest frame with our own id, of either kind.
#[inline(always)]
pub(crate) fn rival(kind: usize) -> Option<*mut Rival> {
    RIVAL.get_ptr_mut(kind as u32)
}

/// This processor's scratch memory.
#[inline(always)]
pub(crate) fn scratch() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

/// This processor's hash in progress.
#[inline(always)]
pub(crate) fn hash() -> Option<*mut Work> {
    HASH.get_ptr_mut(0)
}

/// Runs `inside` alone with a window. `inside` must neither call nor loop without a bound that the verifier sees.
#[inline(always)]
pub(crate) fn locked<T>(window: *mut LockedWindow, inside: impl FnOnce(&mut PeerWindow) -> T) -> T {
    // SAFETY: the pointer came from the map, so it is valid as long as the program runs.
    let lock = unsafe { &raw mut (*window).lock };
    // SAFETY: the lock lies in the map's value, as the helper wants it.
    unsafe { generated::bpf_spin_lock(lock) };
    // SAFETY: as above, and the lock makes it the only reference that writes.
    let result = inside(unsafe { &mut (*window).window });
    // SAFETY: taken above.
    unsafe { generated::bpf_spin_unlock(lock) };
    result
}

/// Adds one to a counter; each processor has its own.
#[inline(always)]
pub(crate) fn count(index: usize) {
    if let Some(counter) = COUNTERS.get_ptr_mut(index as u32) {
        // SAFETY: this processor's own value, and no other XDP program runs on it meanwhile.
        unsafe { *counter += 1 };
    }
}

/// Tells userspace. False when the ring is full; both outcomes are counted.
#[inline(always)]
pub(crate) fn tell(news: News) -> bool {
    let Some(mut record) = NEWS.reserve::<News>(0) else {
        count(Counter::NewsLost.index());
        return false;
    };
    record.write(news);
    record.submit(0);
    count(Counter::News.index());
    true
}
