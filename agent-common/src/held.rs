//! The rows of the table of votes in which a sender says that it holds a group: what raises a bar in the kernel.
//! Row by row, from the frame itself, so that the XDP program can read them.

use crate::beat::Claim;
use crate::frame::Frame;
use crate::ids::{GroupId, NodeId};
use crate::wire::{ACK_LEN, CLAIM_LEN, HEADER_LEN, SECTION_ACKS, SECTION_VIEW, SECTION_VOTES, at};

/// The table in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rows {
    /// Where the first row is.
    pub at: usize,
    /// How many there are: the validation has seen that it is at most [`crate::ids::MAX_GROUPS`], but this is read
    /// afresh, so that a loop over the rows keeps the constant bound which an old verifier wants to see.
    pub count: usize,
}

/// One group that the sender holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Which.
    pub group: GroupId,
    /// At which epoch.
    pub epoch: u64,
}

/// Where the table of a validated frame is; `None` when it has none.
#[inline(always)]
pub fn rows<F: Frame>(frame: F) -> Option<Rows> {
    let sections = frame.byte(at::SECTIONS);
    if sections & SECTION_VOTES == 0 {
        return None;
    }
    let mut place = HEADER_LEN;
    if sections & SECTION_ACKS != 0 {
        place += 4 + ACK_LEN * (frame.be32(HEADER_LEN).count_ones() as usize & 63);
    }
    if sections & SECTION_VIEW != 0 {
        place += 4;
    }
    let count = frame.find_byte(place)? as usize;
    Some(Rows { at: place + 1, count })
}

/// What the row at `at` says, if it says that `sender` holds a group. There are no other claims to hold.
#[inline(always)]
pub fn held<F: Frame>(frame: F, at: usize, sender: NodeId) -> Option<Held> {
    // Group, flags, candidate, and the epoch's upper five bytes.
    let head = frame.find_be64(at)?;
    let flags = (head >> 48) as u8;
    let candidate = (head >> 40) as u8;
    if flags & Claim::HELD == 0 || candidate != sender.raw() {
        return None;
    }
    // The epoch's lower four bytes, one of them read above.
    let tail = u64::from(frame.find_be32(at + CLAIM_LEN - 4)?);
    let epoch = (head & 0xff_ffff_ffff) << 24 | tail & 0xff_ffff;
    Some(Held { group: GroupId::new((head >> 56) as u8)?, epoch })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{Held, held, rows};
    use crate::beat::{Ack, Beat, Claim};
    use crate::frame::SliceFrame;
    use crate::ids::{GroupId, KeyId, LinkId, NodeId, NodeSet};
    use crate::maps::KeyState;
    use crate::wire::{CLAIM_LEN, FRAME_MAX, encode};

    fn found(beat: &Beat) -> Option<Vec<Held>> {
        let mut out = [0; FRAME_MAX];
        let (link, key) = (LinkId::FIRST, KeyId::new(1).unwrap());
        let len = encode(beat, link, 1, 7, key, &KeyState::default(), &mut out);
        let frame = SliceFrame(&out[..len]);
        let table = rows(frame)?;
        let each = (0..table.count).map(|row| held(frame, table.at + CLAIM_LEN * row, beat.node));
        Some(each.flatten().collect())
    }

    #[test]
    fn only_what_the_sender_holds_is_found_wherever_the_table_stands() {
        let me = NodeId::new(2).unwrap();
        let mut beat = Beat::empty(me);
        assert_eq!(found(&beat), None);
        beat.has_claims = true;
        assert_eq!(found(&beat), Some(Vec::new()));
        let epoch = 0x0102_0304_0506_0702;
        let claim = |candidate, flags| Claim { epoch, candidate, flags };
        beat.claims[0] = claim(2, 0);
        beat.claims[3] = claim(2, Claim::HELD);
        beat.claims[4] = claim(1, 0);
        beat.claims[5] = claim(1, Claim::HELD);
        beat.claims[6] = claim(2, Claim::WANT);
        beat.claims[63] = claim(2, Claim::HELD | Claim::WANT);
        let held = |group| Held { group: GroupId::new(group).unwrap(), epoch };
        let expected = Some(Vec::from([held(3), held(63)]));
        assert_eq!(found(&beat), expected);
        beat.view = Some(NodeSet::EMPTY);
        assert_eq!(found(&beat), expected);
        for node in [0, 1, 31] {
            beat.acked.insert(NodeId::new(node).unwrap());
            beat.acks[usize::from(node)] = Ack { incarnation: u64::MAX, seq: u64::MAX, table: u32::MAX };
            assert_eq!(found(&beat), expected);
        }
    }
}
