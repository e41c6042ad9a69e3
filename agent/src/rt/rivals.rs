//! Another node that uses this one's id: told, counted, and while this node has never taken part a reason to end, before
//! it takes the other's place. Who is up already stays: it was here first.

use std::sync::atomic::Ordering;

use agent_common::NodeState;
use agent_common::rival::Rivals;
use agent_core::Instant;

use super::{Ended, Rt};
use crate::bridge::Note;
use crate::io::rival::{Sent, Sighting, Watch};

/// So many fresh starts within initdead are no clock that went back: two nodes outbid each other.
const STARTS_MAX: usize = 3;

/// What this thread knows of rivals.
#[derive(Debug, Default)]
pub(super) struct Rivalry {
    watch: Watch,
    /// Whether this process ever was more than joining.
    was_up: bool,
    /// Whoever made this node end.
    lost_to: Option<Sighting>,
    /// When this node started over, the newest first.
    starts: [Option<Instant>; STARTS_MAX],
}

impl Rt {
    /// Looks whether somebody else was heard with this node's id.
    pub(super) fn drain_rivals(&mut self, now: Instant) {
        let sent = self.sent();
        self.rivalry.was_up |= self.node.outgoing().state != NodeState::Joining;
        let kernel = self.parts.kernel.as_ref().map(|kernel| &kernel.rivals);
        let socket: &Rivals = self.parts.receiver.rivals();
        let Some(sighting) = self.rivalry.watch.look(kernel, socket, sent) else { return };
        self.parts.stats.rival_heartbeats.fetch_add(sighting.frames, Ordering::Relaxed);
        if sighting.is_ahead && !self.rivalry.was_up {
            self.rivalry.lost_to = Some(sighting);
        }
        self.tell_rival(sighting, now);
    }

    /// Why the loop must end, if it must: a rival goes before a later life, which may be the rival's.
    pub(super) fn outbid(&mut self, now: Instant) -> Option<Ended> {
        if let Some(sighting) = self.rivalry.lost_to {
            return Some(Ended::Rival(sighting));
        }
        let incarnation = self.node.outlived_by()?;
        let initdead = self.parts.config.timing.initdead;
        let rivalry = &mut self.rivalry;
        let is_recent = |start: &Option<Instant>| start.is_some_and(|at| now.since(at) < initdead);
        if rivalry.starts.iter().all(is_recent) {
            let unseen = Sighting { address: None, link: None, incarnation, is_ahead: true, frames: 0 };
            let sighting = rivalry.watch.newest().unwrap_or(unseen);
            if !rivalry.was_up {
                return Some(Ended::Rival(sighting));
            }
            self.tell_rival(sighting, now);
        }
        self.rivalry.starts.rotate_right(1);
        self.rivalry.starts[0] = Some(now);
        Some(Ended::Outlived(incarnation))
    }

    /// This node starts over: what it has sent so far was its own.
    pub(super) fn end_life(&mut self) {
        let sent = self.sent();
        self.rivalry.watch.begin_life(sent);
    }

    fn sent(&self) -> Sent {
        let beat = self.node.outgoing();
        Sent { incarnation: beat.incarnation, seq: beat.seq }
    }

    fn tell_rival(&mut self, sighting: Sighting, now: Instant) {
        if self.rivalry.watch.is_news(&sighting, now) {
            self.note(Note::Rival { at: now, sighting });
        }
    }
}
