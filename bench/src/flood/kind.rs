//! What a flood is made of.

use agent_common::Reject;
use serde::Serialize;

/// Frames of a flood at xbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// None: what the machine does by itself.
    Quiet,
    /// Right in all that can be known without the key, the screen made up.
    Forged,
    /// Behind the header of a true heartbeat that was not heard, which passes the first half of the screen.
    Captured,
    /// True heartbeats, once more.
    Replayed,
    /// Noise to the cluster's port.
    Garbage,
    /// UDP to a port that is nobody's.
    Foreign,
}

impl Kind {
    /// In order.
    pub const ALL: [Self; 6] =
        [Self::Quiet, Self::Forged, Self::Captured, Self::Replayed, Self::Garbage, Self::Foreign];

    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Quiet => "none",
            Self::Forged => "forged",
            Self::Captured => "forged behind a captured header",
            Self::Replayed => "replayed",
            Self::Garbage => "garbage to our port",
            Self::Foreign => "UDP to another port",
        }
    }

    /// The counters that must have moved by as many as arrived. None for what is not ours.
    pub const fn counted_as(self) -> &'static [Reject] {
        match self {
            Self::Quiet | Self::Foreign => &[],
            Self::Forged | Self::Captured => &[Reject::Screen],
            Self::Replayed => &[Reject::TooOld, Reject::Duplicate],
            Self::Garbage => &[Reject::Length, Reject::Magic],
        }
    }
}

/// Frames of a flood at anybody.
#[derive(Clone, Debug)]
pub struct Load {
    /// What they are.
    pub label: String,
    /// From the Ethernet header on; sent in turn. None: no flood.
    pub frames: Vec<Vec<u8>>,
}
