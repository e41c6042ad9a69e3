//! Turns the core's heartbeat into frames: encoded once, signed again for each further link.
//! The one frame buffer is reused; nothing is allocated.

use agent_common::ids::MAX_LINKS;
use agent_common::maps::KeyState;
use agent_common::wire::{FRAME_MAX, encode, resign};
use agent_common::{Beat, KeyId, LinkId};

use crate::bridge::Keyring;
use crate::io::paths::{Paths, Sent};
use crate::stats::Stats;

/// What is needed to sign.
pub struct Sender {
    cluster: u32,
    key_id: KeyId,
    key: KeyState,
    keepalive_us: u32,
    frame: Box<[u8; FRAME_MAX]>,
}

impl Sender {
    /// A sender for `cluster`, announcing `keepalive_us` on every link.
    pub fn new(cluster: u32, keepalive_us: u32, keyring: &Keyring) -> Self {
        let key = signing_key(keyring);
        Self { cluster, key_id: keyring.sign_with, key, keepalive_us, frame: Box::new([0; FRAME_MAX]) }
    }

    /// Signs with this keyring's key from the next frame on.
    pub fn set_keys(&mut self, keyring: &Keyring) {
        self.key_id = keyring.sign_with;
        self.key = signing_key(keyring);
    }

    /// Sends `beat` on the links of the set. Returns the links on which the kernel took no copy.
    pub fn send(&mut self, beat: &Beat, links: u8, paths: &Paths, stats: &Stats) -> u8 {
        let mut length = None;
        let mut failed = 0;
        for link in
            LinkId::all().take(MAX_LINKS).filter(|link| links & 1 << link.raw() != 0 && paths.usable(*link))
        {
            let length = match length {
                Some(length) => {
                    resign(&mut self.frame, length, link, self.keepalive_us, &self.key);
                    length
                }
                None => {
                    let (id, key) = (self.key_id, &self.key);
                    let encoded =
                        encode(beat, link, self.keepalive_us, self.cluster, id, key, &mut self.frame);
                    *length.insert(encoded)
                }
            };
            if paths.send(link, self.frame.get(..length).unwrap_or(&[]), stats) == Sent::None {
                failed |= 1 << link.raw();
            }
        }
        failed
    }
}

/// The states of the key that signs; `keys` makes sure that it exists.
fn signing_key(keyring: &Keyring) -> KeyState {
    keyring.states.get(usize::from(keyring.sign_with.raw())).copied().unwrap_or_default()
}
