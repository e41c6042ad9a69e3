//! The state machine of one group's resources on this node: acquired in order, released in reverse. Whether it may is the
//! business of its claim (`lease::tenure`).
//!
//! ```text
//!            take               all held
//! Stopped ----------> Starting ----------> Serving
//!  ^ | ^               | |  ^                | |
//!  | | | pause is over | |  +--- lost -------+ |
//!  | | +--- Failed     | | gave up             |
//!  | |        ^        | v                     |
//!  | | stray  +-- Failing    (all released)    |
//!  | v                 | yield                 | yield
//!  Stopping <----------+-----------------------+
//!   (all released leads back to Stopped; a stray resource leads from Failed to Failing)
//! ```

use core::time::Duration;

use agent_common::{GroupId, NodeId, NodeSet};

use crate::action::{Action, ResourceRef};
use crate::config::{GroupConfig, NodeConfig};
use crate::queue::Actions;
use crate::resource::{Effect, Input as ResourceInput, Resource, State};
use crate::snapshot::GroupState;
use crate::time::Instant;

/// How long a group that failed here is left to others before it is tried again.
pub(crate) const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// Where a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of it is here.
    Stopped,
    /// Resources are being acquired.
    Starting,
    /// All resources are held.
    Serving,
    /// Resources are being released.
    Stopping,
    /// Resources are being released since one could not be acquired.
    Failing,
    /// Nothing of it is here, and it is not tried again for a while.
    Failed,
}

/// What happens to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// This node takes it.
    Take,
    /// This node lets go of it.
    Yield,
    /// The last resource is held.
    AllHeld,
    /// A held resource is held no more.
    Lost,
    /// A resource could not be acquired.
    GaveUp,
    /// The last resource is gone.
    AllReleased,
    /// A resource was found here that should not be.
    Stray,
    /// It has rested long enough after a failure.
    PauseOver,
}

/// The phase after `input`.
pub(crate) const fn next(phase: Phase, input: Input) -> Phase {
    use Phase::{Failed, Failing, Serving, Starting, Stopped, Stopping};
    match (phase, input) {
        (Stopped, Input::Take) => Starting,
        (Starting | Serving | Stopping | Failing | Failed, Input::Take) => phase,
        (Starting | Serving, Input::Yield) => Stopping,
        (Stopped | Stopping | Failing | Failed, Input::Yield) => phase,
        (Starting, Input::AllHeld) => Serving,
        (Stopped | Serving | Stopping | Failing | Failed, Input::AllHeld) => phase,
        (Serving, Input::Lost) => Starting,
        (Stopped | Starting | Stopping | Failing | Failed, Input::Lost) => phase,
        (Starting, Input::GaveUp) => Failing,
        (Stopped | Serving | Stopping | Failing | Failed, Input::GaveUp) => phase,
        (Stopping, Input::AllReleased) => Stopped,
        (Failing, Input::AllReleased) => Failed,
        (Stopped | Starting | Serving | Failed, Input::AllReleased) => phase,
        (Stopped, Input::Stray) => Stopping,
        (Failed, Input::Stray) => Failing,
        (Starting | Serving | Stopping | Failing, Input::Stray) => phase,
        (Failed, Input::PauseOver) => Stopped,
        (Stopped | Starting | Serving | Stopping | Failing, Input::PauseOver) => phase,
    }
}

/// One group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) prefer: alloc::vec::Vec<NodeId>,
    pub(crate) owners: NodeSet,
    pub(crate) auto_failback: bool,
    phase: Phase,
    failed_here: bool,
    retry_at: Instant,
    /// Held addresses are announced again as soon as no rival is left.
    pub(crate) announce: bool,
}

impl Group {
    /// A group of which nothing is here.
    pub(crate) fn new(id: GroupId, config: &GroupConfig, nodes: &[NodeConfig]) -> Self {
        let may_own = |node: &NodeId| nodes.get(node.index()).is_none_or(|node| node.vote && !node.witness);
        let prefer: alloc::vec::Vec<NodeId> = config.prefer.iter().copied().filter(may_own).collect();
        let mut owners = NodeSet::EMPTY;
        prefer.iter().for_each(|node| owners.insert(*node));
        Self {
            id,
            prefer,
            owners,
            auto_failback: config.auto_failback,
            phase: Phase::Stopped,
            failed_here: false,
            retry_at: Instant::NEVER,
            announce: false,
        }
    }

    /// Where it is.
    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the last try failed here.
    pub(crate) const fn failed_here(&self) -> bool {
        self.failed_here
    }

    /// Whether nothing of it is here.
    pub(crate) const fn is_at_rest(&self) -> bool {
        match self.phase {
            Phase::Stopped | Phase::Failed => true,
            Phase::Starting | Phase::Serving | Phase::Stopping | Phase::Failing => false,
        }
    }

    /// Moves it on.
    pub(crate) fn feed(&mut self, input: Input) {
        self.phase = next(self.phase, input);
    }

    /// Ends the pause after a failure when it is over.
    pub(crate) fn rest_until(&mut self, now: Instant) {
        if now >= self.retry_at {
            self.feed(Input::PauseOver);
        }
    }

    /// Ends the pause after a failure now: whoever asks for the group may know that the cause is gone.
    pub(crate) fn retry(&mut self) {
        self.feed(Input::PauseOver);
    }

    /// Goes on with acquiring or releasing: emits what can be done now.
    pub(crate) fn drive(&mut self, resources: &mut [Resource], now: Instant, out: &mut Actions) {
        if self.phase == Phase::Serving && resources.iter().any(|resource| resource.state() != State::Held) {
            self.feed(Input::Lost);
        }
        if self.phase == Phase::Starting {
            self.acquire(resources, now, out);
        }
        match self.phase {
            Phase::Stopping | Phase::Failing => self.release(resources, now, out),
            Phase::Stopped | Phase::Starting | Phase::Serving | Phase::Failed => {}
        }
    }

    /// The next resource that is not held, in order.
    fn acquire(&mut self, resources: &mut [Resource], now: Instant, out: &mut Actions) {
        let missing = resources.iter_mut().zip(0_u8..).find(|(resource, _)| resource.state() != State::Held);
        let Some((resource, index)) = missing else {
            self.failed_here = false;
            self.feed(Input::AllHeld);
            return;
        };
        if resource.is_given_up() {
            self.failed_here = true;
            self.feed(Input::GaveUp);
        } else {
            self.emit(index, resource.feed(ResourceInput::Start, now), out);
        }
    }

    /// The next resource that is here, in reverse. One that cannot be released does not hold back the others.
    fn release(&mut self, resources: &mut [Resource], now: Instant, out: &mut Actions) {
        let mut stuck = false;
        for (index, resource) in resources.iter_mut().enumerate().rev() {
            let Ok(index) = u8::try_from(index) else { continue };
            self.emit(index, resource.feed(ResourceInput::Stop, now), out);
            match resource.state() {
                State::Released => {}
                State::Failed { .. } => stuck = true,
                State::Acquiring { .. } | State::Held | State::Releasing { .. } => return,
            }
        }
        if stuck {
            return;
        }
        self.feed(Input::AllReleased);
        if self.phase == Phase::Failed {
            self.retry_at = now.after(FAILED_PAUSE);
        }
    }

    /// Announces all that is held.
    pub(crate) fn announce_again(&self, resources: &[Resource], out: &mut Actions) {
        for (resource, index) in resources.iter().zip(0_u8..) {
            if resource.state() == State::Held {
                out.push(Action::Announce { resource: ResourceRef { group: self.id, index } });
            }
        }
    }

    /// Puts an effect of resource `index` into the queue.
    pub(crate) fn emit(&self, index: u8, effect: Option<(Effect, u32)>, out: &mut Actions) {
        let resource = ResourceRef { group: self.id, index };
        match effect {
            Some((Effect::Acquire, attempt)) => out.push(Action::Acquire { resource, attempt }),
            Some((Effect::Release, attempt)) => out.push(Action::Release { resource, attempt }),
            None => {}
        }
    }

    /// When it wants to be looked at again. What stands behind an effect under way waits for its answer.
    pub(crate) fn wake(&self, resources: &[Resource]) -> Instant {
        let is_under_way = |resource: &&Resource| match resource.state() {
            State::Acquiring { .. } | State::Held | State::Releasing { .. } => true,
            State::Released | State::Failed { .. } => false,
        };
        match self.phase {
            Phase::Failed => self.retry_at,
            Phase::Starting => {
                let missing = resources.iter().find(|resource| resource.state() != State::Held);
                missing.map_or(Instant::NEVER, Resource::wake)
            }
            Phase::Stopping | Phase::Failing => {
                let waiting = resources.iter().rev().take_while(|resource| !is_under_way(resource));
                waiting.map(Resource::wake).fold(Instant::NEVER, Instant::min)
            }
            Phase::Stopped | Phase::Serving => Instant::NEVER,
        }
    }

    /// The state for people.
    pub(crate) fn state(&self, resources: &[Resource]) -> GroupState {
        match self.phase {
            Phase::Stopped => GroupState::Stopped,
            Phase::Starting => GroupState::Starting,
            Phase::Serving => GroupState::Serving,
            Phase::Stopping | Phase::Failing => {
                if resources.iter().any(Resource::is_stuck) {
                    GroupState::Failed
                } else {
                    GroupState::Stopping
                }
            }
            Phase::Failed => GroupState::Failed,
        }
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
