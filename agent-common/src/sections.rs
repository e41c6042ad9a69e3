//! Where the sections of a body lie, and the little of them that is needed at every heartbeat: whether the sender has
//! acked our present incarnation, and whom it holds dead. In constant time, whatever the sections hold.

use crate::beat::NAME_MAX;
use crate::frame::Frame;
use crate::ids::{LinkId, MAX_GROUPS};
use crate::reject::Reject;
use crate::wire::{
    ACK_LEN, CLAIM_LEN, DELAY_LEN, ECHO_HEAD_LEN, HEADER_LEN, SECTION_ACKS, SECTION_ECHO, SECTION_NAME,
    SECTION_VIEW, SECTION_VOTES, SECTIONS, TAG_LEN, at,
};

/// What the sections say that must be known before a frame counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inspected {
    /// The incarnation of ours that the sender acks, 0 for none.
    pub acked: u64,
    /// Whom the sender holds dead, and whether it says so at all (bit 32).
    pub view: u64,
}

/// [`Inspected::view`]: the section is there.
pub const VIEW_PRESENT: u64 = 1 << 32;

/// Walks the sections of a frame whose length was accepted; `me` is our own node id.
///
/// # Errors
/// [`Reject::Sections`] when they are unknown or longer than the body.
#[inline(always)]
pub fn inspect<F: Frame>(frame: F, me: u32) -> Result<Inspected, Reject> {
    let sections = frame.byte(at::SECTIONS);
    if sections & !SECTIONS != 0 {
        return Err(Reject::Sections);
    }
    let mut found = Inspected { acked: 0, view: 0 };
    let mut place = HEADER_LEN;
    if sections & SECTION_ACKS != 0 {
        let nodes = frame.be32(HEADER_LEN);
        found.acked = acked(frame, nodes, me)?;
        place += 4 + ACK_LEN * (nodes.count_ones() as usize & 63);
    }
    if sections & SECTION_VIEW != 0 {
        found.view = VIEW_PRESENT | u64::from(frame.find_be32(place).ok_or(Reject::Sections)?);
        place += 4;
    }
    if sections & SECTION_VOTES != 0 {
        let rows = frame.find_byte(place).ok_or(Reject::Sections)? as usize;
        if rows > MAX_GROUPS {
            return Err(Reject::Sections);
        }
        place += 1 + CLAIM_LEN * rows;
    }
    if sections & SECTION_ECHO != 0 {
        let link = frame.find_byte(place).ok_or(Reject::Sections)?;
        let nodes = frame.find_be32(place + 1).ok_or(Reject::Sections)?;
        if LinkId::new(link).is_none() {
            return Err(Reject::Sections);
        }
        place += ECHO_HEAD_LEN + DELAY_LEN * (nodes.count_ones() as usize & 63);
    }
    if sections & SECTION_NAME != 0 {
        let len = frame.find_byte(place).ok_or(Reject::Sections)? as usize;
        if len == 0 || len > NAME_MAX {
            return Err(Reject::Sections);
        }
        place += 1 + len;
    }
    if place > frame.size() - TAG_LEN {
        return Err(Reject::Sections);
    }
    Ok(found)
}

/// Our incarnation in the acks: the rows stand in order of node id, so the set bits below ours count them.
#[inline(always)]
fn acked<F: Frame>(frame: F, nodes: u32, me: u32) -> Result<u64, Reject> {
    let ours = 1u32.wrapping_shl(me);
    if nodes & ours == 0 {
        return Ok(0);
    }
    let row = (nodes & ours.wrapping_sub(1)).count_ones() as usize & 31;
    frame.find_be64(HEADER_LEN + 4 + ACK_LEN * row).ok_or(Reject::Sections)
}
