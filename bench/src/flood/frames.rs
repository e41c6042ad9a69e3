//! Makes the frames of a flood out of true heartbeats that were captured on the wire.

use agent_common::frame::SliceFrame;
use agent_common::maps::KeyState;
use agent_common::screen::screen;
use agent_common::wire::{HEADER_LEN, at};
use agent_tests::lab::frame;
use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;

use super::{Kind, Load};

/// Frames that take turns, so that not all is in one cache line.
const FRAMES: u64 = 64;
/// Above any number that a node reaches meanwhile, so that it is not refused as a replay.
const FAR_AHEAD: u64 = 1 << 40;
/// `discard` (RFC 863): nobody listens.
const FOREIGN_PORT: u16 = 9;
const UDP_LEN: usize = 8;

/// The frames of one kind: `heard` are true heartbeats to the target that it has heard, of which each other kind is made.
///
/// # Errors
/// There are none, or the keys cannot be read.
pub fn load(kind: Kind, heard: &[Vec<u8>], keys: &str) -> Result<Load> {
    let model = heard.last().context("no heartbeat was captured")?;
    let frames = match kind {
        Kind::Quiet => Vec::new(),
        Kind::Forged => each(model, |number, payload| {
            ahead(payload, number);
            put(payload, at::SCREEN, &noise(number).to_le_bytes());
        })?,
        Kind::Captured => {
            let key = screen_key(keys)?;
            each(model, |number, payload| {
                ahead(payload, number);
                // As of the heartbeat with this number; what stands behind it is not what belongs there.
                let right = screen(key, SliceFrame(payload)).unwrap_or(0);
                put(payload, at::SCREEN, &(right ^ 1 << 32).to_le_bytes());
                put(payload, HEADER_LEN, &noise(number).to_le_bytes());
            })?
        }
        Kind::Replayed => heard.iter().map(|one| edited(one, |_| ())).collect::<Result<_>>()?,
        Kind::Garbage => each(model, |number, payload| {
            for (place, byte) in (0..).zip(payload.iter_mut()) {
                *byte = noise(number << 16 | place) as u8;
            }
            // Whatever it is, no magic.
            put(payload, 0, b"?");
        })?,
        Kind::Foreign => foreign(model)?,
    };
    Ok(Load { label: kind.label().to_owned(), frames })
}

/// The frame of a heartbeat as UDP to a port that is nobody's.
///
/// # Errors
/// It is not UDP.
pub fn foreign(model: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut other = model.to_vec();
    let payload = frame::payload_at(&other).context("not UDP")?;
    put(&mut other, payload - UDP_LEN + 2, &FOREIGN_PORT.to_be_bytes());
    each(&other, |number, payload| put(payload, 0, &noise(number).to_le_bytes()))
}

fn ahead(payload: &mut [u8], number: u64) {
    put(payload, at::SEQ, &(FAR_AHEAD + number).to_be_bytes());
}

fn each(model: &[u8], change: impl Fn(u64, &mut Vec<u8>)) -> Result<Vec<Vec<u8>>> {
    (0..FRAMES).map(|number| edited(model, |payload| change(number, payload))).collect()
}

fn edited(model: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Result<Vec<u8>> {
    frame::edited(model, change).ok_or_else(|| anyhow!("not UDP"))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// `SplitMix64` (Steele, Lea and Flood, 2014) of a number.
const fn noise(number: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Of the first key in a key file of the laboratory, which has one.
fn screen_key(keys: &str) -> Result<[u64; 2]> {
    let line = keys.lines().find(|line| line.starts_with("secret")).context("the key file has no secret")?;
    let text = line.split('"').nth(1).context("the secret is not quoted")?;
    let secret =
        base64::engine::general_purpose::STANDARD.decode(text).context("the secret is not base64")?;
    Ok(KeyState::from_secret(&secret).screen)
}
