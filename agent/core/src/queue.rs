//! The queue of actions between two drains. Its bound follows from the configuration, so it never grows and never fills:
//! one call reports each peer, link, group and resource at most a fixed number of times.

use alloc::collections::VecDeque;

use agent_common::ids::MAX_LINKS;

use crate::action::{Action, Change, Transition};
use crate::config::Config;
use crate::time::Instant;

/// Most actions of one call that belong to a peer: two changes of state, a restart, and one change for each link.
const PER_PEER: usize = 3 + MAX_LINKS;
/// Most actions of one call that belong to a group itself: changes of its state and owner.
const PER_GROUP: usize = 24;
/// Most actions of one call that belong to a resource: an effect, a failure, an announcement, and the reverse effect.
const PER_RESOURCE: usize = 4;
/// Send, watchdog, quorum, lateness, finished, with room.
const PER_NODE: usize = 16 + 2 * crate::command::PENDING_MAX;

/// Actions in the order in which they were decided.
#[derive(Debug)]
pub(crate) struct Actions {
    queue: VecDeque<Action>,
    bound: usize,
}

impl Actions {
    /// A queue that holds all that one call can say under `config`.
    pub(crate) fn new(config: &Config) -> Self {
        let resources: usize = config.groups.iter().map(|group| usize::from(group.resources)).sum();
        let bound = PER_NODE
            + config.nodes.len() * PER_PEER
            + config.groups.len() * PER_GROUP
            + resources * PER_RESOURCE;
        Self { queue: VecDeque::with_capacity(bound), bound }
    }

    /// Appends `action`. A caller that does not drain can fill the queue: the newest action is then lost.
    pub(crate) fn push(&mut self, action: Action) {
        debug_assert!(self.queue.len() < self.bound, "actions were not drained");
        if self.queue.len() < self.bound {
            self.queue.push_back(action);
        }
    }

    /// Appends a change that happened at `at`.
    pub(crate) fn tell(&mut self, at: Instant, what: Change) {
        self.push(Action::Transition(Transition { at, what }));
    }

    /// The oldest action.
    pub(crate) fn pop(&mut self) -> Option<Action> {
        self.queue.pop_front()
    }
}
