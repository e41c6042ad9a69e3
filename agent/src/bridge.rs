//! What passes between the realtime threads and the control thread: bounded queues and a latest-value snapshot.
//! A full queue drops and counts; neither side can make the other wait.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use agent_common::maps::{COUNTERS, Direction, KeyState};
use agent_common::{GroupId, KeyId};
use agent_core::config::GateKind;
use agent_core::{Answer, Instant, Operator, ResourceRef, Snapshot, Transition};

use crate::io::rival::Sighting;
use crate::links;
use crate::ping::PingState;
use crate::run::Invocation;
use crate::serial::Loss;
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
    /// A peer says its name, for the first time in its life or another than before.
    Named {
        /// When it was read.
        at: Instant,
        /// Its id.
        node: agent_common::NodeId,
        /// Its name.
        name: agent_common::Name,
    },
    /// A lost lease could not be withdrawn: the watchdog, if there is one, is petted no more.
    SelfFenced {
        /// When.
        at: Instant,
        /// The group that may still answer here.
        group: GroupId,
    },
    /// An interface came, went or changed.
    Interface {
        /// When.
        at: Instant,
        /// Its place in [`links::interfaces`].
        place: u8,
        /// What became of it.
        change: links::Change,
        /// As it is now.
        view: links::View,
    },
    /// A serial line was opened or lost.
    Line {
        /// When.
        at: Instant,
        /// Its number.
        line: u8,
        /// Which.
        change: LineChange,
    },
    /// A ping group's state changed.
    Ping {
        /// When.
        at: Instant,
        /// Its place in the configuration.
        group: u8,
        /// State before.
        from: PingState,
        /// State after.
        to: PingState,
    },
    /// Another node uses this one's id.
    Rival {
        /// When it was seen.
        at: Instant,
        /// Where, and what it says.
        sighting: Sighting,
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
            | Self::Named { at, .. }
            | Self::SelfFenced { at, .. }
            | Self::Ping { at, .. }
            | Self::Line { at, .. }
            | Self::Interface { at, .. }
            | Self::Rival { at, .. }
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

/// What happened to a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineChange {
    /// Its device is open.
    Open,
    /// It could not be opened, or is gone.
    Lost(Loss),
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
    /// Announce the longest deadtime, and end once a majority has acknowledged it; a [`Note::Answer`] says whether.
    Pause {
        /// Comes back with the answer.
        ticket: u32,
        /// What for.
        purpose: Purpose,
    },
}

/// What a pause is for: whoever comes next goes on with the state of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The binary on disk takes this process's place.
    Restart,
    /// This process ends, and another is started later (maintenance).
    Stop,
}

/// The keys of one reading of the key file. Secrets are gone: only HMAC's states remain.
#[derive(Clone)]
pub struct Keyring {
    /// The key that signs.
    pub sign_with: KeyId,
    /// By key id, 256 entries.
    pub states: Vec<KeyState>,
}

impl Drop for Keyring {
    fn drop(&mut self) {
        crate::keys::wipe(&mut self.states);
    }
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
    /// The interfaces, in the order of [`links::interfaces`].
    pub interfaces: Vec<links::View>,
    /// Who shuts an address whose holder may not serve it.
    pub gate: GateKind,
    /// Becomes readable (eventfd) when the rt thread has ended.
    pub ended: OwnedFd,
    /// This process.
    pub process: Process,
}

impl ControlSide {
    /// An interface is so from now on.
    pub fn know_interface(&mut self, place: usize, view: links::View) {
        if let Some(known) = self.interfaces.get_mut(place) {
            *known = view;
        }
        let Some(name) = links::interfaces(&self.settings).get(place).map(|name| (*name).to_owned()) else {
            return;
        };
        match view.mode {
            Some(mode) => drop(self.modes.insert(name, mode)),
            None => drop(self.modes.remove(&name)),
        }
    }
}

/// This process, and how it came to run.
#[derive(Clone, Debug)]
pub struct Process {
    /// CLOCK_MONOTONIC of its start.
    pub started_at: Instant,
    /// How often a process has gone on with the state of the one before.
    pub restarts: u64,
    /// With what its present life began.
    pub begun: Begun,
    /// Restarts that were given up, and why the last one was.
    pub failures: u64,
    /// See `failures`.
    pub failure: Option<String>,
    /// Its command line.
    pub invocation: Arc<Invocation>,
}

impl Process {
    /// The process that `invocation` describes, starting at `started_at`.
    pub fn new(invocation: Invocation, started_at: Instant) -> Self {
        Self {
            started_at,
            restarts: 0,
            begun: Begun::Fresh { why: None },
            failures: 0,
            failure: None,
            invocation: Arc::new(invocation),
        }
    }
}

/// With what a life begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Without memory of an earlier one.
    Fresh {
        /// Why what was handed over is of no use, if anything was.
        why: Option<String>,
    },
    /// With the state of the one before.
    Carried {
        /// When that one stopped sending.
        paused_at: Instant,
    },
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
