//! The rt thread's side of the serial links: hands over heartbeats to send, takes what was read, and decides what is
//! passed on. Nothing here waits, and nothing allocates.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_common::ids::MAX_LINKS;
use agent_common::wire::at;
use agent_common::{LinkId, NodeId, Reject};
use agent_core::Instant;
use nix::sys::eventfd::EventFd;

use super::{Frame, Heard, LINES_MAX, Order, ROOM, Shared};
use crate::io::paths::Sent;
use crate::io::receiver::Receiver;
use crate::stats::Stats;
use crate::takeover::wake;

/// The serial thread reads without a pause: one that seems to read for longer hangs, and is waited for no more.
const READING_MAX: Duration = Duration::from_millis(100);
/// Who is at the other end of a line is believed for so long after it was last heard from there.
const NEIGHBOUR_FOR: Duration = Duration::from_secs(30);

/// The lines of one link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkLines {
    /// Bit for each line.
    pub(super) lines: u32,
    /// How many lines a heartbeat may pass.
    pub(super) hops: u8,
}

/// Who is at the other end of a line.
#[derive(Clone, Copy)]
struct Neighbour {
    node: NodeId,
    at: Instant,
}

/// See the module.
pub struct Ends {
    links: [LinkLines; MAX_LINKS],
    neighbours: [Option<Neighbour>; LINES_MAX],
    heard: rtrb::Consumer<Heard>,
    heard_ready: Arc<EventFd>,
    shared: Arc<Shared>,
    /// Dropped before the bell rings: the serial thread finds it abandoned then, and ends.
    orders: rtrb::Producer<Order>,
    bell: Bell,
}

/// Wakes the serial thread, and once more when the rt thread has ended.
struct Bell(Arc<EventFd>);

impl Drop for Bell {
    fn drop(&mut self) {
        wake(&self.0);
    }
}

impl Ends {
    pub(super) fn new(
        links: [LinkLines; MAX_LINKS],
        orders: rtrb::Producer<Order>,
        orders_ready: Arc<EventFd>,
        heard: rtrb::Consumer<Heard>,
        heard_ready: Arc<EventFd>,
        shared: Arc<Shared>,
    ) -> Self {
        let bell = Bell(orders_ready);
        Self { links, neighbours: [None; LINES_MAX], heard, heard_ready, shared, orders, bell }
    }

    /// Whether this node has a line of the link.
    pub fn usable(&self, link: LinkId) -> bool {
        self.link(link).lines != 0
    }

    /// What wakes the rt thread.
    pub fn ready(&self) -> BorrowedFd<'_> {
        self.heard_ready.as_fd()
    }

    /// Hands over one of this node's own heartbeats. It counts as sent when a line can take it: one that is not open, or
    /// still has the heartbeat before, cannot; the newest waits there all the same.
    pub fn send(&mut self, link: LinkId, heartbeat: &[u8], stats: &Stats) -> Sent {
        let LinkLines { lines, hops } = self.link(link);
        let is_ready = self.shared.is_ready(lines);
        let is_taken = self.order(lines, hops, heartbeat, stats);
        if is_ready && is_taken {
            return Sent::Some;
        }
        if let Some(count) = stats.send_failed.get(link.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Sent::None
    }

    /// Takes all that was read. Returns the moment up to which everything that was read is in the slots.
    pub fn drain(&mut self, receiver: &mut Receiver, now: Instant, stats: &Stats) -> Instant {
        // Before the queue: what is read after this look is stamped later than `now`.
        let since = Instant(self.shared.reading_since.load(Ordering::SeqCst));
        for _ in 0..ROOM {
            let Ok(heard) = self.heard.pop() else { break };
            match receiver.take(heard.frame.bytes(), heard.link, heard.at, stats) {
                Ok(accepted) => self.pass_on(accepted.node, &heard, stats),
                Err(Reject::OwnNode) => count(stats, heard.line, |line| &line.returned),
                Err(_) => {}
            }
        }
        if now.since(since) > READING_MAX { now } else { now.min(since) }
    }

    /// An authentic heartbeat that this link had not brought yet goes out of the link's other lines.
    fn pass_on(&mut self, origin: NodeId, heard: &Heard, stats: &Stats) {
        let LinkLines { lines, hops } = self.link(heard.link);
        if heard.hops == hops
            && let Some(neighbour) = self.neighbours.get_mut(usize::from(heard.line))
        {
            *neighbour = Some(Neighbour { node: origin, at: heard.at });
        }
        let others = lines & !(1 << heard.line);
        let others = others & !self.lines_to(origin, heard.at);
        if others == 0 {
            return;
        }
        // The limit stands outside of what the tag covers: what a line made of it is bounded.
        match heard.hops.min(hops).checked_sub(1).filter(|left| *left > 0) {
            Some(left) => {
                self.order(others, left, heard.frame.bytes(), stats);
            }
            None => count(stats, heard.line, |line| &line.dropped),
        }
    }

    /// The lines at whose other end the node is.
    fn lines_to(&self, node: NodeId, now: Instant) -> u32 {
        let neighbours = self.neighbours.iter().zip(0u32..);
        let there = neighbours.filter(|(neighbour, _)| {
            neighbour
                .is_some_and(|neighbour| neighbour.node == node && now.since(neighbour.at) <= NEIGHBOUR_FOR)
        });
        there.fold(0, |lines, (_, bit)| lines | 1 << bit)
    }

    fn order(&mut self, lines: u32, hops: u8, heartbeat: &[u8], stats: &Stats) -> bool {
        let Some(frame) = Frame::new(heartbeat) else { return false };
        let is_taken = self.orders.push(Order { lines, hops, frame }).is_ok();
        if !is_taken {
            stats.dropped.fetch_add(1, Ordering::Relaxed);
        }
        wake(&self.bell.0);
        is_taken
    }

    fn link(&self, link: LinkId) -> LinkLines {
        self.links.get(link.index()).copied().unwrap_or_default()
    }
}

/// The node whose heartbeat it is.
pub(super) fn origin(heartbeat: &[u8]) -> Option<NodeId> {
    heartbeat.get(at::NODE).copied().and_then(NodeId::new)
}

fn count(stats: &Stats, line: u8, of: impl Fn(&crate::stats::LineStats) -> &std::sync::atomic::AtomicU64) {
    if let Some(line) = stats.lines.get(usize::from(line)) {
        of(line).fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "ends_tests.rs"]
mod tests;
