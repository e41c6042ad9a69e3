//! What one process of the agent hands over to the next, in the same boot of the machine: the core's state and the facts
//! that it rests on, in a file of the state directory. Whoever cannot take all of it starts without any.
//!
//! ```text
//! Operator::Pause ─▶ a majority bears initdead ─▶ STATE_DIR/carried ─▶ exec, or a later start ─▶ taken, and gone
//! ```

pub mod changes;
mod file;
pub mod shape;

use agent_common::GroupId;
use agent_core::Instant;
use agent_core::config::{Carried, Start};
use serde::{Deserialize, Serialize};

use crate::settings::{AddressSettings, Settings};

pub use file::{NotTaken, StoreError, boot_id, discard, mark, store, take};
pub use shape::Shape;

/// Changes when an older reader would misread the file. A field that may be missing does not change it.
pub const FORMAT: u32 = 1;

/// The whole content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// [`FORMAT`] of who wrote it.
    pub format: u32,
    /// The machine's boot: moments of CLOCK_MONOTONIC and the maps in the kernel mean nothing in another.
    pub boot: String,
    /// Layout of the pinned maps that go with it; `None` where the process had none.
    pub layout: Option<u64>,
    /// The configuration, as far as the state rests on it.
    pub shape: Shape,
    /// When the process before stopped sending.
    pub paused_at: Instant,
    /// How often a process has gone on with the state of the one before.
    pub restarts: u64,
    /// The core's.
    pub state: Carried,
}

impl Handover {
    /// What `settings` and the core's state come to.
    pub fn new(
        settings: &Settings,
        layout: Option<u64>,
        restarts: u64,
        now: Instant,
        state: Carried,
    ) -> Self {
        let (boot, shape) = (boot_id(), Shape::of(settings));
        Self { format: FORMAT, boot, layout, shape, paused_at: now, restarts, state }
    }

    /// What of the addresses is to stay on its interface at `now`, and what is configured no more.
    pub fn stays(&self, settings: &Settings, now: Instant) -> Stays {
        let mut stays = Stays::default();
        let promised = self
            .state
            .sent
            .iter()
            .map(|sent| sent.at.after(std::time::Duration::from_micros(u64::from(sent.deadtime_us))));
        // Past the last heartbeat's deadtime others may serve already.
        let is_over = promised.max().is_none_or(|until| until <= now);
        let groups = GroupId::all().zip(&self.state.groups).zip(&self.shape.groups);
        for ((group, state), shape) in groups {
            let is_mine = state.vote.held() && state.vote.candidate == settings.me.raw();
            if is_mine && !is_over {
                stays.groups |= 1 << group.raw();
            }
            let configured = settings.groups.get(group.index()).map_or(&[][..], |group| &group.addresses);
            let gone = shape.addresses.iter().filter(|address| !configured.contains(address));
            stays.gone.extend(gone.cloned());
        }
        stays
    }
}

/// Which addresses a starting agent leaves on their interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stays {
    /// Bit for each group whose addresses go on being served.
    pub groups: u64,
    /// Addresses that the process before was configured with and this one is not: they go.
    pub gone: Vec<AddressSettings>,
}

/// What a process must be able to read to go on from this one: [`FORMAT`], and the layout of the maps if there are any.
pub fn terms(layout: Option<u64>) -> String {
    layout.map_or_else(|| FORMAT.to_string(), |layout| format!("{FORMAT}-{layout:016x}"))
}

/// Whether this binary can go on from a process that names these terms, whose maps it finds.
///
/// # Errors
/// It cannot, and what to do instead.
pub fn accept(terms_of_other: &str) -> Result<(), OtherTerms> {
    let has_maps = terms_of_other.contains('-');
    let own = terms(has_maps.then(crate::gate::pins::layout));
    if own == terms_of_other { Ok(()) } else { Err(OtherTerms { own, other: terms_of_other.to_owned() }) }
}

/// Another version's state or maps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "version {} keeps its state in another form ({own}) than the running agent ({other}), and cannot go on from it: \
     `xbeat standby --all`, then stop the agent and start it",
    env!("CARGO_PKG_VERSION")
)]
pub struct OtherTerms {
    own: String,
    other: String,
}

/// How a life of the agent begins.
pub fn start(handover: Option<&Handover>) -> Start {
    handover.map_or(Start::Fresh, |handover| Start::Carried(Box::new(handover.state.clone())))
}

#[cfg(test)]
mod tests;
