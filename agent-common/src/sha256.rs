//! SHA-256 (FIPS 180-4) as both sides compile it: `no_std`, without a path that can panic, small enough for the BPF stack.
//!
//! BPF has no rotate instruction, so a word `x` is kept *doubled*, as `x << 32 | x` in 64 bits: then the low half of
//! `y >> n` is `x` rotated by n, and each sigma becomes one nested chain of shifts. Sums are taken in 64 bits; what
//! collects in the upper halves is never read.

/// The block's sixteen words, doubled by [`double`]; [`compress`] extends them in place.
pub type Schedule = [u64; 16];

/// A hash in progress.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Work {
    /// The next block.
    pub words: Schedule,
    /// What the blocks before have come to.
    pub state: [u32; 8],
}

/// Where a hash is computed: a local variable in userspace; in the kernel memory of the processor, so that
/// [`compress`] can be a function without arguments, which the verifier walks once and not once a call.
pub trait Hasher {
    /// The memory.
    fn work(&mut self) -> &mut Work;
    /// [`compress`] of it.
    fn compress(&mut self);
}

impl Hasher for Work {
    fn work(&mut self) -> &mut Work {
        self
    }

    #[inline(never)]
    fn compress(&mut self) {
        compress(self);
    }
}

/// The hash's initial state (FIPS 180-4, 5.3.3).
pub const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Bytes of a block.
pub const BLOCK_LEN: usize = 64;
/// The bit that ends a message, as it stands in a word of its own.
pub const END_MARK: u32 = 0x8000_0000;

/// FIPS 180-4, 4.2.2.
static K: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// Sixteen rounds, unrolled: the working variables change places instead of values.
macro_rules! sixteen {
    ($w:ident, $first:expr, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        four!($w, $first, 0, $a $b $c $d $e $f $g $h);
        four!($w, $first, 4, $e $f $g $h $a $b $c $d);
        four!($w, $first, 8, $a $b $c $d $e $f $g $h);
        four!($w, $first, 12, $e $f $g $h $a $b $c $d);
    };
}

macro_rules! four {
    ($w:ident, $first:expr, $i:expr, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        round!($a $b $c $d $e $f $g $h, constant($first + $i), load($w, $i) as u32);
        round!($h $a $b $c $d $e $f $g, constant($first + $i + 1), load($w, $i + 1) as u32);
        round!($g $h $a $b $c $d $e $f, constant($first + $i + 2), load($w, $i + 2) as u32);
        round!($f $g $h $a $b $c $d $e, constant($first + $i + 3), load($w, $i + 3) as u32);
    };
}

/// FIPS 180-4, 6.2.2 step 3.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $k:expr, $w:expr) => {
        let y = double($e);
        let sigma1 = (((((y >> 14) ^ y) >> 5) ^ y) >> 6) as u32;
        let choice = $g ^ ($e & ($f ^ $g));
        let t1 = $h.wrapping_add(sigma1).wrapping_add(choice).wrapping_add($k).wrapping_add($w);
        $d = $d.wrapping_add(t1);
        let y = double($a);
        let sigma0 = (((((y >> 9) ^ y) >> 11) ^ y) >> 2) as u32;
        let majority = ($a & $b) ^ ($c & ($a ^ $b));
        $h = t1.wrapping_add(sigma0).wrapping_add(majority);
    };
}

/// One block into the state. The words are used up: garbage stands there afterwards.
#[inline(always)]
pub fn compress(work: &mut Work) {
    let w = &mut work.words;
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = work.state;
    sixteen!(w, 0, a b c d e f g h);
    let mut first = 16;
    while first < 64 {
        extend(w);
        sixteen!(w, first, a b c d e f g h);
        first += 16;
    }
    for (word, add) in work.state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(add);
    }
}

/// `x` in both halves.
#[inline(always)]
pub const fn double(x: u32) -> u64 {
    let x = x as u64;
    x << 32 | x
}

#[inline(always)]
fn constant(round: usize) -> u32 {
    K[round & 63]
}

/// The schedule's next sixteen words (FIPS 180-4, 6.2.2 step 1), each in the place of the one of sixteen rounds before.
/// All at once: in between the rounds each would be kept for its round on the stack.
#[inline(always)]
fn extend(w: &mut Schedule) {
    extend_four(w, 0);
    extend_four(w, 4);
    extend_four(w, 8);
    extend_four(w, 12);
}

#[inline(always)]
fn extend_four(w: &mut Schedule, first: usize) {
    extend_one(w, first);
    extend_one(w, first + 1);
    extend_one(w, first + 2);
    extend_one(w, first + 3);
}

#[inline(always)]
fn extend_one(w: &mut Schedule, i: usize) {
    let y = load(w, i + 1);
    let z = load(w, i + 14);
    let sigma0 = (((((y >> 17) ^ y) >> 11) ^ y) >> 7) as u32;
    let sigma1 = (((((z >> 23) ^ z) >> 2) ^ z) >> 17) as u32;
    let before = (load(w, i) as u32).wrapping_add(load(w, i + 9) as u32);
    store(w, i, double(before.wrapping_add(sigma0).wrapping_add(sigma1)));
}

/// Volatile, or LLVM keeps the whole schedule in registers and runs out of the 512 bytes of BPF stack.
#[inline(always)]
fn load(w: &Schedule, i: usize) -> u64 {
    // SAFETY: a reference to an array element, which is aligned and initialised.
    unsafe { core::ptr::read_volatile(&w[i & 15]) }
}

/// Volatile for the reason of `load`.
#[inline(always)]
pub fn store(w: &mut Schedule, i: usize, doubled: u64) {
    // SAFETY: an exclusive reference to an array element, which is aligned.
    unsafe { core::ptr::write_volatile(&mut w[i & 15], doubled) }
}

/// The hash of a whole message that is at hand (userspace; the kernel feeds blocks to [`compress`]).
pub fn digest(message: &[u8]) -> [u8; 32] {
    bytes(update_last(INITIAL, 0, message))
}

/// Absorbs `message` as the last part of a message of which `before` bytes (whole blocks) are in `state` already.
pub fn update_last(state: [u32; 8], before: u64, message: &[u8]) -> [u32; 8] {
    let mut work = Work { words: [0; 16], state };
    let mut blocks = message.chunks_exact(BLOCK_LEN);
    for block in &mut blocks {
        work.absorb(block);
    }
    let rest = blocks.remainder();
    let mut padded = [0; 2 * BLOCK_LEN];
    let used = if rest.len() < BLOCK_LEN - 8 { BLOCK_LEN } else { 2 * BLOCK_LEN };
    let bits = (before + message.len() as u64) * 8;
    padded[..rest.len()].copy_from_slice(rest);
    padded[rest.len()] = 0x80;
    padded[used - 8..used].copy_from_slice(&bits.to_be_bytes());
    for block in padded[..used].chunks_exact(BLOCK_LEN) {
        work.absorb(block);
    }
    work.state
}

impl Work {
    /// One block of 64 bytes.
    pub fn absorb(&mut self, block: &[u8]) {
        for (word, chunk) in self.words.iter_mut().zip(block.chunks_exact(4)) {
            *word = double(chunk.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
        }
        Hasher::compress(self);
    }
}

/// The state as the bytes of a digest.
pub fn bytes(state: [u32; 8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (chunk, word) in out.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::digest;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// FIPS 180-4 examples (NIST, "Secure Hash Standard" example values) and the empty message.
    #[test]
    fn published_digests_come_out() {
        let million = std::vec![b'a'; 1_000_000];
        let cases: [(&[u8], &str); 4] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ];
        for (message, expected) in cases {
            assert_eq!(digest(message).to_vec(), hex(expected));
        }
    }

    proptest! {
        #[test]
        fn equals_the_sha2_crate(message in proptest::collection::vec(any::<u8>(), 0..700)) {
            prop_assert_eq!(digest(&message).to_vec(), sha2::Sha256::digest(&message).to_vec());
        }
    }
}
