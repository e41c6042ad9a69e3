//! The kernel's slots in this process's memory: reading one costs no system call.
//! The kernel writes meanwhile; a sequence lock tells a mixture from a whole slot.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use agent_common::NodeId;
use agent_common::ids::MAX_NODES;
use agent_common::maps::PeerSlot;
use agent_common::slot::read_slot;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

const LENGTH: usize = size_of::<[PeerSlot; MAX_NODES]>();

/// The mapping of the map `SLOTS`, read-only.
pub struct MappedSlots {
    base: NonNull<PeerSlot>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only read.
unsafe impl Send for MappedSlots {}

impl MappedSlots {
    /// Maps the slots of the BPF map behind `map`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(map: impl AsFd) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(LENGTH).ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
        let base = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { base: base.cast() })
    }

    /// The slot's sequence lock: unchanged means that the slot is.
    pub fn generation(&self, node: NodeId) -> u64 {
        // SAFETY: a node's index is below MAX_NODES, the length of the mapping.
        let slot = unsafe { self.base.as_ptr().add(node.index()) };
        // SAFETY: the slot lies in the mapping.
        let generation = unsafe { &raw const (*slot).generation };
        // SAFETY: aligned and mapped; volatile, since the kernel writes it.
        unsafe { generation.read_volatile() }
    }

    /// Copies the slot; false, with `out` unusable, when the kernel was writing at every try.
    pub fn read(&self, node: NodeId, out: &mut PeerSlot) -> bool {
        // SAFETY: a node's index is below MAX_NODES, the length of the mapping.
        let slot = unsafe { self.base.as_ptr().add(node.index()) };
        // SAFETY: mapped as long as `self` lives, and page-aligned memory aligns every slot to eight.
        unsafe { read_slot(slot, out) }.is_some()
    }
}

impl Drop for MappedSlots {
    fn drop(&mut self) {
        // SAFETY: mapped with this length by `new`, and nothing borrows from it.
        let _ = unsafe { munmap(self.base.cast(), LENGTH) };
    }
}
