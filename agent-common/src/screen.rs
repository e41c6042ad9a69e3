//! The keyed screen: SipHash-1-3 (Aumasson and Bernstein, 2012), at a twentieth of the digest's cost. It refuses a flood by
//! whoever has no key before any SHA-256 is computed; it authenticates nothing by itself.
//!
//! It has two halves. The first covers the header and the length, so what is made up is refused at the same cost however
//! long it is. The second covers all the rest, the tag too: a header that was captured, and that was not heard yet, is
//! good for nothing else than the frame that it came with.

use crate::frame::Frame;
use crate::reject::Reject;
use crate::wire::{EXTRA_BLOCKS_MAX, HEADER_LEN, SCREENED_LEN, TAG_LEN};

/// Bytes that the first half covers: the header before the screen, and the length as two bytes, little-endian.
const HEAD_LEN: usize = SCREENED_LEN + 2;
/// The last word of the first half but for what is of the frame: the length of the message, as SipHash ends with.
const HEAD_END: u64 = (HEAD_LEN as u64) << 56;
/// Bytes of a frame beyond its last whole block.
const TAIL_LEN: usize = 7;

/// What a frame's screen must be, both halves, the first in the lower 32 bits.
///
/// # Errors
/// [`Reject::Length`] when the frame has not the length that it says.
pub fn screen<F: Frame>(key: [u64; 2], frame: F) -> Result<u64, Reject> {
    let head = Head::of(key, frame);
    Ok(u64::from(head.screen()) | u64::from(head.whole(frame)?) << 32)
}

/// The header and the length, absorbed.
#[derive(Clone, Copy)]
pub(crate) struct Head(State);

impl Head {
    /// SipHash-1-3 of the header before the screen and the length of the frame.
    #[inline(always)]
    pub(crate) fn of<F: Frame>(key: [u64; 2], frame: F) -> Self {
        let mut state = State::new(key);
        let mut at = 0;
        while at + 8 <= SCREENED_LEN {
            state.absorb(frame.le64(at));
            at += 8;
        }
        let rest = u64::from(frame.be32(at).swap_bytes());
        state.absorb(HEAD_END | (frame.size() as u64 & 0xffff) << 32 | rest);
        Self(state)
    }

    /// The screen's first half.
    #[inline(always)]
    pub(crate) fn screen(self) -> u32 {
        self.0.finish() as u32
    }

    /// The screen's second half: SipHash-1-3 of what the first one covers, padded to words as it is there, then four
    /// bytes of the frame after the screen, four zeroes, and all the rest: as many bytes as the frame has.
    ///
    /// # Errors
    /// [`Reject::Length`] when a block is not within the frame.
    #[inline(always)]
    pub(crate) fn whole<F: Frame>(self, frame: F) -> Result<u32, Reject> {
        let Self(mut state) = self;
        let size = frame.size() as u64;
        let last = size.wrapping_sub((55 + TAG_LEN) as u64) / 64;
        state.absorb(u64::from(frame.be32(HEADER_LEN).swap_bytes()));
        // As in the digest's loop: a constant bound for the verifier, and an equality as the way out.
        let mut index = 1;
        while index <= EXTRA_BLOCKS_MAX as u64 {
            let block = frame.block(index as usize).ok_or(Reject::Length)?;
            let mut at = 0;
            while at < 64 {
                state.absorb(u64::from_le(F::block_raw64(block, at)));
                at += 8;
            }
            if index == last {
                let tail = frame.find_be64(size as usize - 8).ok_or(Reject::Length)?.swap_bytes() >> 8;
                state.absorb(size << 56 | tail);
                return Ok(state.finish() as u32);
            }
            index += 1;
        }
        Err(Reject::Length)
    }
}

const _: () = {
    assert!(SCREENED_LEN % 8 == 4 && HEAD_LEN < 256);
    assert!(HEADER_LEN + 4 == 64 && (55 + TAG_LEN) % 64 == TAIL_LEN);
};

#[derive(Clone, Copy)]
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    fn new([k0, k1]: [u64; 2]) -> Self {
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher as _;

    use proptest::prelude::*;

    use super::{EXTRA_BLOCKS_MAX, HEADER_LEN, SCREENED_LEN, TAG_LEN, screen};
    use crate::frame::SliceFrame;

    fn reference(key: [u64; 2], message: &[u8]) -> u32 {
        let mut hasher = siphasher::sip::SipHasher13::new_with_keys(key[0], key[1]);
        hasher.write(message);
        hasher.finish() as u32
    }

    proptest! {
        #[test]
        fn equals_the_siphasher_crate(
            key in any::<[u64; 2]>(),
            bytes in proptest::collection::vec(any::<u8>(), 55 + 64 * EXTRA_BLOCKS_MAX + TAG_LEN),
            extra in 1..=EXTRA_BLOCKS_MAX,
        ) {
            let frame = &bytes[..55 + 64 * extra + TAG_LEN];
            let mut message = frame[..SCREENED_LEN].to_vec();
            message.extend((frame.len() as u16).to_le_bytes());
            let head = reference(key, &message);
            message.extend([0, message.len() as u8]);
            message.extend(&frame[HEADER_LEN..HEADER_LEN + 4]);
            message.extend([0; 4]);
            message.extend(&frame[HEADER_LEN + 4..]);
            let whole = reference(key, &message);
            let found = screen(key, SliceFrame(frame)).unwrap();
            prop_assert_eq!(found, u64::from(head) | u64::from(whole) << 32);
        }

        #[test]
        fn covers_every_bit_but_its_own(
            key in any::<[u64; 2]>(),
            mut bytes in proptest::collection::vec(any::<u8>(), 55 + 64 * 3 + TAG_LEN),
            place in 0..55 + 64 * 3 + TAG_LEN,
            bit in 0..8,
        ) {
            let before = screen(key, SliceFrame(&bytes)).unwrap();
            bytes[place] ^= 1_u8 << bit;
            let after = screen(key, SliceFrame(&bytes)).unwrap();
            let is_its_own = (SCREENED_LEN..HEADER_LEN).contains(&place);
            prop_assert_eq!(before == after, is_its_own);
            prop_assert_eq!(before as u32 == after as u32, place >= SCREENED_LEN);
        }
    }
}
