//! What the ping thread said last: a node that starts over is told again, since it has forgotten and the thread tells only
//! changes.

use agent_core::{Event, Instant};

use crate::ping::Heard;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach {
    score: u8,
    reached: Option<Instant>,
}

impl Reach {
    /// Remembers it.
    pub const fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Reach(score) => self.score = score,
            Heard::TieBreak(at) => self.reached = Some(at),
        }
    }

    /// The event that the core gets of it.
    pub const fn event(heard: Heard) -> Event<'static> {
        match heard {
            Heard::Reach(score) => Event::Reach { score },
            Heard::TieBreak(at) => Event::Ping { reached: Some(at) },
        }
    }

    /// All that is known, for a node that knows nothing.
    pub fn events(&self) -> impl Iterator<Item = Event<'static>> + use<> {
        let score = Some(self.score).filter(|score| *score > 0).map(|score| Event::Reach { score });
        let reached = self.reached.map(|at| Event::Ping { reached: Some(at) });
        score.into_iter().chain(reached)
    }
}
