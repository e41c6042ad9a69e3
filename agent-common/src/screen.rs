//! The keyed screen: SipHash-2-4 (Aumasson and Bernstein, 2012) over the header, at a twentieth of the digest's cost.
//! It refuses a flood by whoever has no key before any SHA-256 is computed; it authenticates nothing by itself.

use crate::frame::Frame;
use crate::wire::SCREENED_LEN;

/// The screen of a frame's header under the screen key.
#[inline(always)]
pub fn screen<F: Frame>(key: [u64; 2], frame: F) -> u64 {
    let mut state = State::new(key);
    let mut at = 0;
    while at + 8 <= SCREENED_LEN {
        state.absorb(frame.le64(at));
        at += 8;
    }
    // The last four bytes, and the length in the top byte.
    let rest = u64::from(frame.be32(at).swap_bytes());
    state.absorb((SCREENED_LEN as u64) << 56 | rest);
    state.finish()
}

const _: () = assert!(SCREENED_LEN % 8 == 4);

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
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
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

    use super::{SCREENED_LEN, screen};
    use crate::frame::SliceFrame;

    proptest! {
        #[test]
        fn equals_the_siphasher_crate(
            key in any::<[u64; 2]>(),
            header in proptest::collection::vec(any::<u8>(), SCREENED_LEN),
        ) {
            let mut hasher = siphasher::sip::SipHasher24::new_with_keys(key[0], key[1]);
            hasher.write(&header);
            prop_assert_eq!(screen(key, SliceFrame(&header)), hasher.finish());
        }
    }
}
