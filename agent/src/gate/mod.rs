//! The gate's userspace: which addresses are behind which group's gate, the maps in memory, and the pins by which gate
//! and programs outlive this process. What the kernel does with it is in `agent-ebpf/src/gate.rs`.
//!
//! A starting agent shuts the gates that it finds before it does anything else; one that ends in order takes gate and
//! programs away, once the addresses are gone.

pub mod bpffs;
pub mod classifier;
pub mod guard;
pub mod ingress;
pub mod keeper;
pub mod mapped;
pub mod pins;
pub mod ready;

use agent_common::GroupId;
use agent_common::ids::MAX_GROUPS;
use agent_common::maps::Gate;
use agent_core::Instant;
use aya::pin::PinError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;

use mapped::{MappedBars, MappedGates};

/// An interface, as it was when the agent started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
}

/// Why a program could not be put on an interface, or not so that it stays.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel did not take it.
    #[error("{source}{}", cause(source))]
    Program {
        /// Why not.
        #[from]
        source: ProgramError,
    },
    /// The link is of another kind.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// bpffs did not take the pin.
    #[error("{0}")]
    Pin(#[from] PinError),
}

fn cause(error: &ProgramError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(String::new, |source| format!(": {source}"))
}

/// The rt thread's end: writes gates, sees bars rise. No system call in either.
pub struct Gates {
    gates: MappedGates,
    bars: MappedBars,
    seen: [u64; MAX_GROUPS],
}

impl Gates {
    /// Over mapped memory. Bars that are not zero count as risen.
    pub const fn new(gates: MappedGates, bars: MappedBars) -> Self {
        Self { gates, bars, seen: [0; MAX_GROUPS] }
    }

    /// Opens the gate of a group until `expiry`; what is past shuts it.
    pub fn write(&mut self, group: GroupId, epoch: u64, expiry: Instant) {
        self.gates.write(group, Gate { epoch, expiry_ns: expiry.0 });
    }

    /// The bar of a group, if it rose since this was last asked.
    pub fn risen(&mut self, group: GroupId) -> Option<u64> {
        let bar = self.bars.read(group);
        let seen = self.seen.get_mut(group.index())?;
        if bar <= *seen {
            return None;
        }
        *seen = bar;
        Some(bar)
    }

    /// All bars are told again: whoever asks next has forgotten them.
    pub const fn forget_seen(&mut self) {
        self.seen = [0; MAX_GROUPS];
    }
}
