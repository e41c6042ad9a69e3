//! SHA-256 and HMAC where the kernel computes them: the published vectors, and random messages against userspace.
//! The program takes padded blocks from the packet; the padding is made here, by FIPS 180-4, 5.1.1.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use agent_common::{hmac::hmac, maps::KeyState, sha256};
use agent_tests::{
    kernel::{Kernel, TX},
    privileged::skip,
};

const SHA256: u8 = 0;
const HMAC: u8 = 1;
/// The program takes eight blocks, one of which HMAC's key was.
const MESSAGE_MAX: usize = 8 * 64 - 9;

struct SelfTest(Kernel);

impl SelfTest {
    fn new() -> Self {
        Self(Kernel::unconfigured("xbeat-selftest.bpf.o", "selftest_hmac").unwrap())
    }

    fn run(&mut self, kind: u8, key: &KeyState, before: usize, message: &[u8]) -> String {
        self.0.array("KEY").unwrap().set(0, *key, 0).unwrap();
        let mut blocks = message.to_vec();
        blocks.push(0x80);
        while blocks.len() % 64 != 56 {
            blocks.push(0);
        }
        blocks.extend((8 * (before + message.len()) as u64).to_be_bytes());
        let mut packet = vec![0; 16];
        packet[..2].copy_from_slice(&[kind, (blocks.len() / 64) as u8]);
        packet.extend(blocks);
        assert_eq!(self.0.run(&packet, 1).unwrap().0, TX);
        let words: [u32; 8] = self.0.array("RESULT").unwrap().get(&0, 0).unwrap();
        hex(&words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>())
    }

    fn sha256(&mut self, message: &[u8]) -> String {
        self.run(SHA256, &KeyState::default(), 0, message)
    }

    fn hmac(&mut self, secret: &[u8], message: &[u8]) -> String {
        self.run(HMAC, &KeyState::from_secret(secret), 64, message)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The examples of FIPS 180-4 that fit a packet.
#[test]
fn published_digests_come_out_of_the_kernel() {
    if skip() {
        return;
    }
    let mut kernel = SelfTest::new();
    let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    for (message, expected) in [
        (&b""[..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (two_blocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
    ] {
        assert_eq!(kernel.sha256(message), expected);
    }
}

/// RFC 4231, 4.2 to 4.8 (case 5 is published truncated to 128 bits).
#[test]
fn rfc_4231_cases_come_out_of_the_kernel() {
    if skip() {
        return;
    }
    let mut kernel = SelfTest::new();
    let counting: Vec<u8> = (1..=25).collect();
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
        let tag = kernel.hmac(secret, message);
        assert!(tag.starts_with(expected), "{tag} is not {expected}");
    }
}

#[test]
fn kernel_and_userspace_digest_alike() {
    if skip() {
        return;
    }
    let mut kernel = SelfTest::new();
    for len in 0..=MESSAGE_MAX {
        let message: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
        let secret: Vec<u8> = (0..32 + len % 33).map(|at| (at * 31 + len) as u8).collect();
        assert_eq!(kernel.sha256(&message), hex(&sha256::digest(&message)), "{len} bytes");
        let expected = hex(&hmac(&KeyState::from_secret(&secret), &message));
        assert_eq!(kernel.hmac(&secret, &message), expected, "{len} bytes");
    }
}
