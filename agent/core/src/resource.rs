//! The state machine of one resource (a service address): one effect at a time, each with a number of its own, so that
//! a late answer to an earlier one changes nothing.
//!
//! ```text
//!              start                 done
//! Released ------------> Acquiring ---------> Held
//!    ^  |                 |  ^ |  ^            | |
//!    |  | found      fail |  | |  +- vanished -+ |
//!    |  |                 v  | | stop            | stop
//!    |  |   Failed(Acquire) -+ |                 |
//!    |  |              | stop  |                 |
//!    |  v              v       v                 |
//!    +------------- Releasing <------------------+
//!        done         |   ^
//!                fail v   | due
//!               Failed(Release)
//! ```
//! A failed effect is tried again after a pause that grows. A release supersedes an acquisition that is under way.

use core::time::Duration;

use crate::event::Failure;
use crate::time::Instant;

/// Tries of acquiring before the group gives up here.
pub(crate) const ACQUIRE_TRIES_MAX: u32 = 3;
/// Pause after the first failed try; it quadruples with each.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest pause between two tries.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Least time between two repairs of an address that somebody keeps removing.
pub(crate) const REPAIR_PAUSE: Duration = Duration::from_millis(50);

/// Which effect failed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It could not be acquired.
    Acquire,
    /// It could not be released: it may still answer here.
    Release,
}

/// The state of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not here.
    Released,
    /// An acquisition is under way, after `tries` that failed.
    Acquiring {
        /// Failed tries before this one.
        tries: u32,
        /// Somebody removed it meanwhile: acquire once more when this ends.
        again: bool,
    },
    /// Here.
    Held,
    /// A release is under way, after `tries` that failed.
    Releasing {
        /// Failed tries before this one.
        tries: u32,
    },
    /// The last effect failed; it may be tried again at `retry_at`.
    Failed {
        /// Which effect.
        side: Side,
        /// Failed tries.
        tries: u32,
        /// Not before.
        retry_at: Instant,
    },
}

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The group wants it here.
    Start,
    /// The group wants it gone.
    Stop,
    /// The effect under way succeeded.
    Done,
    /// The effect under way failed.
    Fail,
    /// Somebody removed it.
    Vanished,
    /// It was found here.
    Found,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Acquire it.
    Acquire,
    /// Release it.
    Release,
}

/// The state and the effect after `input` at `now`; `repair_at` is the earliest moment of the next repair.
pub(crate) fn next(state: State, input: Input, now: Instant, repair_at: Instant) -> (State, Option<Effect>) {
    use State::{Acquiring, Failed, Held, Released, Releasing};
    const ACQUIRE: (State, Option<Effect>) = (Acquiring { tries: 0, again: false }, Some(Effect::Acquire));
    const RELEASE: (State, Option<Effect>) = (Releasing { tries: 0 }, Some(Effect::Release));
    let failed = |side, tries: u32| Failed { side, tries, retry_at: now.after(pause(tries)) };
    match (state, input) {
        (Released, Input::Start) | (Failed { side: Side::Release, .. }, Input::Start) => ACQUIRE,
        (Failed { side: Side::Acquire, tries, retry_at }, Input::Start) => {
            if now >= retry_at && tries < ACQUIRE_TRIES_MAX {
                (Acquiring { tries, again: false }, Some(Effect::Acquire))
            } else {
                (state, None)
            }
        }
        (Acquiring { .. } | Held | Releasing { .. }, Input::Start) => (state, None),

        (Acquiring { .. } | Held | Failed { side: Side::Acquire, .. }, Input::Stop) => RELEASE,
        (Failed { side: Side::Release, tries, retry_at }, Input::Stop) => {
            if now >= retry_at {
                (Releasing { tries }, Some(Effect::Release))
            } else {
                (state, None)
            }
        }
        (Released | Releasing { .. }, Input::Stop) => (state, None),

        (Acquiring { again: false, .. }, Input::Done) => (Held, None),
        (Acquiring { again: true, .. }, Input::Done) => repair(now, repair_at),
        (Releasing { .. }, Input::Done) => (Released, None),
        (Released | Held | Failed { .. }, Input::Done) => (state, None),

        (Acquiring { tries, .. }, Input::Fail) => (failed(Side::Acquire, tries + 1), None),
        (Releasing { tries }, Input::Fail) => (failed(Side::Release, tries.saturating_add(1)), None),
        (Released | Held | Failed { .. }, Input::Fail) => (state, None),

        (Held, Input::Vanished) => repair(now, repair_at),
        (Acquiring { tries, .. }, Input::Vanished) => (Acquiring { tries, again: true }, None),
        (Failed { side: Side::Release, .. }, Input::Vanished) => (Released, None),
        (Released | Releasing { .. } | Failed { side: Side::Acquire, .. }, Input::Vanished) => (state, None),

        (Released, Input::Found) => RELEASE,
        (Acquiring { .. } | Held | Releasing { .. } | Failed { .. }, Input::Found) => (state, None),
    }
}

/// Acquires at once, or waits if the last repair was only just now.
fn repair(now: Instant, repair_at: Instant) -> (State, Option<Effect>) {
    if now >= repair_at {
        (State::Acquiring { tries: 0, again: false }, Some(Effect::Acquire))
    } else {
        (State::Failed { side: Side::Acquire, tries: 0, retry_at: repair_at }, None)
    }
}

/// The pause after `tries` failed tries.
fn pause(tries: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(4_u32.saturating_pow(tries.saturating_sub(1))).min(PAUSE_MAX)
}

/// One resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resource {
    state: State,
    /// The number of the newest effect.
    attempt: u32,
    repair_at: Instant,
    /// Somebody removed it while nothing may be repaired.
    missing: bool,
}

impl Resource {
    /// One that is not here.
    pub(crate) const fn new() -> Self {
        Self { state: State::Released, attempt: 0, repair_at: Instant::ZERO, missing: false }
    }

    /// Its state.
    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// Somebody removed it, and it is not to be repaired now.
    pub(crate) fn note_missing(&mut self) {
        self.missing = self.state == State::Held;
    }

    /// Whether it is to be repaired since [`Resource::note_missing`]; once.
    pub(crate) fn take_missing(&mut self) -> bool {
        core::mem::take(&mut self.missing) && self.state == State::Held
    }

    /// Feeds `input`; the effect to emit, with its number.
    pub(crate) fn feed(&mut self, input: Input, now: Instant) -> Option<(Effect, u32)> {
        let (state, effect) = next(self.state, input, now, self.repair_at);
        let repairs = matches!(
            (self.state, input),
            (State::Held, Input::Vanished) | (State::Acquiring { again: true, .. }, Input::Done)
        );
        self.state = state;
        let effect = effect?;
        if repairs {
            self.repair_at = now.after(REPAIR_PAUSE);
        }
        self.attempt = self.attempt.wrapping_add(1);
        Some((effect, self.attempt))
    }

    /// Feeds the answer to effect `attempt` of kind `effect`; the tries so far if it failed and still mattered.
    pub(crate) fn answer(
        &mut self,
        effect: Effect,
        attempt: u32,
        result: Result<(), Failure>,
        now: Instant,
    ) -> Option<(Effect, u32)> {
        let awaited = match self.state {
            State::Acquiring { .. } => effect == Effect::Acquire,
            State::Releasing { .. } => effect == Effect::Release,
            State::Released | State::Held | State::Failed { .. } => false,
        };
        if !awaited || attempt != self.attempt {
            return None;
        }
        self.feed(if result.is_ok() { Input::Done } else { Input::Fail }, now)
    }

    /// When it wants to be looked at again.
    pub(crate) const fn wake(&self) -> Instant {
        match self.state {
            State::Failed { retry_at, .. } => retry_at,
            State::Released | State::Acquiring { .. } | State::Held | State::Releasing { .. } => {
                Instant::NEVER
            }
        }
    }

    /// Failed tries of the effect that failed last.
    pub(crate) const fn tries(&self) -> Option<u32> {
        match self.state {
            State::Failed { tries, .. } => Some(tries),
            State::Released | State::Acquiring { .. } | State::Held | State::Releasing { .. } => None,
        }
    }

    /// Whether it could not be released: it may still answer here.
    pub(crate) const fn is_stuck(&self) -> bool {
        match self.state {
            State::Failed { side: Side::Release, .. } => true,
            State::Releasing { tries } => tries > 0,
            State::Failed { side: Side::Acquire, .. }
            | State::Released
            | State::Acquiring { .. }
            | State::Held => false,
        }
    }

    /// Whether all tries of acquiring it failed.
    pub(crate) const fn is_given_up(&self) -> bool {
        match self.state {
            State::Failed { side: Side::Acquire, tries, .. } => tries >= ACQUIRE_TRIES_MAX,
            State::Failed { side: Side::Release, .. }
            | State::Released
            | State::Acquiring { .. }
            | State::Held
            | State::Releasing { .. } => false,
        }
    }
}

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;
