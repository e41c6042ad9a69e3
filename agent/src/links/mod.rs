//! The follower: the thread `links` watches the interfaces that the configuration names, which may come late, go and
//! return with another index. It puts the programs on them, opens the sockets and hands them to the rt thread, and says
//! where service addresses may be put. It may wait for the kernel (RTNL, drivers); nobody waits for it.
//!
//! What it hands over it made, and what it gets back it closes: the rt thread neither opens nor closes anything.

pub mod follower;
pub mod grounds;
pub mod neighbours;
pub mod parts;
pub mod watch;

use std::sync::Arc;

use agent_common::LinkId;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::gate::guard;
use crate::io::paths::Part;
use crate::settings::{ReceiveMode, Settings};
use crate::takeover::wake;

/// Room for what the rt thread has not read yet, and for what it gives back.
const ROOM: usize = 64;

/// What the rt thread gets.
pub enum Wire {
    /// The sockets on the link interface at `place`, none while it is away. Those before are given back.
    Part {
        /// As [`Settings::link_interfaces`] counts.
        place: usize,
        /// The sockets.
        part: Option<Box<Part>>,
    },
    /// The interface of a link can carry, or cannot any more.
    Carrier {
        /// The link.
        link: LinkId,
        /// Whether it can.
        up: bool,
    },
}

/// The rt thread's end.
pub struct RtEnd {
    /// What was found.
    pub wires: rtrb::Consumer<Wire>,
    /// Woken when there is something.
    pub wires_ready: Arc<EventFd>,
    /// What is to be closed.
    pub returned: rtrb::Producer<Box<Part>>,
    /// Last, so that the follower finds its queue abandoned when it is woken.
    bell: Bell,
}

/// The follower's end.
pub struct FollowerEnd {
    wires: rtrb::Producer<Wire>,
    wires_ready: Arc<EventFd>,
    returned: rtrb::Consumer<Box<Part>>,
    returned_ready: Arc<EventFd>,
}

/// Wakes the follower, and once more when the rt thread has ended.
struct Bell(Arc<EventFd>);

impl Drop for Bell {
    fn drop(&mut self) {
        wake(&self.0);
    }
}

impl RtEnd {
    /// Gives back what is in use no more. Should there be no room, which what was handed over bounds, it stays open.
    pub fn give_back(&mut self, part: Box<Part>) {
        if let Err(rtrb::PushError::Full(part)) = self.returned.push(part) {
            std::mem::forget(part);
        }
        wake(&self.bell.0);
    }
}

impl FollowerEnd {
    /// Hands something to the rt thread.
    ///
    /// # Errors
    /// There is no room; it comes back.
    pub fn hand(&mut self, wire: Wire) -> Result<(), Wire> {
        self.wires.push(wire).map_err(|rtrb::PushError::Full(wire)| wire)?;
        wake(&self.wires_ready);
        Ok(())
    }

    /// What the rt thread has given back.
    pub fn take_back(&mut self) -> Option<Box<Part>> {
        self.returned.pop().ok()
    }

    /// Whether the rt thread has ended.
    pub fn is_abandoned(&self) -> bool {
        self.wires.is_abandoned()
    }
}

/// The two ends.
///
/// # Errors
/// No descriptor could be made.
pub fn ends() -> Result<(RtEnd, FollowerEnd), Errno> {
    let event = || {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        EventFd::from_value_and_flags(0, flags).map(Arc::new)
    };
    let (wires, wires_out) = rtrb::RingBuffer::new(ROOM);
    let (returned, returned_out) = rtrb::RingBuffer::new(ROOM);
    let (wires_ready, returned_ready) = (event()?, event()?);
    let rt = RtEnd {
        wires: wires_out,
        wires_ready: Arc::clone(&wires_ready),
        returned,
        bell: Bell(Arc::clone(&returned_ready)),
    };
    Ok((rt, FollowerEnd { wires, wires_ready, returned: returned_out, returned_ready }))
}

/// The interfaces that are followed: of the links, then those that only have service addresses. An interface's place in
/// this list is its number everywhere.
pub fn interfaces(settings: &Settings) -> Vec<&str> {
    let mut names = settings.link_interfaces();
    for name in guard::interfaces(settings) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// One interface, as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct View {
    /// Its index, 0 when it is not there.
    pub index: u32,
    /// Whether it is up and has a carrier.
    pub carries: bool,
    /// How it receives; `None` when it is not there, or nothing is to be received.
    pub mode: Option<ReceiveMode>,
    /// Who guards the service addresses on it.
    pub guard: Guard,
    /// The links that can be used on it, a bit for each.
    pub usable: u8,
}

/// Who guards the service addresses on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Guard {
    /// This node has none there.
    #[default]
    NoAddress,
    /// The kernel's gate.
    Kernel,
    /// The agent: there is no gate in the kernel at all.
    Userspace,
    /// The kernel's gate cannot be put there: nothing is served on it.
    Missing,
}

impl Guard {
    /// As `status --json` writes it, `None` for nothing to guard.
    pub const fn label(self) -> Option<&'static str> {
        match self {
            Self::NoAddress => None,
            Self::Kernel => Some("kernel"),
            Self::Userspace => Some("userspace"),
            Self::Missing => Some("missing"),
        }
    }
}

/// What became of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is not there any more.
    Gone,
    /// It is there again, or for the first time.
    Back,
    /// It can carry.
    Up,
    /// It cannot carry any more.
    Down,
    /// It is what it was; its sockets or its gate are not.
    Renewed,
}

impl Change {
    /// As events write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Back => "back",
            Self::Up => "up",
            Self::Down => "down",
            Self::Renewed => "renewed",
        }
    }
}
