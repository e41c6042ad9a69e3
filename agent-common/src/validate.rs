//! The one validation: the stages of [`Reject`] in order, cheapest first, and nothing changes before the last has passed.
//! The XDP program runs it over packet pointers and maps, the socket path over a slice; neither adds a check of its own.

use crate::frame::Frame;
use crate::hmac::frame_tag;
use crate::ids::{LinkId, NodeId, NodeSet};
use crate::maps::{ClusterConfig, KeyState};
use crate::reject::Reject;
use crate::screen::Head;
use crate::sections::inspect;
use crate::sha256::Hasher;
use crate::window::{PeerWindow, look};
use crate::wire::{BODY_MIN, EXTRA_BLOCKS_MAX, MAGIC, TAG_LEN, VERSION, at};

/// What the validation must know besides the frame: maps in the kernel, memory in userspace.
pub trait Tables {
    /// Where the digest is computed.
    type Hasher: Hasher;

    /// The cluster's settings.
    fn config(&self) -> &ClusterConfig;
    /// The key with this id, `None` when there is none.
    fn key(&self, id: u8) -> Option<&KeyState>;
    /// The node's window, for a look without the lock.
    fn window(&self, node: NodeId) -> Option<&PeerWindow>;
    /// Memory for the digest.
    fn hasher(&self) -> Option<Self::Hasher>;
}

/// What the validation found in an authentic frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Valid {
    /// The sender.
    pub node: NodeId,
    /// The incarnation of ours that it acks, 0 for none.
    pub acked: u64,
    /// [`crate::sections::Inspected::view`].
    pub view: u64,
}

/// Validates a frame that arrived on link `arrival` (`None`: where no link of that id arrives).
///
/// # Errors
/// The first reason of [`Reject`]'s order that holds.
#[inline(always)]
pub fn validate<F: Frame, T: Tables>(frame: F, arrival: Option<LinkId>, tables: &T) -> Result<Valid, Reject> {
    length(frame)?;
    kind(frame, tables.config())?;
    let node = sender(frame, tables.config())?;
    link(frame, arrival)?;
    let key = tables.key(frame.byte(at::KEY)).filter(|key| key.valid != 0).ok_or(Reject::Key)?;
    timing(frame, tables.config())?;
    let is_own = u32::from(node.raw()) == tables.config().me;
    if !is_own {
        // What carries our own id has no window: whether we sent it is userspace's to say.
        look(tables.window(node).ok_or(Reject::Node)?, frame)?;
    }
    screen(frame, key)?;
    digest(frame, key, tables.hasher().ok_or(Reject::Digest)?)?;
    let inspected = inspect(frame, tables.config().me)?;
    if is_own {
        return Err(Reject::OwnNode);
    }
    Ok(Valid { node, acked: inspected.acked, view: inspected.view })
}

/// 55 + 64k bytes and the tag, k from 1 to 21.
#[inline(always)]
fn length<F: Frame>(frame: F) -> Result<(), Reject> {
    let beyond = frame.size().wrapping_sub(BODY_MIN + TAG_LEN);
    if beyond & 63 != 0 || beyond / 64 > EXTRA_BLOCKS_MAX - 1 {
        return Err(Reject::Length);
    }
    Ok(())
}

/// A heartbeat, of this version, of this cluster.
#[inline(always)]
fn kind<F: Frame>(frame: F, config: &ClusterConfig) -> Result<(), Reject> {
    let word = frame.be32(0);
    if word >> 8 != MAGIC_WORD {
        return Err(Reject::Magic);
    }
    if word & 0xff != u32::from(VERSION) {
        return Err(Reject::Version);
    }
    if frame.be32(at::CLUSTER) != config.cluster || config.cluster == 0 {
        return Err(Reject::Cluster);
    }
    Ok(())
}

/// The magic as the upper three bytes of a big-endian word.
pub const MAGIC_WORD: u32 = (MAGIC[0] as u32) << 16 | (MAGIC[1] as u32) << 8 | MAGIC[2] as u32;

/// A configured node.
#[inline(always)]
fn sender<F: Frame>(frame: F, config: &ClusterConfig) -> Result<NodeId, Reject> {
    let node = NodeId::new(frame.byte(at::NODE)).ok_or(Reject::Node)?;
    if !NodeSet(config.nodes).contains(node) {
        return Err(Reject::Node);
    }
    Ok(node)
}

/// The link that the frame was sent for is the one it arrived on.
#[inline(always)]
fn link<F: Frame>(frame: F, arrival: Option<LinkId>) -> Result<(), Reject> {
    match arrival {
        Some(link) if link.raw() == frame.byte(at::LINK) => Ok(()),
        Some(_) | None => Err(Reject::Link),
    }
}

/// Intervals that make sense, the deadtime within the bound that holds for everybody.
#[inline(always)]
fn timing<F: Frame>(frame: F, config: &ClusterConfig) -> Result<(), Reject> {
    let deadtime_us = frame.be32(at::DEADTIME);
    if frame.be32(at::KEEPALIVE) == 0 || deadtime_us == 0 || deadtime_us > config.deadtime_max_us {
        return Err(Reject::Timing);
    }
    Ok(())
}

/// The screen: first the half that any forger fails at, then the one for who has a header of ours.
#[inline(always)]
fn screen<F: Frame>(frame: F, key: &KeyState) -> Result<(), Reject> {
    let head = Head::of(key.screen, frame);
    if head.screen() != frame.be32(at::SCREEN).swap_bytes() {
        return Err(Reject::Screen);
    }
    if head.whole(frame)? != frame.be32(at::SCREEN_WHOLE).swap_bytes() {
        return Err(Reject::Screen);
    }
    Ok(())
}

/// The tag, compared without a branch before the last word is in.
#[inline(always)]
fn digest<F: Frame, H: Hasher>(frame: F, key: &KeyState, hasher: H) -> Result<(), Reject> {
    let [a, b, c, d] = frame_tag(key, frame, hasher)?;
    let at = frame.size() - TAG_LEN;
    let (Some(high), Some(low)) = (frame.find_be64(at), frame.find_be64(at + 8)) else {
        return Err(Reject::Length);
    };
    let difference =
        (high ^ (u64::from(a) << 32 | u64::from(b))) | (low ^ (u64::from(c) << 32 | u64::from(d)));
    if difference != 0 { Err(Reject::Digest) } else { Ok(()) }
}
