//! What is remembered of a peer to tell new heartbeats from copies, reordering and replays, and the one place where a
//! valid frame changes anything. The kernel runs it inside a spin lock, the socket path on its own memory.
//!
//! Every access is one volatile load or store: the XDP program looks at the window without the lock, userspace reads
//! the slot while it is written, and no access may move across a lock or be turned into a call.

use crate::frame::Frame;
use crate::ids::{MAX_LINKS, MAX_NODES};
use crate::maps::PeerSlot;
use crate::reject::Reject;
use crate::validate::Valid;
use crate::wire::{BODY_MAX, EXTRA_BLOCKS_MAX, TAG_LEN, at};

/// How far below the highest sequence number of a link a frame may arrive late.
pub const WINDOW: u64 = 64;

/// The windows of all peers, by node id.
pub type Windows = [PeerWindow; MAX_NODES];
/// The slots of all peers, by node id.
pub type Slots = [PeerSlot; MAX_NODES];

/// The replay state of one peer. Zeroed: nothing heard.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct PeerWindow {
    /// Sequence lock for the look without the lock: odd while a writer is inside.
    pub generation: u64,
    /// Newest incarnation heard, 0 for none.
    pub incarnation: u64,
    /// Highest sequence number heard in it, over all links.
    pub top: u64,
    /// The newest incarnation of ours that this incarnation acked, 0 for none.
    pub acked: u64,
    /// What userspace was last told of.
    pub told: Said,
    /// By link id.
    pub links: [LinkWindow; MAX_LINKS],
}

/// The replay window of one link.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct LinkWindow {
    /// Highest sequence number heard on this link in the peer's incarnation.
    pub top: u64,
    /// Bit n: `top - n` was heard.
    pub bits: u64,
}

/// All in a heartbeat whose change is news.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Said {
    /// Incarnation.
    pub incarnation: u64,
    /// State, flags, vote number, whether our present incarnation is acked.
    pub life: u64,
    /// Announced deadtime and version of the votes.
    pub terms: u64,
    /// [`crate::sections::Inspected::view`].
    pub view: u64,
}

/// What a frame that changed something was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// Above everything heard from this node, and it says what was said before.
    Newest,
    /// The same, and what it says must be told; [`mark_told`] once it was.
    News(Said),
    /// A copy on a second link, or late: only its link was refreshed.
    Copy,
}

/// A look without the lock: refuses what is certainly old. What it lets through is judged again by [`record`].
///
/// # Errors
/// [`Reject::Incarnation`], [`Reject::TooOld`], [`Reject::Duplicate`].
#[inline(always)]
pub fn look<F: Frame>(window: &PeerWindow, frame: F) -> Result<(), Reject> {
    let before = get(&window.generation);
    let incarnation = get(&window.incarnation);
    let link = &window.links[link_index(frame)];
    let (top, bits) = (get(&link.top), get(&link.bits));
    if before & 1 != 0 || before != get(&window.generation) {
        return Ok(());
    }
    judge(incarnation, top, bits, frame)
}

/// The order of (incarnation, sequence number) against one link's window.
#[inline(always)]
fn judge<F: Frame>(known: u64, top: u64, bits: u64, frame: F) -> Result<(), Reject> {
    let incarnation = frame.be64(at::INCARNATION);
    let seq = frame.be64(at::SEQ);
    if incarnation < known || incarnation == 0 {
        return Err(Reject::Incarnation);
    }
    if seq == 0 {
        return Err(Reject::TooOld);
    }
    if incarnation > known || seq > top {
        return Ok(());
    }
    let age = top - seq;
    if age >= WINDOW {
        return Err(Reject::TooOld);
    }
    if bits >> (age & (WINDOW - 1)) & 1 != 0 {
        return Err(Reject::Duplicate);
    }
    Ok(())
}

/// Judges an authentic frame once more, now alone with the window, and if it stands changes window and slot.
/// `ours` is our present incarnation, `stamp_ns` when the frame arrived.
///
/// # Errors
/// [`Reject::Incarnation`], [`Reject::TooOld`], [`Reject::Duplicate`]; nothing is changed then.
#[inline(always)]
pub fn record<F: Frame>(
    window: &mut PeerWindow,
    slot: &mut PeerSlot,
    frame: F,
    valid: &Valid,
    ours: u64,
    stamp_ns: u64,
) -> Result<Recorded, Reject> {
    let link = link_index(frame);
    judge(get(&window.incarnation), get(&window.links[link].top), get(&window.links[link].bits), frame)?;

    let inside = get(&window.generation) | 1;
    put(&mut window.generation, inside);
    let slot_inside = get(&slot.generation) | 1;
    put(&mut slot.generation, slot_inside);
    store_barrier();

    if frame.be64(at::INCARNATION) > get(&window.incarnation) {
        forget(window, slot, frame.be64(at::INCARNATION));
    }
    record_link(window, slot, frame, stamp_ns);
    let recorded = if frame.be64(at::SEQ) > get(&window.top) {
        record_newest(window, slot, frame, valid, ours, stamp_ns)
    } else {
        Recorded::Copy
    };

    store_barrier();
    put(&mut slot.generation, slot_inside.wrapping_add(1));
    put(&mut window.generation, inside.wrapping_add(1));
    Ok(recorded)
}

/// Notes that userspace has been told. What was not told is found again with the next heartbeat.
#[inline(always)]
pub fn mark_told(window: &mut PeerWindow, said: Said) {
    put(&mut window.told.incarnation, said.incarnation);
    put(&mut window.told.life, said.life);
    put(&mut window.told.terms, said.terms);
    put(&mut window.told.view, said.view);
}

/// A higher incarnation has lost its memory: nothing known of the lower one holds. When the links were last heard
/// stays, since it says something of the path and not of the node.
#[inline(always)]
fn forget(window: &mut PeerWindow, slot: &mut PeerSlot, incarnation: u64) {
    put(&mut window.incarnation, incarnation);
    put(&mut window.top, 0);
    put(&mut window.acked, 0);
    for (heard, shown) in window.links.iter_mut().zip(slot.links.iter_mut()) {
        put(&mut heard.top, 0);
        put(&mut heard.bits, 0);
        put(&mut shown.seq, 0);
        put(&mut shown.frames, 0);
        put(&mut shown.first_seq, 0);
        put(&mut shown.sent_ns, 0);
    }
}

/// This link heard this number.
#[inline(always)]
fn record_link<F: Frame>(window: &mut PeerWindow, slot: &mut PeerSlot, frame: F, stamp_ns: u64) {
    let seq = frame.be64(at::SEQ);
    let heard = &mut window.links[link_index(frame)];
    let top = get(&heard.top);
    let bits = get(&heard.bits);
    if seq > top {
        let ahead = seq - top;
        put(&mut heard.bits, if ahead >= WINDOW { 1 } else { bits << (ahead & (WINDOW - 1)) | 1 });
        put(&mut heard.top, seq);
    } else {
        put(&mut heard.bits, bits | 1 << ((top - seq) & (WINDOW - 1)));
    }

    let shown = &mut slot.links[link_index(frame)];
    if stamp_ns > get(&shown.stamp_ns) {
        // Together: their difference is what the round trip is made of.
        put(&mut shown.stamp_ns, stamp_ns);
        put(&mut shown.sent_ns, frame.be64(at::SENT));
    }
    if seq > get(&shown.seq) {
        put(&mut shown.seq, seq);
        put(&mut shown.keepalive_us, u64::from(frame.be32(at::KEEPALIVE)));
    }
    let frames = get(&shown.frames);
    if frames == 0 || seq < get(&shown.first_seq) {
        put(&mut shown.first_seq, seq);
    }
    put(&mut shown.frames, frames.wrapping_add(1));
}

/// Above everything heard before, over all links: it counts, provided that our present incarnation was acked.
#[inline(always)]
fn record_newest<F: Frame>(
    window: &mut PeerWindow,
    slot: &mut PeerSlot,
    frame: F,
    valid: &Valid,
    ours: u64,
    stamp_ns: u64,
) -> Recorded {
    let incarnation = frame.be64(at::INCARNATION);
    let seq = frame.be64(at::SEQ);
    put(&mut window.top, seq);
    if valid.acked == ours {
        put(&mut window.acked, ours);
    }
    let acked = ours != 0 && get(&window.acked) == ours;

    // Two processors may have stamped in one order and come here in the other: time never goes back in a slot.
    let stamp_ns = if stamp_ns > get(&slot.heard_ns) { stamp_ns } else { get(&slot.heard_ns) };
    put(&mut slot.incarnation, incarnation);
    put(&mut slot.seq, seq);
    put(&mut slot.heard_ns, stamp_ns);
    put(&mut slot.counts_ns, if acked { stamp_ns } else { 0 });
    put(&mut slot.acked, u64::from(acked));
    let accepted = get(&slot.accepted).wrapping_add(1);
    put(&mut slot.accepted, accepted);
    record_body(slot, frame);

    let said = said(frame, valid.view, acked);
    if said == told(window) { Recorded::Newest } else { Recorded::News(said) }
}

/// The body, block by block. It ends 55 bytes into its last block, one byte before a word does: that byte, the tag's
/// first, is blanked.
#[inline(always)]
fn record_body<F: Frame>(slot: &mut PeerSlot, frame: F) {
    let body_len = (frame.size() - TAG_LEN) as u64;
    put(&mut slot.body_len, body_len);
    let last = body_len / 64;
    let mut index = 0;
    loop {
        let Some(block) = frame.block(index as usize) else { return };
        let first = 8 * index as usize;
        let mut i = 0;
        while i < 6 {
            put_body(slot, first + i, F::block_raw64(block, 8 * i));
            i += 1;
        }
        let word = F::block_raw64(block, 48);
        if index == last || index == EXTRA_BLOCKS_MAX as u64 {
            put_body(slot, first + 6, word & u64::from_be(!0xff));
            return;
        }
        put_body(slot, first + 6, word);
        put_body(slot, first + 7, F::block_raw64(block, 56));
        index += 1;
    }
}

#[inline(always)]
fn put_body(slot: &mut PeerSlot, word: usize, value: u64) {
    let body = (&raw mut slot.body).cast::<u64>();
    // SAFETY: the last block's last word is the body's (asserted below), and what comes after it is not written.
    let place = unsafe { body.add(word) };
    // SAFETY: the body starts at a multiple of eight in a structure that is aligned to eight (asserted below).
    unsafe { core::ptr::write_volatile(place, value) }
}

#[inline(always)]
fn said<F: Frame>(frame: F, view: u64, acked: bool) -> Said {
    let state = u64::from(frame.byte(at::STATE));
    let flags = u64::from(frame.byte(at::FLAGS));
    let vote_number = u64::from(frame.be16(at::VOTE_NUMBER));
    Said {
        incarnation: frame.be64(at::INCARNATION),
        life: state | flags << 8 | vote_number << 16 | u64::from(acked) << 32,
        terms: u64::from(frame.be32(at::DEADTIME)) << 32 | u64::from(frame.be32(at::VOTES_VERSION)),
        view,
    }
}

#[inline(always)]
fn told(window: &PeerWindow) -> Said {
    Said {
        incarnation: get(&window.told.incarnation),
        life: get(&window.told.life),
        terms: get(&window.told.terms),
        view: get(&window.told.view),
    }
}

/// The frame's link as an index, read afresh and masked where it is used: an old verifier forgets the bound of a
/// value that went through the stack.
#[inline(always)]
fn link_index<F: Frame>(frame: F) -> usize {
    frame.byte(at::LINK) as usize & (MAX_LINKS - 1)
}

/// Between the sequence lock and what it guards, for a reader on another processor: what was stored before is seen
/// before what is stored after. x86 orders stores by itself. BPF has no such instruction before 6.15 (load-acquire and
/// store-release), so the kernel's side lacks it: docs/safety.md says what arm64 needs.
#[inline(always)]
fn store_barrier() {
    #[cfg(not(target_arch = "bpf"))]
    core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
}

#[inline(always)]
fn get(field: &u64) -> u64 {
    // SAFETY: a reference: aligned and initialised.
    unsafe { core::ptr::read_volatile(field) }
}

#[inline(always)]
fn put(field: &mut u64, value: u64) {
    // SAFETY: an exclusive reference: aligned, and no other reference to it lives.
    unsafe { core::ptr::write_volatile(field, value) }
}

const _: () = {
    assert!(MAX_LINKS.is_power_of_two());
    assert!(8 * (8 * EXTRA_BLOCKS_MAX + 6) + 8 == BODY_MAX + 1);
    assert!(core::mem::offset_of!(PeerSlot, body).is_multiple_of(8));
    assert!(core::mem::align_of::<PeerSlot>() == 8);
};
