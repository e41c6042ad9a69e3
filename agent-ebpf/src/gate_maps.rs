//! The maps of the gate. They are pinned, so that what they say outlives the agent and is found by the next one.
//! As in the other maps, a lookup by an index within the array's size cannot fail.

use agent_common::{
    ids::MAX_GROUPS,
    maps::{Direction, GATE_ADDRESSES_MAX, GATE_DROPS as DROPS_COUNT, Gate, GateAddress, gate_drops},
};
use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};

use crate::{
    gate_bar::{BARS, MMAPABLE},
    parse::Place,
};

#[map]
static GATE_ADDRESSES: HashMap<Address, GateAddress> =
    HashMap::with_max_entries(GATE_ADDRESSES_MAX as u32, 0);
#[map]
static GATES: Array<Gate> = Array::with_max_entries(MAX_GROUPS as u32, MMAPABLE);
#[map]
static GATE_DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DROPS_COUNT as u32, 0);
/// An address as words in memory order, IPv4 as ::ffff:a.b.c.d.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Address([u32; 4]);

impl Address {
    /// Of four bytes in memory order.
    #[inline(always)]
    pub(crate) fn v4(address: u32) -> Self {
        Self([0, 0, u32::from_be(0xffff), address])
    }

    /// Of the sixteen bytes at `at`.
    #[inline(always)]
    pub(crate) fn v6(place: Place, at: usize) -> Self {
        Self([place.read(at), place.read(at + 4), place.read(at + 8), place.read(at + 12)])
    }
}

/// Behind which gate an address is, if behind any.
#[inline(always)]
pub(crate) fn address(address: &Address) -> Option<GateAddress> {
    let found = GATE_ADDRESSES.get_ptr(address)?;
    // SAFETY: from the map, and written once, before the program is attached.
    Some(unsafe { core::ptr::read_volatile(found) })
}

/// What the agent says of the group's gate; shut while it says another thing. See the agent's side for the order in
/// which it writes.
#[inline(always)]
pub(crate) fn gate(group: u32) -> Option<Gate> {
    let gate = GATES.get_ptr(group)?;
    // SAFETY: from the map.
    let epoch = unsafe { &raw const (*gate).epoch };
    // SAFETY: from the map.
    let expiry_ns = unsafe { &raw const (*gate).expiry_ns };
    // SAFETY: from the map; volatile, since the agent writes it meanwhile. So below.
    let before = unsafe { core::ptr::read_volatile(epoch) };
    // SAFETY: as above.
    let expiry_ns = unsafe { core::ptr::read_volatile(expiry_ns) };
    // SAFETY: as above.
    let after = unsafe { core::ptr::read_volatile(epoch) };
    Some(Gate { epoch: after, expiry_ns: if before == after { expiry_ns } else { 0 } })
}

/// The group's bar.
#[inline(always)]
pub(crate) fn bar(group: u32) -> Option<u64> {
    let bar = BARS.get_ptr(group)?;
    // SAFETY: from the map.
    let epoch = unsafe { &raw const (*bar).epoch };
    // SAFETY: from the map; volatile, since another processor may raise it meanwhile.
    Some(unsafe { core::ptr::read_volatile(epoch) })
}

/// Counts a packet that a gate dropped.
#[inline(always)]
pub(crate) fn count(place: u32, direction: Direction) {
    if let Some(counter) = GATE_DROPS.get_ptr_mut(gate_drops(place, direction)) {
        // SAFETY: this processor's own value, and each direction has its own counter.
        unsafe { *counter += 1 };
    }
}
