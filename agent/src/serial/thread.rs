//! The serial thread: all lines of this node, just below the rt thread. It waits for none of them, and ends when the rt
//! thread has ended and its last heartbeats are on the lines.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_common::NodeId;
use agent_core::Instant;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;

use super::line::Line;
use super::opener::Opener;
use super::port::{LineSettings, Loss};
use super::{Frame, Heard, LINES_MAX, NOT_READING, Order, Shared, ends};
use crate::bridge::{LineChange, Note};
use crate::rt::clock;
use crate::settings::Settings;
use crate::stats::{LineStats, Stats};
use crate::takeover::wake;

/// The thread wakes at least this often, so that a lost wake-up costs no more.
const IDLE: Duration = Duration::from_secs(1);
/// How long the last heartbeats may take to get on the lines.
const FAREWELL: Duration = Duration::from_secs(1);
/// Between two looks whether they are.
const FAREWELL_LOOK: Duration = Duration::from_millis(2);
/// Bytes of one read: what a tty holds at most.
const READ: usize = 4096;

/// The thread's ends of its queues.
pub(super) struct Queues {
    /// From the rt thread.
    pub(super) orders: rtrb::Consumer<Order>,
    /// Written after each order.
    pub(super) orders_ready: Arc<EventFd>,
    /// To the rt thread.
    pub(super) heard: rtrb::Producer<Heard>,
    /// Wakes it.
    pub(super) heard_ready: Arc<EventFd>,
    /// To the control thread.
    pub(super) notes: rtrb::Producer<Note>,
    /// Wakes it.
    pub(super) wake_control: OwnedFd,
}

/// All that the thread owns.
pub struct Serial {
    me: NodeId,
    lines: Vec<Line>,
    opener: Opener,
    outlet: Outlet,
    orders: rtrb::Consumer<Order>,
    orders_ready: Arc<EventFd>,
    shared: Arc<Shared>,
    stats: Arc<Stats>,
    buffer: Box<[u8; READ]>,
}

/// Where frames and notes go.
struct Outlet {
    heard: rtrb::Producer<Heard>,
    heard_ready: Arc<EventFd>,
    notes: rtrb::Producer<Note>,
    wake_control: OwnedFd,
}

impl Serial {
    /// Puts the thread's state together; no device is opened yet.
    ///
    /// # Errors
    /// The thread that opens devices could not be had.
    pub(super) fn new(
        settings: &Settings,
        lines: &[LineSettings],
        queues: Queues,
        shared: Arc<Shared>,
        stats: Arc<Stats>,
    ) -> Result<Self, Errno> {
        let opener = Opener::start(lines.to_vec())
            .map_err(|error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw))?;
        let line =
            |(line, number): (&LineSettings, u8)| Line::new(number, line, settings.me, settings.nodes.len());
        let Queues { orders, orders_ready, heard, heard_ready, notes, wake_control } = queues;
        Ok(Self {
            me: settings.me,
            lines: lines.iter().zip(0u8..).map(line).collect(),
            opener,
            outlet: Outlet { heard, heard_ready, notes, wake_control },
            orders,
            orders_ready,
            shared,
            stats,
            buffer: Box::new([0; READ]),
        })
    }

    /// Works until the rt thread has ended.
    pub fn run(mut self) {
        loop {
            let has_ended = self.orders.is_abandoned();
            self.round();
            if has_ended {
                return self.take_leave();
            }
            self.wait(IDLE);
        }
    }

    /// Everything that is there now: orders, opened devices, bytes in and out.
    fn round(&mut self) {
        while let Ok(order) = self.orders.pop() {
            self.accept(&order);
        }
        while let Some((place, result)) = self.opener.next() {
            let Some(line) = self.lines.get_mut(place) else { continue };
            if let Some(change) = line.opened(result, of(&self.stats, line)) {
                self.outlet.tell(line, change, &self.stats);
            }
        }
        let now = clock::now();
        // What is read from now on is not in the queue yet (see `Ends::drain`).
        self.shared.reading_since.store(now.0, Ordering::SeqCst);
        for line in &mut self.lines {
            let (stats, outlet) = (of(&self.stats, line), &mut self.outlet);
            let (link, number) = (line.link, line.number);
            let mut each = |at, hops, heartbeat: &[u8]| {
                if let Some(frame) = Frame::new(heartbeat) {
                    outlet.pass(Heard { at, link, line: number, hops, frame }, &self.stats);
                }
            };
            let done = line.read(&mut *self.buffer, stats, &mut each);
            if let Err(loss) = done.and_then(|()| write(line, &self.stats, now)) {
                let change = line.lose(loss, &self.opener, stats);
                self.outlet.tell(line, change, &self.stats);
            }
            line.seek(&self.opener, now);
        }
        self.shared.reading_since.store(NOT_READING, Ordering::SeqCst);
        let ready = self.lines.iter().filter(|line| line.is_ready());
        let ready = ready.fold(0, |ready, line| ready | 1 << line.number);
        self.shared.ready.store(ready, Ordering::Relaxed);
    }

    fn accept(&mut self, order: &Order) {
        let heartbeat = order.frame.bytes();
        // The rt thread hands over only its own heartbeats and authentic ones.
        let origin = ends::origin(heartbeat).unwrap_or(self.me);
        for line in self.lines.iter_mut().filter(|line| order.lines & 1 << line.number != 0) {
            line.put(origin, order.hops, heartbeat, of(&self.stats, line));
        }
    }

    /// The last heartbeats say that this node goes, so they have some time to get out.
    fn take_leave(mut self) {
        let mut now = clock::now();
        let until = now.after(FAREWELL);
        while now < until && !self.lines.iter().all(|line| line.is_through(now)) {
            self.wait(FAREWELL_LOOK);
            self.round();
            now = clock::now();
        }
        self.lines.into_iter().for_each(Line::close);
    }

    fn wait(&mut self, most: Duration) {
        let now = clock::now();
        let due = self.lines.iter().map(Line::wake).fold(Instant::NEVER, Instant::min);
        let span = due.since(now).min(most);
        let mut ready: [PollFd<'_>; LINES_MAX + 2] =
            std::array::from_fn(|_| PollFd::new(self.orders_ready.as_fd(), PollFlags::POLLIN));
        let ports = self.lines.iter().filter_map(Line::port).map(|port| port.as_fd());
        let watched = std::iter::once(self.opener.ready()).chain(ports);
        for (place, descriptor) in ready.iter_mut().skip(1).zip(watched) {
            *place = PollFd::new(descriptor, PollFlags::POLLIN);
        }
        let used = 2 + self.lines.iter().filter(|line| line.port().is_some()).count();
        // An interruption or a failure ends the wait early, and everything is looked at again.
        let _ = ppoll(ready.get_mut(..used).unwrap_or(&mut []), Some(TimeSpec::from_duration(span)), None);
        let _ = self.orders_ready.read();
        self.opener.hush();
    }
}

fn write(line: &mut Line, stats: &Stats, now: Instant) -> Result<(), Loss> {
    let own = line.write(of(stats, line), now)?;
    if let Some(sent) = stats.sent.get(line.link.index()) {
        sent.fetch_add(own, Ordering::Relaxed);
    }
    Ok(())
}

/// A line's counters: there are as many as lines.
fn of<'s>(stats: &'s Stats, line: &Line) -> &'s LineStats {
    stats.lines.get(usize::from(line.number)).unwrap_or(&stats.lines[0])
}

impl Outlet {
    fn pass(&mut self, heard: Heard, stats: &Stats) {
        if self.heard.push(heard).is_err() {
            stats.dropped.fetch_add(1, Ordering::Relaxed);
        }
        wake(&self.heard_ready);
    }

    fn tell(&mut self, line: &Line, change: LineChange, stats: &Stats) {
        let note = Note::Line { at: clock::now(), line: line.number, change };
        if self.notes.push(note).is_err() {
            stats.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // A full counter means that the reader has been woken already.
        let _ = nix::unistd::write(&self.wake_control, &1u64.to_ne_bytes());
    }
}
