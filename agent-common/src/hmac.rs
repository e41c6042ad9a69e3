//! HMAC-SHA256 (RFC 2104) with the key's two states computed once, in userspace, and the truncated tag of a frame.
//! The kernel only ever sees [`KeyState`]: it holds no secret that could sign for another purpose than the frame's.

use crate::frame::Frame;
use crate::maps::KeyState;
use crate::reject::Reject;
use crate::sha256::{self, BLOCK_LEN, END_MARK, Hasher, Work, double, store};
use crate::wire::{EXTRA_BLOCKS_MAX, HEADER_LEN, TAG_LEN, at};

/// What the screen's key is derived from, under the HMAC key.
const SCREEN_LABEL: &[u8] = b"xbeat screen";
/// What the compressions of a frame have absorbed before the body: the padded key.
const KEY_BLOCK_BITS: u32 = 8 * BLOCK_LEN as u32;

/// Where in the first block the screen stands. It covers the tag, so the tag takes it for zeroes.
const SCREEN_WORD: usize = at::SCREEN / 4;
const _: () = assert!(at::SCREEN.is_multiple_of(4) && at::SCREEN + 8 == HEADER_LEN);

/// A frame's tag as four big-endian words.
pub type Tag = [u32; TAG_LEN / 4];

impl KeyState {
    /// The states of a secret (32 to 64 bytes; a longer one is hashed first, as RFC 2104 has it), marked valid.
    pub fn from_secret(secret: &[u8]) -> Self {
        let mut key = [0; BLOCK_LEN];
        if secret.len() > BLOCK_LEN {
            key[..32].copy_from_slice(&sha256::digest(secret));
        } else {
            key[..secret.len()].copy_from_slice(secret);
        }
        let mut state =
            Self { inner: absorb_key(&key, 0x36), outer: absorb_key(&key, 0x5c), screen: [0; 2], valid: 1 };
        let derived = hmac(&state, SCREEN_LABEL);
        for (word, chunk) in state.screen.iter_mut().zip(derived.chunks_exact(8)) {
            *word = chunk.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        }
        state
    }
}

fn absorb_key(key: &[u8; BLOCK_LEN], pad: u8) -> [u32; 8] {
    let mut work = Work { words: [0; 16], state: sha256::INITIAL };
    work.absorb(&key.map(|byte| byte ^ pad));
    work.state
}

/// The whole HMAC of a message of any length (userspace).
pub fn hmac(key: &KeyState, message: &[u8]) -> [u8; 32] {
    let state = sha256::update_last(key.inner, BLOCK_LEN as u64, message);
    let mut work = Work { words: [0; 16], state };
    outer(key, &mut work);
    sha256::bytes(work.state)
}

/// HMAC's second hash: over the inner digest, which is the hasher's state, under the outer key.
#[inline(always)]
pub fn outer<H: Hasher>(key: &KeyState, hasher: &mut H) {
    let Work { words, state } = hasher.work();
    let mut i = 0;
    while i < 8 {
        store(words, i, double(state[i]));
        i += 1;
    }
    store(words, 8, double(END_MARK));
    let mut i = 9;
    while i < 15 {
        store(words, i, 0);
        i += 1;
    }
    store(words, 15, double(KEY_BLOCK_BITS + 8 * 32));
    *state = key.outer;
    hasher.compress();
}

/// The tag that belongs on `frame`, whose length has been accepted: the body ends 55 bytes into its last block, so the
/// padding of SHA-256 touches only that block's last three words, and every block lies within the frame. The screen
/// counts as zeroes.
///
/// # Errors
/// [`Reject::Length`] when a block is not within the frame after all.
#[inline(always)]
pub fn frame_tag<F: Frame, H: Hasher>(key: &KeyState, frame: F, mut hasher: H) -> Result<Tag, Reject> {
    let size = frame.size() as u64;
    let last = size.wrapping_sub((55 + TAG_LEN) as u64) / BLOCK_LEN as u64;
    hasher.work().state = key.inner;
    // The bound is a constant and the way out an equality: the verifier counts the first, and the compiler
    // cannot merge the second into it.
    let mut index = 0;
    while index <= EXTRA_BLOCKS_MAX as u64 {
        let block = frame.block(index as usize).ok_or(Reject::Length)?;
        let words = &mut hasher.work().words;
        let mut i = 0;
        while i < 16 {
            store(words, i, double(F::block_be32(block, 4 * i)));
            i += 1;
        }
        if index == 0 {
            store(words, SCREEN_WORD, 0);
            store(words, SCREEN_WORD + 1, 0);
        }
        if index == last {
            let end = F::block_be32(block, 4 * 13) & 0xffff_ff00 | 0x80;
            store(words, 13, double(end));
            store(words, 14, 0);
            store(words, 15, double(KEY_BLOCK_BITS + 8 * (size - TAG_LEN as u64) as u32));
            hasher.compress();
            outer(key, &mut hasher);
            let [a, b, c, d, ..] = hasher.work().state;
            return Ok([a, b, c, d]);
        }
        hasher.compress();
        index += 1;
    }
    Err(Reject::Length)
}

#[cfg(test)]
mod tests {
    use hmac::Mac as _;
    use proptest::prelude::*;

    use crate::frame::SliceFrame;
    use crate::maps::KeyState;
    use crate::sha256::Work;
    use crate::wire::{EXTRA_BLOCKS_MAX, HEADER_LEN, TAG_LEN, at};

    use super::{frame_tag, hmac};

    fn reference(secret: &[u8], message: &[u8]) -> [u8; 32] {
        let mut mac = ::hmac::Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    /// RFC 4231, 4.2 to 4.8 (case 5 is published truncated to 128 bits).
    #[test]
    fn rfc_4231_cases_come_out() {
        let counting: std::vec::Vec<u8> = (1..=25).collect();
        let cases: [(&[u8], &[u8], &str); 7] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (&counting, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
            (&[0x0c; 20], b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &[0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size data. \
                  The key needs to be hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (secret, message, expected) in cases {
            let tag = hmac(&KeyState::from_secret(secret), message);
            let text: std::string::String = tag.iter().map(|byte| std::format!("{byte:02x}")).collect();
            assert!(text.starts_with(expected), "{text} is not {expected}");
        }
    }

    proptest! {
        #[test]
        fn equals_the_hmac_crate(
            secret in proptest::collection::vec(any::<u8>(), 32..=64),
            message in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            prop_assert_eq!(hmac(&KeyState::from_secret(&secret), &message), reference(&secret, &message));
        }

        #[test]
        fn a_frames_tag_is_the_hmac_of_its_body(
            secret in proptest::collection::vec(any::<u8>(), 32..=64),
            bytes in proptest::collection::vec(any::<u8>(), 55 + 64 * EXTRA_BLOCKS_MAX + TAG_LEN),
            extra in 1..=EXTRA_BLOCKS_MAX,
        ) {
            let body = 55 + 64 * extra;
            let tag = frame_tag(
                &KeyState::from_secret(&secret),
                SliceFrame(&bytes[..body + TAG_LEN]),
                Work::default(),
            )
            .unwrap();
            let mut unscreened = bytes[..body].to_vec();
            unscreened[at::SCREEN..HEADER_LEN].fill(0);
            let expected = reference(&secret, &unscreened);
            let tag: std::vec::Vec<u8> = tag.iter().flat_map(|word| word.to_be_bytes()).collect();
            prop_assert_eq!(&tag[..], &expected[..TAG_LEN]);
        }
    }
}
