//! The ping thread: asks the hosts of every `[[ping]]` by ICMP echo, and tells the rt thread how many groups this node reaches,
//! and of the group that breaks the tie when the request was sent that was answered last.
//!
//! It shares bounded queues and atomics with the others, and nothing waits for it: should it hang, a lease that its
//! answers hold runs out.

pub mod counters;
pub mod packet;
pub mod socket;
mod thread;
pub mod watch;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use agent_core::{Event, Instant};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::{error, warn};

use crate::bridge::Note;
use crate::rt::sched;
use crate::settings::Settings;
use crate::stats::Stats;
use crate::takeover::wake;
use thread::Pinger;

/// Room for what the rt thread has not read yet.
const HEARD: usize = 64;
/// Stack of the thread.
const STACK: usize = 256 * 1024;

/// Whether a ping group, or a target of it, answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PingState {
    /// Asked since the start, and not answered yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It did not answer for its deadtime.
    Dead,
}

impl PingState {
    /// As events and `status` write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Dead => "dead",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Up => 1,
            Self::Dead => 2,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Up,
            2 => Self::Dead,
            _ => Self::Unknown,
        }
    }
}

/// What the rt thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// So many groups are reached; told when it changed.
    Reach(u8),
    /// The group that breaks the tie answered a request that was sent then; told at each later one.
    TieBreak(Instant),
}

impl Heard {
    const fn event(self) -> Event<'static> {
        match self {
            Self::Reach(score) => Event::Reach { score },
            Self::TieBreak(at) => Event::Ping { reached: Some(at) },
        }
    }
}

/// The rt thread's end.
pub struct Ends {
    heard: rtrb::Consumer<Heard>,
    ready: Arc<EventFd>,
    /// What was said last: a node that starts over is told again.
    score: u8,
    reached: Option<Instant>,
}

impl Ends {
    /// What the core is told next.
    pub fn take(&mut self) -> Option<Event<'static>> {
        let heard = self.heard.pop().ok()?;
        match heard {
            Heard::Reach(score) => self.score = score,
            Heard::TieBreak(at) => self.reached = Some(at),
        }
        Some(heard.event())
    }

    /// All that was told, for a node that knows nothing.
    pub fn again(&self) -> impl Iterator<Item = Event<'static>> + use<> {
        let score = Some(Heard::Reach(self.score)).filter(|_| self.score > 0);
        score.into_iter().chain(self.reached.map(Heard::TieBreak)).map(Heard::event)
    }
}

impl AsFd for Ends {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

/// The thread's own ends.
struct Queues {
    heard: rtrb::Producer<Heard>,
    ready: Arc<EventFd>,
    notes: rtrb::Producer<Note>,
    notes_ready: OwnedFd,
}

/// The thread while it runs; ends it when dropped.
pub struct Running {
    bell: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        wake(&self.bell);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the ping thread ended by a defect: please report what is above");
        }
    }
}

/// Starts the thread, which tells the control thread by `notes`; none without ping groups.
///
/// # Errors
/// The system gives no descriptor, no random number or no thread.
pub fn start(
    settings: &Arc<Settings>,
    stats: &Arc<Stats>,
    notes: rtrb::Producer<Note>,
    notes_ready: OwnedFd,
) -> std::io::Result<Option<(Running, Ends)>> {
    if settings.pings.is_empty() {
        return Ok(None);
    }
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let bell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    let ready = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    let (producer, consumer) = rtrb::RingBuffer::new(HEARD);
    let queues = Queues { heard: producer, ready: Arc::clone(&ready), notes, notes_ready };
    let ends = Ends { heard: consumer, ready, score: 0, reached: None };
    let mut pinger = Pinger::new(Arc::clone(settings), queues, Arc::clone(stats), Arc::clone(&bell))?;
    let runtime = settings.runtime.clone();
    let body = move || {
        if let Some(errno) = sched::ping_thread(&runtime).fifo {
            warn!("the ping thread has no realtime scheduling: {errno}");
        }
        pinger.run();
    };
    let thread = Builder::new().name("ping".to_owned()).stack_size(STACK).spawn(body)?;
    Ok(Some((Running { bell, thread: Some(thread) }, ends)))
}

/// What an operator can do about a socket that could not be had.
fn remedy(errno: Errno) -> &'static str {
    if errno == Errno::EPERM || errno == Errno::EACCES {
        " (give it CAP_NET_RAW, or its group a place in net.ipv4.ping_group_range)"
    } else {
        ""
    }
}
