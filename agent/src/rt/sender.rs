//! Turns the core's heartbeat into frames: encoded once, signed again for each further link.
//! The one frame buffer is reused; nothing is allocated.

use agent_common::ids::MAX_LINKS;
use agent_common::maps::KeyState;
use agent_common::wire::{FRAME_MAX, encode, resign};
use agent_common::{Beat, KeyId, LinkId};

use crate::bridge::Keyring;
use crate::io::paths::{Paths, Sent};
use crate::serial;
use crate::settings::LinkSettings;
use crate::stats::Stats;

/// What is needed to sign.
pub struct Sender {
    cluster: u32,
    key_id: KeyId,
    key: KeyState,
    /// By link id.
    keepalives_us: [u32; MAX_LINKS],
    frame: Box<[u8; FRAME_MAX]>,
}

impl Sender {
    /// A sender for `cluster`, announcing on each of `links` its own interval.
    pub fn new(cluster: u32, links: &[LinkSettings], keyring: &Keyring) -> Self {
        let key = signing_key(keyring);
        let mut keepalives_us = [u32::MAX; MAX_LINKS];
        for link in links {
            if let Some(place) = keepalives_us.get_mut(link.id.index()) {
                *place = u32::try_from(link.keepalive.as_micros()).unwrap_or(u32::MAX);
            }
        }
        Self { cluster, key_id: keyring.sign_with, key, keepalives_us, frame: Box::new([0; FRAME_MAX]) }
    }

    /// Signs with this keyring's key from the next frame on.
    pub fn set_keys(&mut self, keyring: &Keyring) {
        self.key_id = keyring.sign_with;
        self.key = signing_key(keyring);
    }

    /// Sends `beat` on the links of the set. Returns the links on which no copy was taken.
    pub fn send(
        &mut self,
        beat: &Beat,
        links: u8,
        paths: &Paths,
        mut serial: Option<&mut serial::Ends>,
        stats: &Stats,
    ) -> u8 {
        let mut length = None;
        let mut failed = 0;
        for link in LinkId::all().take(MAX_LINKS).filter(|link| links & 1 << link.raw() != 0) {
            let lines = serial.as_deref_mut().filter(|serial| serial.usable(link));
            if lines.is_none() && !paths.usable(link) {
                continue;
            }
            let keepalive_us = self.keepalives_us.get(link.index()).copied().unwrap_or(u32::MAX);
            let length = match length {
                Some(length) => {
                    resign(&mut self.frame, length, link, keepalive_us, &self.key);
                    length
                }
                None => {
                    let (id, key) = (self.key_id, &self.key);
                    let encoded = encode(beat, link, keepalive_us, self.cluster, id, key, &mut self.frame);
                    *length.insert(encoded)
                }
            };
            let frame = self.frame.get(..length).unwrap_or(&[]);
            let sent = match lines {
                Some(serial) => serial.send(link, frame, stats),
                None => paths.send(link, frame, stats),
            };
            if sent == Sent::None {
                failed |= 1 << link.raw();
            }
        }
        failed
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        crate::keys::wipe(std::slice::from_mut(&mut self.key));
    }
}

/// The states of the key that signs; `keys` makes sure that it exists.
fn signing_key(keyring: &Keyring) -> KeyState {
    keyring.states.get(usize::from(keyring.sign_with.raw())).copied().unwrap_or_default()
}
