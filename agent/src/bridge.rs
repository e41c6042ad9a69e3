//! What passes between the realtime threads and the control thread: bounded queues and a latest-value snapshot.
//! A full queue drops and counts; neither side can make the other wait.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use agent_common::maps::{COUNTERS, Direction, KeyState};
use agent_common::{GroupId, KeyId};
use agent_core::config::GateKind;
use agent_core::{Answer, Instant, Operator, ResourceRef, Snapshot, Transition};

use crate::settings::{ReceiveMode, Settings};
use crate::stats::Stats;

/// Room for notes that the control thread has not read yet.
pub const NOTES: usize = 4096;
/// Room for commands that the rt thread has not read yet.
pub const COMMANDS: usize = 16;

/// Something that a realtime thread tells people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The core's.
    Transition(Transition),
    /// An address was added, deleted or announced.
    Address {
        /// When.
        at: Instant,
        /// Which.
        resource: ResourceRef,
        /// What was done.
        done: AddressChange,
    },
    /// The result of an operator's command.
    Answer {
        /// When.
        at: Instant,
        /// The number that came with [`Command::Operate`].
        ticket: u32,
        /// What became of it.
        answer: Answer,
    },
    /// A lost lease could not be withdrawn: the watchdog, if there is one, is petted no more.
    SelfFenced {
        /// When.
        at: Instant,
        /// The group that may still answer here.
        group: GroupId,
    },
    /// The watchdog could not be petted.
    WatchdogFailed {
        /// When.
        at: Instant,
        /// Why not, as an errno.
        errno: i32,
    },
}

impl Note {
    /// When it happened.
    pub const fn at(&self) -> Instant {
        match self {
            Self::Transition(transition) => transition.at,
            Self::Address { at, .. }
            | Self::Answer { at, .. }
            | Self::SelfFenced { at, .. }
            | Self::WatchdogFailed { at, .. } => *at,
        }
    }
}

/// What was done to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressChange {
    /// It is on the interface.
    Added,
    /// It is off the interface.
    Deleted,
    /// Its first announcement left.
    Announced,
}

/// Something that the control thread wants of the rt thread.
#[derive(Debug)]
pub enum Command {
    /// Stop in order.
    Leave,
    /// What an operator wants; a [`Note::Answer`] says what became of it.
    Operate {
        /// Comes back with the answer.
        ticket: u32,
        /// What is wanted.
        what: Operator,
    },
    /// Use these keys from the next frame on.
    Keys(Box<Keyring>),
}

/// The keys of one reading of the key file. Secrets are gone: only HMAC's states remain.
#[derive(Clone)]
pub struct Keyring {
    /// The key that signs.
    pub sign_with: KeyId,
    /// By key id, 256 entries.
    pub states: Vec<KeyState>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Keyring").field("sign_with", &self.sign_with).finish_non_exhaustive()
    }
}

/// The control thread's ends.
pub struct ControlSide {
    /// What the configuration says.
    pub settings: Arc<Settings>,
    /// Userspace's counters.
    pub stats: Arc<Stats>,
    /// Newest snapshot of the core.
    pub snapshots: triple_buffer::Output<Snapshot>,
    /// Notes of all realtime threads; one queue for each.
    pub notes: Vec<rtrb::Consumer<Note>>,
    /// eventfd that says that there are notes.
    pub notes_ready: OwnedFd,
    /// Commands to the rt thread.
    pub commands: rtrb::Producer<Command>,
    /// eventfd that wakes the rt thread.
    pub commands_ready: OwnedFd,
    /// Kernel maps that the control thread reads and writes.
    pub kernel: Box<dyn KernelView>,
    /// How each interface receives.
    pub modes: BTreeMap<String, ReceiveMode>,
    /// Who shuts an address whose holder may not serve it.
    pub gate: GateKind,
    /// Becomes readable (eventfd) when the rt thread has ended.
    pub ended: OwnedFd,
}

/// The control thread's view of the kernel's maps; without XDP it shows zeroes.
pub trait KernelView: Send {
    /// The kernel's counters summed over CPUs, indexed like [`agent_common::maps::COUNTERS`].
    fn counters(&self) -> [u64; COUNTERS];
    /// Packets that a gate dropped: of the address at this place in the configuration, in this direction.
    fn gate_drops(&self, place: u32, direction: Direction) -> u64;
    /// Puts new keys into the kernel's map.
    ///
    /// # Errors
    /// The map could not be written; the old keys stay in force.
    fn set_keys(&mut self, keys: &Keyring) -> std::io::Result<()>;
}
