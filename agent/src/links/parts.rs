//! What the follower is made of: what the start found and made, and the ends of its queues.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use agent_core::config::GateKind;

use super::grounds::Grounds;
use super::watch::Watch;
use super::{FollowerEnd, View};
use crate::bridge::Note;
use crate::gate::keeper::Keeper;
use crate::io::paths::Arrival;
use crate::io::programs::Programs;
use crate::settings::Settings;

/// One interface.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// As it was last seen.
    pub view: View,
    /// Where frames of its links arrive.
    pub arrivals: Vec<Arrival>,
    /// Whether the rt thread has sockets on it.
    pub has_part: bool,
}

/// What the thread is made of.
pub struct Parts {
    /// What the configuration says.
    pub settings: Arc<Settings>,
    /// The programs, if there are any.
    pub programs: Option<Programs>,
    /// The pins.
    pub keeper: Keeper,
    /// Who guards addresses.
    pub gate: GateKind,
    /// As the start found and made them, in the order of [`super::interfaces`].
    pub watched: Vec<Watched>,
    /// Open since before the start looked.
    pub watch: Watch,
}

/// The thread's ends of its queues.
pub struct Queues {
    /// To and from the rt thread.
    pub rt: FollowerEnd,
    /// To the takeover thread.
    pub grounds: Arc<Grounds>,
    /// To the control thread.
    pub notes: rtrb::Producer<Note>,
    /// Wakes it.
    pub notes_ready: OwnedFd,
}
