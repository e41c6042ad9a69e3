//! What waits to be sent on one line: of every node the newest heartbeat, since an older one says nothing more; and the
//! frame that is on its way. Frames are given to the kernel one by one at the line's own rate, so that none grows old in
//! a buffer.

use std::time::Duration;

use agent_common::NodeId;
use agent_common::wire::FRAME_MAX;
use agent_core::Instant;

use super::framing::{LINE_MAX, encode};
use super::port::{Loss, Port};

/// Bits of a byte on the line: start, eight, stop.
pub const BITS_PER_BYTE: u64 = 10;
/// A frame follows the one before when no more than this is left of it, so that the line does not idle.
const LEAD: Duration = Duration::from_millis(2);
/// The same in bytes of the kernel's queue, for lines that are held by flow control.
const QUEUED_MAX: usize = 32;
/// Bounds of the pause after a write that was not taken, or a queue that does not move.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Where frames are written: the device, or a test's.
pub trait Sink {
    /// Writes what fits; 0 when nothing does.
    ///
    /// # Errors
    /// It is gone.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Loss>;
    /// Bytes that are not on the line yet.
    fn queued(&mut self) -> usize;
}

impl Sink for &Port {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Loss> {
        Port::write(self, bytes)
    }

    fn queued(&mut self) -> usize {
        Port::queued(self)
    }
}

/// What became of one look at the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that the kernel took.
    pub bytes: u64,
    /// This node's own frames that are through.
    pub own: u64,
    /// Frames of others that are through.
    pub forwarded: u64,
}

/// Of one node.
struct Waiting {
    hops: u8,
    length: usize,
    heartbeat: [u8; FRAME_MAX],
}

/// See the module.
pub struct Output {
    me: NodeId,
    /// By the node whose heartbeat it is; none waits where the length is 0.
    waiting: Vec<Waiting>,
    /// Whose turn is next: all have the same share of the line.
    turn: usize,
    line: Box<[u8; LINE_MAX]>,
    length: usize,
    written: usize,
    is_own: bool,
    ns_per_byte: u64,
    /// When the line is through with what the kernel took, by its rate.
    free_at: Instant,
    retry_at: Instant,
    pause: Duration,
}

impl Output {
    /// Nothing to send yet.
    pub fn new(me: NodeId, nodes: usize, baud: u32) -> Self {
        let waiting = || Waiting { hops: 0, length: 0, heartbeat: [0; FRAME_MAX] };
        Self {
            me,
            waiting: std::iter::repeat_with(waiting).take(nodes.max(me.index() + 1)).collect(),
            turn: 0,
            line: Box::new([0; LINE_MAX]),
            length: 0,
            written: 0,
            is_own: false,
            ns_per_byte: BITS_PER_BYTE * 1_000_000_000 / u64::from(baud.max(1)),
            free_at: Instant::ZERO,
            retry_at: Instant::ZERO,
            pause: PAUSE_MIN,
        }
    }

    /// Takes a heartbeat of `origin`. Returns whether an older one, or this one, is not sent for it.
    pub fn put(&mut self, origin: NodeId, hops: u8, heartbeat: &[u8]) -> bool {
        let Some(waiting) = self.waiting.get_mut(origin.index()) else { return true };
        let Some(place) = waiting.heartbeat.get_mut(..heartbeat.len()) else { return true };
        place.copy_from_slice(heartbeat);
        let replaces = waiting.length != 0;
        (waiting.hops, waiting.length) = (hops, heartbeat.len());
        replaces
    }

    /// Whether the next own heartbeat finds its place free.
    pub fn is_ready(&self) -> bool {
        self.waiting.get(self.me.index()).is_some_and(|waiting| waiting.length == 0)
    }

    /// Whether nothing is left to send.
    pub fn is_empty(&self) -> bool {
        self.written >= self.length && self.waiting.iter().all(|waiting| waiting.length == 0)
    }

    /// Whether the line is through with all that there was, by its rate.
    pub fn is_through(&self, now: Instant) -> bool {
        self.is_empty() && self.free_at <= now
    }

    /// Forgets everything: the line was lost. Returns how many frames that were.
    pub fn clear(&mut self) -> u64 {
        let begun = u64::from(self.written < self.length);
        let waiting = self.waiting.iter_mut().filter(|waiting| waiting.length != 0);
        let dropped = waiting.map(|waiting| waiting.length = 0).count() as u64;
        (self.length, self.written) = (0, 0);
        (self.free_at, self.retry_at, self.pause) = (Instant::ZERO, Instant::ZERO, PAUSE_MIN);
        begun + dropped
    }

    /// When there is something to do, unless something comes.
    pub fn wake(&self) -> Instant {
        if self.is_empty() { Instant::NEVER } else { self.retry_at }
    }

    /// Writes what the line can take now.
    ///
    /// # Errors
    /// The line is gone.
    pub fn pump(&mut self, sink: &mut impl Sink, now: Instant) -> Result<Progress, Loss> {
        let mut progress = Progress::default();
        if self.retry_at > now {
            return Ok(progress);
        }
        loop {
            while self.written < self.length {
                let rest = self.line.get(self.written..self.length).unwrap_or(&[]);
                let taken = sink.write(rest)?;
                if taken == 0 {
                    self.hesitate(now);
                    return Ok(progress);
                }
                self.pause = PAUSE_MIN;
                self.written += taken;
                progress.bytes += taken as u64;
                let on_line = Duration::from_nanos(self.ns_per_byte.saturating_mul(taken as u64));
                self.free_at = self.free_at.max(now).after(on_line);
                if self.written == self.length {
                    *if self.is_own { &mut progress.own } else { &mut progress.forwarded } += 1;
                }
            }
            let Some(next) = self.next() else { return Ok(progress) };
            if self.free_at > now.after(LEAD) {
                self.retry_at = Instant(self.free_at.0.saturating_sub(LEAD.as_nanos() as u64));
                return Ok(progress);
            }
            if sink.queued() > QUEUED_MAX {
                self.hesitate(now);
                return Ok(progress);
            }
            self.begin(next);
        }
    }

    /// The next in turn that has something to say.
    fn next(&self) -> Option<usize> {
        let count = self.waiting.len();
        let turns = (0..count).map(|ahead| (self.turn + ahead) % count);
        turns.into_iter().find(|place| self.waiting.get(*place).is_some_and(|waiting| waiting.length != 0))
    }

    fn begin(&mut self, place: usize) {
        let Some(waiting) = self.waiting.get_mut(place) else { return };
        let heartbeat = waiting.heartbeat.get(..waiting.length).unwrap_or(&[]);
        self.length = encode(waiting.hops, heartbeat, &mut self.line);
        self.written = 0;
        self.is_own = place == self.me.index();
        waiting.length = 0;
        self.turn = place + 1;
    }

    /// The line takes nothing now; each time it is asked less often.
    fn hesitate(&mut self, now: Instant) {
        self.retry_at = now.after(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agent_common::NodeId;
    use agent_common::wire::MAGIC;
    use agent_core::Instant;

    use super::{Loss, Output, Progress, Sink};
    use crate::serial::framing::{Deframer, Found};

    /// A line that takes so many bytes.
    #[derive(Default)]
    struct Line {
        room: usize,
        queued: usize,
        bytes: Vec<u8>,
    }

    impl Sink for Line {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Loss> {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.bytes.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn queued(&mut self) -> usize {
            self.queued
        }
    }

    fn node(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    /// A heartbeat that is told apart by its last byte.
    fn heartbeat(mark: u8) -> [u8; 135] {
        let mut bytes = [mark; 135];
        bytes[..3].copy_from_slice(&MAGIC);
        bytes
    }

    fn marks(line: &Line) -> Vec<u8> {
        let mut seen = Vec::new();
        Deframer::default().feed(&line.bytes, |found| match found {
            Found::Frame { heartbeat, .. } => seen.push(*heartbeat.last().unwrap()),
            Found::Noise | Found::Overlong => seen.push(0xee),
        });
        seen
    }

    /// 139 bytes at 19200 baud take 72.4 ms.
    const ALMOST_ONE_FRAME: Duration = Duration::from_millis(69);

    #[test]
    fn frames_follow_at_the_rate_of_the_line() {
        let (mut output, mut line) = (Output::new(node(0), 3, 19_200), Line::default());
        line.room = usize::MAX;
        let start = Instant(1_000_000_000);
        assert!(!output.put(node(0), 4, &heartbeat(1)));
        assert!(!output.put(node(1), 3, &heartbeat(2)));
        let progress = output.pump(&mut line, start).unwrap();
        assert_eq!((progress.own, progress.forwarded), (1, 0));
        assert!(progress.bytes > 135, "{progress:?}");
        assert_eq!(output.pump(&mut line, start.after(ALMOST_ONE_FRAME)).unwrap(), Progress::default());
        let wake = output.wake();
        assert!(wake > start.after(ALMOST_ONE_FRAME) && wake < start.after(Duration::from_millis(73)));
        assert_eq!(output.pump(&mut line, wake).unwrap().forwarded, 1);
        assert_eq!(marks(&line), [1, 2]);
        assert!(
            output.is_empty()
                && !output.is_through(wake)
                && output.is_through(wake.after(ALMOST_ONE_FRAME * 2))
        );
        assert_eq!(output.wake(), Instant::NEVER);
    }

    #[test]
    fn the_newest_replaces_what_was_not_sent_and_nobody_is_starved() {
        let (mut output, mut line) = (Output::new(node(0), 3, 460_800), Line::default());
        line.room = usize::MAX;
        let mut now = Instant(1_000_000_000);
        assert!(!output.put(node(1), 3, &heartbeat(10)));
        for mark in 1..=9 {
            assert_eq!(output.put(node(0), 4, &heartbeat(mark)), mark > 1);
            assert!(!output.is_ready());
        }
        assert!(!output.put(node(2), 3, &heartbeat(20)));
        output.pump(&mut line, now).unwrap();
        // An own heartbeat at every moment takes no more than its turn.
        while !output.is_empty() {
            now = output.wake().max(now);
            output.pump(&mut line, now).unwrap();
            output.put(node(0), 4, &heartbeat(30));
            if marks(&line).contains(&20) {
                break;
            }
        }
        let seen = marks(&line);
        assert_eq!(seen.first(), Some(&9), "{seen:?}");
        assert!(seen.len() <= 4 && seen.contains(&10) && seen.contains(&20), "{seen:?}");
    }

    #[test]
    fn a_partial_write_is_resumed_and_a_stuck_line_asked_ever_less() {
        let (mut output, mut line) = (Output::new(node(0), 2, 115_200), Line::default());
        line.room = 50;
        let mut now = Instant(1_000_000_000);
        output.put(node(0), 4, &heartbeat(1));
        assert_eq!(output.pump(&mut line, now).unwrap().bytes, 50);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let wake = output.wake();
            pauses.push(wake.since(now));
            now = wake;
            assert_eq!(output.pump(&mut line, now).unwrap(), Progress::default());
        }
        assert_eq!(pauses.last(), Some(&Duration::from_millis(50)), "{pauses:?}");
        assert!(output.is_ready() && !output.is_empty(), "the next own heartbeat has its place");
        output.put(node(0), 4, &heartbeat(2));
        assert!(!output.is_ready());
        line.room = usize::MAX;
        while !output.is_empty() {
            now = output.wake().max(now);
            output.pump(&mut line, now).unwrap();
        }
        assert_eq!(marks(&line), [1, 2]);
    }

    #[test]
    fn nothing_is_put_behind_a_queue_that_does_not_move() {
        let (mut output, mut line) = (Output::new(node(0), 2, 460_800), Line::default());
        (line.room, line.queued) = (usize::MAX, 400);
        output.put(node(0), 4, &heartbeat(1));
        let mut now = Instant(1_000_000_000);
        for _ in 0..20 {
            now = output.wake().max(now);
            assert_eq!(output.pump(&mut line, now).unwrap(), Progress::default());
        }
        output.put(node(0), 4, &heartbeat(2));
        line.queued = 0;
        now = output.wake();
        assert_eq!(output.pump(&mut line, now).unwrap().own, 1);
        assert_eq!(marks(&line), [2], "only the newest");
    }

    #[test]
    fn a_lost_line_forgets_what_it_had() {
        let (mut output, mut line) = (Output::new(node(0), 2, 9_600), Line::default());
        line.room = 10;
        output.put(node(0), 4, &heartbeat(1));
        output.put(node(1), 4, &heartbeat(2));
        output.pump(&mut line, Instant(5)).unwrap();
        assert_eq!(output.clear(), 2);
        assert!(output.is_empty() && output.is_ready());
        assert!(output.put(node(9), 1, &heartbeat(1)), "no such node");
    }
}
