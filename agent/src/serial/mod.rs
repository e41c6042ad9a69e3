//! Serial links: heartbeats over tty lines, read and written by a thread of their own, so that a slow or stuck line
//! delays nothing else. Validation, windows and slots are the rt thread's, as for datagrams.
//!
//! ```text
//! line ──read, stamp──▶ serial thread ──Heard──▶ rt thread: validate, slot ──authentic, not heard before──┐
//! line ◀──at its rate── newest of each node ◀──Order── own heartbeats, and others' for the other lines ◀──┘
//! ```
//! With two lines on each node a link is a ring or a chain. A heartbeat goes round once: a copy that was heard on the link
//! already is not passed on, none goes back on the line that it came on, nor to the node that it is of, and after
//! nodes + `hopfudge` lines it ends.

pub mod ends;
pub mod framing;
pub mod line;
pub mod opener;
pub mod output;
pub mod port;
pub mod running;
pub mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use agent_common::LinkId;
use agent_common::ids::MAX_LINKS;
use agent_common::wire::FRAME_MAX;
use agent_core::Instant;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::bridge::Note;
use crate::settings::{SerialLink, Settings};
use crate::stats::Stats;

pub use ends::Ends;
pub use port::{LineSettings, Loss};
pub use running::Running;
pub use thread::Serial;

/// Most lines of one node.
pub const LINES_MAX: usize = 16;
/// Frames that may wait for the rt thread; and heartbeats that may wait for the serial thread.
const ROOM: usize = 64;
/// [`Shared::reading_since`] when nothing is being read.
const NOT_READING: u64 = u64::MAX;

/// The lines of this node, in the order of the file; the place in the list is a line's number.
pub fn lines(settings: &Settings) -> Vec<LineSettings> {
    let links = settings.links.iter().filter_map(|link| Some((link.id, link.serial()?)));
    let lines = links.flat_map(|(link, serial)| {
        let devices = serial.devices.get(settings.me.index()).into_iter().flatten();
        devices.map(move |device| LineSettings {
            link,
            device: device.clone(),
            baud: serial.baud,
            rtscts: serial.rtscts,
        })
    });
    lines.take(LINES_MAX).collect()
}

/// How many lines a heartbeat may pass on a link of a cluster of so many nodes.
fn hops(nodes: usize, link: &SerialLink) -> u8 {
    u8::try_from(nodes.saturating_add(usize::from(link.hopfudge))).unwrap_or(u8::MAX)
}

/// A frame from a line.
pub struct Heard {
    /// When it was read.
    pub at: Instant,
    /// The link.
    pub link: LinkId,
    /// The line's number.
    pub line: u8,
    /// How many more lines it may pass.
    pub hops: u8,
    frame: Frame,
}

/// A heartbeat for lines.
struct Order {
    /// Bit for each line.
    lines: u32,
    hops: u8,
    frame: Frame,
}

/// A heartbeat, by value: what passes between the threads allocates nothing.
struct Frame {
    length: u16,
    bytes: [u8; FRAME_MAX],
}

impl Frame {
    /// `None` for one that is larger than any.
    fn new(heartbeat: &[u8]) -> Option<Self> {
        let mut bytes = [0; FRAME_MAX];
        bytes.get_mut(..heartbeat.len())?.copy_from_slice(heartbeat);
        Some(Self { length: u16::try_from(heartbeat.len()).ok()?, bytes })
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&[])
    }
}

/// What both threads see without waiting.
struct Shared {
    /// Bit for each line that is open and has no own heartbeat waiting.
    ready: AtomicU32,
    /// From when on frames may have been read that are not in the queue yet, or [`NOT_READING`].
    reading_since: AtomicU64,
}

/// Both threads' parts of this node's serial links, `None` when it has none. `notes` goes to the control thread, which
/// `wake_control` wakes.
///
/// # Errors
/// No descriptor could be made.
pub fn make(
    settings: &Settings,
    stats: &Arc<Stats>,
    notes: rtrb::Producer<Note>,
    wake_control: std::os::fd::OwnedFd,
) -> Result<Option<(Ends, Serial)>, Errno> {
    let lines = lines(settings);
    if lines.is_empty() {
        return Ok(None);
    }
    let (orders, orders_out) = rtrb::RingBuffer::new(ROOM);
    let (heard, heard_out) = rtrb::RingBuffer::new(ROOM);
    let (orders_ready, heard_ready) = (Arc::new(event()?), Arc::new(event()?));
    let shared = Arc::new(Shared { ready: AtomicU32::new(0), reading_since: AtomicU64::new(NOT_READING) });
    let mut links = [ends::LinkLines::default(); MAX_LINKS];
    for (line, bit) in lines.iter().zip(0u32..) {
        let serial = settings.links.get(line.link.index()).and_then(|link| link.serial());
        if let (Some(of_link), Some(serial)) = (links.get_mut(line.link.index()), serial) {
            of_link.lines |= 1 << bit;
            of_link.hops = hops(settings.nodes.len(), serial);
        }
    }
    let ends = Ends::new(
        links,
        orders,
        Arc::clone(&orders_ready),
        heard_out,
        Arc::clone(&heard_ready),
        Arc::clone(&shared),
    );
    let queues = thread::Queues { orders: orders_out, orders_ready, heard, heard_ready, notes, wake_control };
    let serial = Serial::new(settings, &lines, queues, shared, Arc::clone(stats))?;
    Ok(Some((ends, serial)))
}

fn event() -> Result<EventFd, Errno> {
    EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
}

impl Shared {
    fn is_ready(&self, lines: u32) -> bool {
        self.ready.load(Ordering::Relaxed) & lines != 0
    }
}
