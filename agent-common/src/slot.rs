//! Reading a peer's slot while the kernel may be writing it: a sequence lock's read side, with bounded retries.
//! The memory is the mapped array of the object, or the socket path's own.

use core::sync::atomic::{Ordering, fence};

use crate::ids::MAX_LINKS;
use crate::maps::{LinkSlot, PeerSlot};
use crate::wire::BODY_MAX;

/// How often a read is tried again before it gives up. A writer is inside for well under a microsecond, so this many
/// in a row mean that the memory is not what it should be.
pub const READ_TRIES: u32 = 1000;

/// A slot without the body: all that liveness needs, in five cache lines.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct SlotHead {
    /// Sequence lock, even.
    pub generation: u64,
    /// [`PeerSlot::incarnation`].
    pub incarnation: u64,
    /// [`PeerSlot::seq`].
    pub seq: u64,
    /// [`PeerSlot::heard_ns`].
    pub heard_ns: u64,
    /// [`PeerSlot::counts_ns`].
    pub counts_ns: u64,
    /// [`PeerSlot::acked`].
    pub acked: u64,
    /// [`PeerSlot::accepted`].
    pub accepted: u64,
    /// [`PeerSlot::links`].
    pub links: [LinkSlot; MAX_LINKS],
    /// [`PeerSlot::body_len`].
    pub body_len: u64,
}

impl PeerSlot {
    /// Nothing heard.
    pub const EMPTY: Self = Self {
        generation: 0,
        incarnation: 0,
        seq: 0,
        heard_ns: 0,
        counts_ns: 0,
        acked: 0,
        accepted: 0,
        links: [LinkSlot::EMPTY; MAX_LINKS],
        body_len: 0,
        body: [0; BODY_MAX + 1],
    };

    /// The newest body, empty when nothing was heard.
    pub fn body(&self) -> &[u8] {
        self.body.get(..self.body_len as usize).unwrap_or(&[])
    }
}

impl Default for PeerSlot {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Copies the whole slot into `out`: stamps and body belong together. `None`, with `out` in an unusable mixture, when a
/// writer was inside at every try.
///
/// # Safety
/// `slot` points to a slot, aligned to eight, that is readable for the whole call; others may write it meanwhile.
pub unsafe fn read_slot(slot: *const PeerSlot, out: &mut PeerSlot) -> Option<()> {
    let copy = |to: *mut u64| {
        // SAFETY: the caller's promise; both sides are as long as a head.
        unsafe { copy_words(slot.cast(), to, HEAD_WORDS) };
        // SAFETY: the head's last word, `body_len`, is within it.
        let body_len = unsafe { to.add(HEAD_WORDS - 1) };
        // SAFETY: it was just written.
        let body_len = unsafe { body_len.read() };
        let words = (body_len as usize).min(BODY_MAX).div_ceil(8);
        // SAFETY: the body follows the head.
        let from = unsafe { slot.cast::<u64>().add(HEAD_WORDS) };
        // SAFETY: as above.
        let to = unsafe { to.add(HEAD_WORDS) };
        // SAFETY: the length was bounded to the body's.
        unsafe { copy_words(from, to, words) };
    };
    // SAFETY: the caller's promise.
    unsafe { read_steady(slot.cast(), || copy((&raw mut *out).cast())) }
}

/// Copies the slot without its body.
///
/// # Safety
/// As [`read_slot`].
pub unsafe fn read_head(slot: *const PeerSlot) -> Option<SlotHead> {
    let mut head = SlotHead::default();
    let to = (&raw mut head).cast();
    // SAFETY: the caller's promise; a head is as long on both sides.
    let copy = || unsafe { copy_words(slot.cast(), to, HEAD_WORDS) };
    // SAFETY: the caller's promise.
    unsafe { read_steady(slot.cast(), copy) }?;
    Some(head)
}

/// Runs `copy` until no writer was inside meanwhile.
///
/// # Safety
/// `generation` is readable and aligned.
pub(crate) unsafe fn read_steady(generation: *const u64, mut copy: impl FnMut()) -> Option<()> {
    for _ in 0..READ_TRIES {
        // SAFETY: the caller's promise.
        let before = unsafe { generation.read_volatile() };
        fence(Ordering::Acquire);
        if before & 1 == 0 {
            copy();
            fence(Ordering::Acquire);
            // SAFETY: the caller's promise.
            if before == unsafe { generation.read_volatile() } {
                return Some(());
            }
        }
        core::hint::spin_loop();
    }
    None
}

/// # Safety
/// Both sides are valid for `words` words and aligned.
pub(crate) unsafe fn copy_words(from: *const u64, to: *mut u64, words: usize) {
    for i in 0..words {
        // SAFETY: the caller's promise.
        let source = unsafe { from.add(i) };
        // SAFETY: the caller's promise; volatile, since a writer may be inside.
        let word = unsafe { source.read_volatile() };
        // SAFETY: the caller's promise.
        let target = unsafe { to.add(i) };
        // SAFETY: the caller's promise.
        unsafe { target.write(word) };
    }
}

const HEAD_WORDS: usize = size_of::<SlotHead>() / 8;
const _: () = assert!(core::mem::offset_of!(PeerSlot, body) == size_of::<SlotHead>());

#[cfg(test)]
mod tests {
    use super::{PeerSlot, read_head, read_slot};

    #[test]
    fn a_steady_slot_is_copied() {
        let mut slot = PeerSlot { generation: 2, seq: 7, body_len: 119, ..PeerSlot::EMPTY };
        slot.body[118] = 9;
        let mut out = PeerSlot::EMPTY;
        // SAFETY: a reference is readable and aligned.
        assert!(unsafe { read_slot(&slot, &mut out) }.is_some());
        assert_eq!((out.seq, out.body()[118], out.body().len()), (7, 9, 119));
        // SAFETY: as above.
        assert_eq!(unsafe { read_head(&slot) }.map(|head| head.seq), Some(7));
    }

    #[test]
    fn a_writer_that_never_leaves_is_given_up() {
        let slot = PeerSlot { generation: 1, ..PeerSlot::EMPTY };
        // SAFETY: a reference is readable and aligned.
        assert!(unsafe { read_head(&slot) }.is_none());
    }
}
