//! Bars: a heartbeat that counts says which groups its sender holds, and a gate of ours that was opened at a lower
//! epoch is then shut, whatever our agent does or does not do.

use agent_common::{
    NodeId,
    frame::Frame,
    held::{self, Held},
    ids::MAX_GROUPS,
    maps::Bar,
    wire::CLAIM_LEN,
};
use aya_ebpf::{
    bindings::bpf_spin_lock,
    btf_maps,
    helpers::generated,
    macros::{btf_map, map},
    maps::Array,
};

/// `BPF_F_MMAPABLE`: the agent writes gates and reads bars without a syscall.
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// Written here alone. Pinned, as the gates are.
#[map]
pub(crate) static BARS: Array<Bar> = Array::with_max_entries(MAX_GROUPS as u32, MMAPABLE);
/// Guards all bars; apart from them, since a map with a lock cannot be mapped into memory. Two processors would
/// otherwise lower a bar between them, and exchange-and-compare came only with 5.12.
#[btf_map]
static BAR_LOCK: btf_maps::Array<BarLock, 1, 0> = btf_maps::Array::new();

/// The lock in a value, as the helper wants it.
#[repr(C)]
pub(crate) struct BarLock {
    lock: bpf_spin_lock,
    reserved: u32,
}

/// Raises the bars of all groups that `sender` says it holds. Only for a frame that counts.
#[inline(always)]
pub(crate) fn raise<F: Frame>(frame: F, sender: NodeId) {
    let Some(rows) = held::rows(frame) else { return };
    let mut row = 0;
    while row < MAX_GROUPS && row < rows.count {
        if let Some(held) = held::held(frame, rows.at + CLAIM_LEN * row, sender) {
            raise_one(held);
        }
        row += 1;
    }
}

#[inline(always)]
fn raise_one(held: Held) {
    let group = u32::from(held.group.raw());
    let Some(bar) = BARS.get_ptr_mut(group) else { return };
    let Some(guard) = BAR_LOCK.get_ptr_mut(0) else { return };
    // SAFETY: from the map.
    let bar = unsafe { &raw mut (*bar).epoch };
    // SAFETY: from the map; a look, judged again under the lock.
    if unsafe { core::ptr::read_volatile(bar) } >= held.epoch {
        return;
    }
    // SAFETY: from the map.
    let lock = unsafe { &raw mut (*guard).lock };
    // SAFETY: the lock lies in the map's value, as the helper wants it.
    unsafe { generated::bpf_spin_lock(lock) };
    // SAFETY: from the map.
    if unsafe { core::ptr::read_volatile(bar) } < held.epoch {
        // SAFETY: from the map, and written only under the lock.
        unsafe { core::ptr::write_volatile(bar, held.epoch) };
    }
    // SAFETY: taken above.
    unsafe { generated::bpf_spin_unlock(lock) };
}
