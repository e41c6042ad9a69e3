//! The socket path's door: a datagram in, a slot changed or a reason out, by the validation that XDP runs.
//! It wants no lock: whoever calls it owns the windows and the slots.

use crate::frame::SliceFrame;
use crate::ids::{LinkId, NodeId};
use crate::maps::{ClusterConfig, KeyState};
use crate::reject::Reject;
use crate::sha256::Work;
use crate::validate::{Tables, validate};
use crate::window::{PeerWindow, Recorded, Slots, Windows, mark_told, record};

/// The keys by key id. An entry whose `valid` is 0 is no key.
pub type Keys = [KeyState; 256];

/// A heartbeat that was authentic and not heard before on its link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The sender.
    pub node: NodeId,
    /// Above everything heard from it; else only its link was refreshed.
    pub newest: bool,
    /// It says something new: read the slot.
    pub news: bool,
}

/// Takes one frame that arrived on the socket or line of `link_seen` at `stamp_ns` (CLOCK_MONOTONIC).
///
/// # Errors
/// The reason for which the frame was refused; windows and slots are unchanged then.
pub fn receive(
    frame: &[u8],
    link_seen: LinkId,
    config: &ClusterConfig,
    keys: &Keys,
    windows: &mut Windows,
    slots: &mut Slots,
    stamp_ns: u64,
) -> Result<Accepted, Reject> {
    let frame = SliceFrame(frame);
    let valid = validate(frame, Some(link_seen), &Memory { config, keys, windows })?;
    let node = valid.node;
    let (Some(window), Some(slot)) = (windows.get_mut(node.index()), slots.get_mut(node.index())) else {
        return Err(Reject::Node);
    };
    let recorded = record(window, slot, frame, &valid, config.incarnation, stamp_ns)?;
    Ok(match recorded {
        Recorded::Newest => Accepted { node, newest: true, news: false },
        Recorded::Copy => Accepted { node, newest: false, news: false },
        Recorded::News(said) => {
            mark_told(window, said);
            Accepted { node, newest: true, news: true }
        }
    })
}

struct Memory<'a> {
    config: &'a ClusterConfig,
    keys: &'a Keys,
    windows: &'a Windows,
}

impl Tables for Memory<'_> {
    type Hasher = Work;

    fn config(&self) -> &ClusterConfig {
        self.config
    }

    fn key(&self, id: u8) -> Option<&KeyState> {
        self.keys.get(usize::from(id))
    }

    fn window(&self, node: NodeId) -> Option<&PeerWindow> {
        self.windows.get(node.index())
    }

    fn hasher(&self) -> Option<Work> {
        Some(Work::default())
    }
}
