//! What will happen, in order of true time. Events at the same moment come in the order in which they were planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// One thing that will happen. Small, since there are millions of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// A frame arrives.
    Frame {
        /// At whom.
        to: u8,
        /// Over which link.
        link: u8,
        /// Which.
        packet: u32,
        /// Whether the attacker sent it.
        forged: bool,
    },
    /// An agent wakes.
    Round {
        /// Of which machine.
        node: u8,
        /// In which life of it.
        life: u32,
        /// The number of the timer that woke it; `None`: it was woken by something else.
        timer: Option<u32>,
    },
    /// A round that was interrupted after it had read the clock goes on.
    Read {
        /// Of which machine.
        node: u8,
        /// In which life of it.
        life: u32,
    },
    /// An agent executes its next action.
    Act {
        /// Of which machine.
        node: u8,
        /// In which life of it.
        life: u32,
    },
    /// An address was added or removed.
    Effect {
        /// Of which machine.
        node: u8,
        /// In which life of it.
        life: u32,
        /// Which group.
        group: u8,
        /// Added, else removed.
        acquires: bool,
        /// The attempt of the action.
        attempt: u32,
    },
    /// A paused agent goes on.
    Resume {
        /// Of which machine.
        node: u8,
        /// In which life of it.
        life: u32,
    },
    /// An agent starts, on a machine without one.
    Start {
        /// Which machine.
        node: u8,
        /// In which life it stopped.
        life: u32,
    },
    /// A frozen machine goes on.
    Thaw {
        /// Which.
        node: u8,
    },
    /// What was carried over must be given up if it was not taken by now.
    Reload {
        /// Which machine.
        node: u8,
    },
    /// The slewing of a clock ends.
    Unslew {
        /// Of which machine.
        node: u8,
    },
    /// An agent sends a request to the ping group.
    Ping {
        /// Of which machine.
        node: u8,
        /// In which life of it.
        life: u32,
    },
    /// The answer to a request.
    Pong {
        /// To which machine.
        node: u8,
        /// In which life of it.
        life: u32,
        /// When it was sent, by the machine's clock.
        sent: u64,
    },
    /// The ping group is reached from this side from now on, if from any.
    Reached {
        /// By whom.
        node: u8,
    },
    /// What nodes reach changes.
    Outside,
    /// The next agent is replaced.
    Roll {
        /// Of which machine.
        node: u8,
    },
    /// A voter loses its memory, and with it what it promised to the holder.
    Forget {
        /// The voter.
        voter: u8,
        /// The holder.
        holder: u8,
    },
    /// Something breaks.
    Fault,
    /// The network heals.
    Heal,
    /// The attacker replays something.
    Replay,
    /// The next part of the scenario.
    Stage,
}

impl Due {
    /// The machine that does it, and that does nothing while it is frozen.
    pub(super) const fn of_machine(self) -> Option<u8> {
        match self {
            Self::Round { node, .. }
            | Self::Read { node, .. }
            | Self::Act { node, .. }
            | Self::Effect { node, .. }
            | Self::Resume { node, .. }
            | Self::Start { node, .. }
            | Self::Ping { node, .. }
            | Self::Pong { node, .. }
            | Self::Reload { node } => Some(node),
            Self::Frame { .. }
            | Self::Unslew { .. }
            | Self::Forget { .. }
            | Self::Thaw { .. }
            | Self::Reached { .. }
            | Self::Outside
            | Self::Roll { .. }
            | Self::Fault
            | Self::Heal
            | Self::Replay
            | Self::Stage => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    order: u64,
    due: Due,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap's greatest is what comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    planned: u64,
}

impl Queue {
    /// Plans `due` for the true time `at`.
    pub(super) fn plan(&mut self, at: u64, due: Due) {
        self.planned += 1;
        self.heap.push(Entry { at, order: self.planned, due });
    }

    /// What comes next, if it comes not after `end`.
    pub(super) fn next(&mut self, end: u64) -> Option<(u64, Due)> {
        if self.heap.peek()?.at > end {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.due))
    }

    /// How many events were ever planned.
    pub(super) const fn planned(&self) -> u64 {
        self.planned
    }
}
