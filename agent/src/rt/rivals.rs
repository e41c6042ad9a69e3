//! Another node that uses this one's id: told, counted, and for a node that has just started a reason to end, before it
//! takes the other's place. Who has been here for longer than initdead stays: it was here first.
//!
//! Who is outlived may be outbid by a rival rather than by its own past: a young node listens for a deadtime before it
//! bids higher, and nobody bids more than [`STARTS_MAX`] times within initdead.

use std::sync::atomic::Ordering;

use agent_common::rival::Rivals;
use agent_core::Instant;
use agent_core::config::Start;

use super::{Ended, Rt, clock};
use crate::bridge::Note;
use crate::io::rival::{Sent, Sighting, Watch};

/// So many fresh starts within initdead are no clock that went back: two nodes outbid each other.
const STARTS_MAX: usize = 3;
/// Frames behind this node before they are told: one or two may have been under way since its earlier life.
const BEHIND_MIN: u64 = 3;

/// What this thread knows of rivals.
#[derive(Debug, Default)]
pub(super) struct Rivalry {
    watch: Watch,
    /// When this process began to take part; long ago if it went on with an earlier one's state.
    began: Option<Instant>,
    /// Frames behind this node.
    behind: u64,
    /// Whoever makes this node end.
    lost_to: Option<Sighting>,
    /// Since when a peer knows a later life of this node.
    outlived_at: Option<Instant>,
    /// When this node started over, the newest first.
    starts: [Option<Instant>; STARTS_MAX],
}

impl Rt {
    /// Looks whether somebody else was heard with this node's id.
    pub(super) fn drain_rivals(&mut self, now: Instant) {
        let is_young = self.is_young(now);
        let sent = self.sent();
        let kernel = self.parts.kernel.as_ref().map(|kernel| &kernel.rivals);
        let socket: &Rivals = self.parts.receiver.rivals();
        let rivalry = &mut self.rivalry;
        let Some(sighting) = rivalry.watch.look(kernel, socket, sent) else { return };
        self.parts.stats.rival_heartbeats.fetch_add(sighting.frames, Ordering::Relaxed);
        if sighting.is_ahead && is_young {
            rivalry.lost_to = Some(sighting);
        }
        if !sighting.is_ahead {
            rivalry.behind = rivalry.behind.saturating_add(sighting.frames);
        }
        if sighting.is_ahead || rivalry.behind >= BEHIND_MIN {
            self.tell_rival(sighting, now);
        }
    }

    /// Why the loop must end, if it must: for a rival, or to start over.
    pub(super) fn outbid(&mut self) -> Option<Ended> {
        if let Some(sighting) = self.rivalry.lost_to {
            return Some(Ended::Rival(sighting));
        }
        let incarnation = self.node.outlived_by()?;
        let now = clock::now();
        let timing = self.parts.config.timing;
        let is_young = self.is_young(now);
        let rivalry = &mut self.rivalry;
        let outlived_at = *rivalry.outlived_at.get_or_insert(now);
        if is_young && now.since(outlived_at) < timing.deadtime {
            return None;
        }
        let is_recent = |start: &Option<Instant>| start.is_some_and(|at| now.since(at) < timing.initdead);
        if rivalry.starts.iter().all(is_recent) {
            let unseen = Sighting { address: None, link: None, incarnation, is_ahead: true, frames: 0 };
            let sighting = rivalry.watch.newest().unwrap_or(unseen);
            if is_young {
                return Some(Ended::Rival(sighting));
            }
            self.tell_rival(sighting, now);
            return None;
        }
        rivalry.outlived_at = None;
        rivalry.starts.rotate_right(1);
        if let Some(newest) = rivalry.starts.first_mut() {
            *newest = Some(now);
        }
        Some(Ended::Outlived(incarnation))
    }

    /// Whether this process has just started, knowing nothing.
    fn is_young(&mut self, now: Instant) -> bool {
        let initdead = self.parts.config.timing.initdead;
        let carried = matches!(self.parts.config.start, Start::Carried(_));
        let began = *self.rivalry.began.get_or_insert(if carried { Instant::ZERO } else { now });
        now.since(began) < initdead
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
