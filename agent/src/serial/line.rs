//! One line: opened, read, written, lost and opened again. While its device cannot be had, it is looked for twice a
//! second.
//!
//! ```text
//!          wanted                opened
//! Closed ---------> Opening -------------> Open
//!    ^                 | refused             | hangup, error
//!    +-----------------+---------------------+
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_common::{LinkId, NodeId};
use agent_core::Instant;

use super::framing::{Deframer, Found};
use super::opener::Opener;
use super::output::Output;
use super::port::{LineSettings, Loss, Port};
use crate::bridge::LineChange;
use crate::rt::clock;
use crate::stats::LineStats;

/// Between two tries to open a device.
const REOPEN: Duration = Duration::from_millis(500);
/// Reads of one line in a round, so that a flood on it leaves the others their turn.
const READS_MAX: usize = 4;

/// Where it stands.
enum State {
    /// Not there; wanted again at this time.
    Closed(Instant),
    /// Asked for.
    Opening,
    /// There.
    Open(Port),
}

/// What people know of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Open,
    Lost(Loss),
}

/// See the module.
pub(super) struct Line {
    /// Its link.
    pub(super) link: LinkId,
    /// Its number.
    pub(super) number: u8,
    state: State,
    told: Told,
    deframer: Deframer,
    output: Output,
}

impl Line {
    /// A line that is to be opened at once.
    pub(super) fn new(number: u8, settings: &LineSettings, me: NodeId, nodes: usize) -> Self {
        Self {
            link: settings.link,
            number,
            state: State::Closed(Instant::ZERO),
            told: Told::Nothing,
            deframer: Deframer::default(),
            output: Output::new(me, nodes, settings.baud),
        }
    }

    /// Its device, while it is open.
    pub(super) fn port(&self) -> Option<&Port> {
        match &self.state {
            State::Open(port) => Some(port),
            State::Closed(_) | State::Opening => None,
        }
    }

    /// Whether an own heartbeat can be taken now.
    pub(super) fn is_ready(&self) -> bool {
        self.port().is_some() && self.output.is_ready()
    }

    /// Whether everything that was to be sent has been by now.
    pub(super) fn is_through(&self, now: Instant) -> bool {
        self.port().is_none_or(|port| self.output.is_through(now) && port.queued() == 0)
    }

    /// When it wants to be looked at, unless something comes.
    pub(super) fn wake(&self) -> Instant {
        match &self.state {
            State::Closed(until) => *until,
            State::Opening => Instant::NEVER,
            State::Open(_) => self.output.wake(),
        }
    }

    /// Asks for its device when it is time.
    pub(super) fn seek(&mut self, opener: &Opener, now: Instant) {
        if let State::Closed(until) = self.state
            && until <= now
        {
            self.state = State::Opening;
            opener.open(usize::from(self.number));
        }
    }

    /// What the opener says. Returns what people should know.
    pub(super) fn opened(&mut self, result: Result<Port, Loss>, stats: &LineStats) -> Option<LineChange> {
        match result {
            Ok(port) => {
                self.deframer.reset();
                self.output.clear();
                self.state = State::Open(port);
                let is_first = stats.opened.fetch_add(1, Ordering::Relaxed) == 0;
                if !is_first {
                    stats.reopened.fetch_add(1, Ordering::Relaxed);
                }
                stats.open.store(1, Ordering::Relaxed);
                self.told = Told::Open;
                Some(LineChange::Open)
            }
            Err(loss) => {
                self.state = State::Closed(clock::now().after(REOPEN));
                // Once: it is tried twice a second.
                (self.told != Told::Lost(loss)).then(|| {
                    self.told = Told::Lost(loss);
                    LineChange::Lost(loss)
                })
            }
        }
    }

    /// It is gone: closed by the opener, and looked for again.
    pub(super) fn lose(&mut self, loss: Loss, opener: &Opener, stats: &LineStats) -> LineChange {
        let before = std::mem::replace(&mut self.state, State::Closed(clock::now().after(REOPEN)));
        if let State::Open(port) = before {
            opener.close(port);
        }
        add(&stats.dropped, self.output.clear());
        add(&stats.lost, 1);
        stats.open.store(0, Ordering::Relaxed);
        self.told = Told::Lost(loss);
        LineChange::Lost(loss)
    }

    /// Takes a heartbeat to send; a line that is not open has no use for it.
    pub(super) fn put(&mut self, origin: NodeId, hops: u8, heartbeat: &[u8], stats: &LineStats) {
        if self.port().is_some() && self.output.put(origin, hops, heartbeat) {
            add(&stats.dropped, 1);
        }
    }

    /// Reads what is there. `each` gets every frame with the time of the read.
    ///
    /// # Errors
    /// The line is gone.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        stats: &LineStats,
        mut each: impl FnMut(Instant, u8, &[u8]),
    ) -> Result<(), Loss> {
        let State::Open(port) = &self.state else { return Ok(()) };
        for _ in 0..READS_MAX {
            let length = port.read(buffer)?;
            let at = clock::now();
            if length == 0 {
                return Ok(());
            }
            add(&stats.received_bytes, length as u64);
            self.deframer.feed(buffer.get(..length).unwrap_or(&[]), |found| match found {
                Found::Frame { hops, heartbeat } => {
                    add(&stats.received_frames, 1);
                    each(at, hops, heartbeat);
                }
                Found::Noise => add(&stats.noise, 1),
                Found::Overlong => add(&stats.overlong, 1),
            });
        }
        Ok(())
    }

    /// Writes what the line can take now. Returns how many own heartbeats are through.
    ///
    /// # Errors
    /// The line is gone.
    pub(super) fn write(&mut self, stats: &LineStats, now: Instant) -> Result<u64, Loss> {
        let State::Open(port) = &self.state else { return Ok(0) };
        let progress = self.output.pump(&mut &*port, now)?;
        add(&stats.sent_bytes, progress.bytes);
        add(&stats.sent_frames, progress.own + progress.forwarded);
        add(&stats.forwarded, progress.forwarded);
        Ok(progress.own)
    }

    /// The end: what is not on the line by now is dropped.
    pub(super) fn close(self) {
        if let State::Open(port) = self.state {
            port.close();
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}
