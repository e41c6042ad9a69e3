//! The thread itself: looks at what is there whenever the kernel says that something has changed, and makes of it what
//! the configuration wants.
//!
//! An interface that is away has no sockets, no entry in the table of links, and no address may be put on it. When it is
//! back, the order is: the table, so that no heartbeat is taken for a stranger's; the program for what arrives; the gate's
//! other half; only then may addresses come, and the rt thread gets the sockets. Nothing is taken from an interface that
//! is only called otherwise now: an address may still be behind its gate.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_common::LinkId;
use agent_core::Instant;
use agent_core::config::GateKind;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, warn};

use super::grounds::Ground;
use super::neighbours::{self, Neighbours};
use super::{Change, Guard, View, Wire};
use crate::bridge::Note;
use crate::gate::Device;
use crate::gate::ingress::Carried;
use crate::gate::keeper::Keeper;
use crate::io::interface::{self, Interface};
use crate::io::paths::{Arrival, Part, PathError};
use crate::io::programs::Programs;
use crate::rt::clock;
use crate::settings::{LinkSettings, ReceiveMode};
use crate::stats::Stats;

pub use super::parts::{Parts, Queues, Watched};

/// Changes come in swarms: from the first to the look at what is there.
const LOOK_AFTER: Duration = Duration::from_millis(5);
/// What does not work although the interface is there is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// The rt thread takes what it is handed within a round; one that hangs is not waited for.
const ANSWER_LOOKS: u32 = 1000;
const ANSWER_LOOK_MS: u8 = 1;

/// See the module.
pub struct Follower {
    parts: Parts,
    queues: Queues,
    stats: Arc<Stats>,
    neighbours: Neighbours,
    try_at: Instant,
}

/// Why an interface is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// It has come.
    Came,
    /// Frames of its links arrive at another address.
    Moved,
    /// Something did not work, as was said before.
    Unsettled,
}

impl Cause {
    fn warn(self, remark: &str) {
        match self {
            Self::Came | Self::Moved => warn!("{remark}"),
            Self::Unsettled => debug!("{remark}"),
        }
    }
}

impl Follower {
    /// Puts the thread's state together, and says where addresses may be put.
    pub fn new(parts: Parts, queues: Queues, stats: Arc<Stats>) -> Self {
        let neighbours = Neighbours::open();
        let follower = Self { parts, queues, stats, neighbours, try_at: Instant::NEVER };
        follower.parts.watched.iter().for_each(|watched| follower.say_ground(watched));
        follower
    }

    /// Works until the rt thread has ended. Nothing is detached; what is pinned and what is not comes back.
    pub fn run(mut self) -> (Keeper, Option<Programs>) {
        // Once at the start: something may have changed since it was looked at.
        let mut look_at = clock::now();
        while !self.queues.rt.is_abandoned() {
            let now = clock::now();
            let watched = &self.parts.watched;
            let ours = |index, name: Option<&str>| {
                watched.iter().any(|known| known.view.index == index || name == Some(known.name.as_str()))
            };
            if self.parts.watch.drain(ours) {
                look_at = look_at.min(now.after(LOOK_AFTER));
            }
            if look_at.min(self.try_at) <= now {
                look_at = Instant::NEVER;
                self.look();
            }
            self.neighbours.look(clock::now());
            self.wait(look_at.min(self.try_at).min(self.neighbours.due()));
        }
        (self.parts.keeper, self.parts.programs)
    }

    fn wait(&mut self, until: Instant) {
        let span = until.since(clock::now());
        let timeout = if until == Instant::NEVER {
            PollTimeout::NONE
        } else {
            PollTimeout::try_from(span + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        };
        let mut ready = [
            PollFd::new(self.parts.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.queues.rt.returned_ready.as_fd(), PollFlags::POLLIN),
        ];
        // An interruption or a failure ends the wait early, and everything is looked at again.
        let _ = poll(&mut ready, timeout);
        let _ = self.queues.rt.returned_ready.read();
        while self.queues.rt.take_back().is_some() {}
    }

    /// Looks at every interface, and does what follows.
    fn look(&mut self) {
        let is_due = self.try_at <= clock::now();
        for place in 0..self.parts.watched.len() {
            let Some(watched) = self.parts.watched.get(place) else { continue };
            let known = watched.view.index;
            match interface::look_up(&watched.name) {
                Err(_) => {}
                Ok(None) if known == 0 => {}
                Ok(None) => self.leave(place),
                Ok(Some(found)) if known == 0 => self.arrive(place, &found),
                Ok(Some(found)) if found.index != known => {
                    self.leave(place);
                    self.arrive(place, &found);
                }
                Ok(Some(found)) => self.compare(place, &found, is_due),
            }
        }
        let unsettled = (0..self.parts.watched.len()).any(|place| !self.is_settled(place));
        self.try_at = if unsettled { clock::now().after(TRY_AGAIN) } else { Instant::NEVER };
    }

    /// It is there, as before; its addresses, its carrier or what was tried may be otherwise.
    fn compare(&mut self, place: usize, found: &Interface, is_due: bool) {
        let (arrivals, _) = self.arrivals(found);
        let Some(watched) = self.parts.watched.get_mut(place) else { return };
        let carries = watched.view.carries;
        let (before, moved) = (watched.view, watched.arrivals != arrivals);
        if moved || (is_due && !self.is_settled(place)) {
            self.put(place, None);
            self.set_up(place, found, if moved { Cause::Moved } else { Cause::Unsettled });
            if self.parts.watched.get(place).is_some_and(|watched| moved || watched.view != before) {
                self.tell(place, Change::Renewed);
            }
        }
        if let Some(watched) = self.parts.watched.get_mut(place) {
            watched.view.carries = found.carries;
        }
        if carries != found.carries {
            self.tell(place, if found.carries { Change::Up } else { Change::Down });
            self.tell_carrier(place, found.carries);
        }
    }

    fn leave(&mut self, place: usize) {
        let Some(watched) = self.parts.watched.get_mut(place) else { return };
        let device = Device { name: watched.name.clone(), index: watched.view.index };
        watched.arrivals = Vec::new();
        let guard = if watched.view.guard == Guard::NoAddress { Guard::NoAddress } else { Guard::Missing };
        watched.view = View { guard, ..View::default() };
        let watched = watched.clone();
        self.neighbours.forget(device.index);
        self.say_ground(&watched);
        self.put(place, None);
        self.serve();
        // Of an index without an interface nix gives an empty name: it looks for -1, where if_indextoname(3) returns null.
        if !nix::net::if_::if_indextoname(device.index).is_ok_and(|name| !name.is_empty()) {
            self.parts.keeper.forget(&device);
        }
        self.tell(place, Change::Gone);
    }

    fn arrive(&mut self, place: usize, found: &Interface) {
        if let Some(watched) = self.parts.watched.get_mut(place) {
            watched.view.index = found.index;
            watched.view.carries = found.carries;
        }
        self.set_up(place, found, Cause::Came);
        self.tell(place, Change::Back);
        self.tell_carrier(place, found.carries);
    }

    /// Everything that an interface needs that is there, in the order of the module's comment.
    fn set_up(&mut self, place: usize, found: &Interface, cause: Cause) {
        let (arrivals, errors) = self.arrivals(found);
        self.warn(errors, cause);
        let Some(watched) = self.parts.watched.get_mut(place) else { return };
        let is_link = !arrivals.is_empty();
        watched.arrivals = arrivals;
        let attaches = match cause {
            Cause::Came => true,
            Cause::Moved | Cause::Unsettled => {
                watched.view.guard == Guard::Missing || (is_link && watched.view.mode.is_none())
            }
        };
        if attaches {
            // As if a program were there already: an entry for an interface without one does nothing.
            watched.view.mode = is_link.then_some(ReceiveMode::Native);
            self.serve();
            self.attach(place, found, is_link, cause);
        }
        self.serve();
        let Some(watched) = self.parts.watched.get(place).cloned() else { return };
        self.say_ground(&watched);
        let mode = watched.view.mode.unwrap_or(ReceiveMode::Socket);
        let (part, errors) = Part::open(&self.parts.settings, &watched.arrivals, mode);
        self.warn(errors, cause);
        if let Some(watched) = self.parts.watched.get_mut(place) {
            watched.view.usable = part.usable();
        }
        if is_link {
            self.put(place, Some(Box::new(part)));
        }
    }

    /// The programs, for what arrives and for what leaves.
    fn attach(&mut self, place: usize, found: &Interface, is_link: bool, cause: Cause) {
        let device = Device { name: found.name.clone(), index: found.index };
        let Parts { programs, keeper, settings, .. } = &mut self.parts;
        let mut remarks = Vec::new();
        let carried = programs
            .as_mut()
            .and_then(|programs| programs.attach(settings.runtime.xdp, &device, keeper, &mut remarks));
        let guard = self.guard(&device, carried, &mut remarks);
        remarks.iter().for_each(|remark| cause.warn(remark));
        let Some(watched) = self.parts.watched.get_mut(place) else { return };
        watched.view.guard = guard;
        let mode = carried.map_or(ReceiveMode::Socket, |carried| carried.mode);
        watched.view.mode = is_link.then_some(mode);
    }

    /// Where frames of the interface's links arrive, and why not.
    fn arrivals(&self, found: &Interface) -> (Vec<Arrival>, Vec<(LinkId, PathError)>) {
        let (mut arrivals, mut errors) = (Vec::new(), Vec::new());
        let settings = &self.parts.settings;
        for (id, link) in settings.links.iter().filter_map(|link| Some((link.id, link.network()?))) {
            if link.interface != found.name || !link.cast.reaches(settings.me) {
                continue;
            }
            match Arrival::of(id, link, settings, Some(found)) {
                Ok(arrival) => arrivals.push(arrival),
                Err(error) => errors.push((id, error)),
            }
        }
        (arrivals, errors)
    }

    fn warn(&self, errors: Vec<(LinkId, PathError)>, cause: Cause) {
        for (link, error) in errors {
            cause.warn(&format!("link {}: {error}", self.parts.settings.link_name(link)));
        }
    }

    fn guard(&mut self, device: &Device, carried: Option<Carried>, remarks: &mut Vec<String>) -> Guard {
        let Parts { programs, keeper, settings, gate, .. } = &mut self.parts;
        if !crate::gate::guard::interfaces(settings).contains(&device.name.as_str()) {
            return Guard::NoAddress;
        }
        match gate {
            GateKind::Userspace => return Guard::Userspace,
            GateKind::Kernel => {}
        }
        let name = &device.name;
        let Some(programs) = programs.as_mut().filter(|_| carried.is_some_and(|carried| carried.outlives))
        else {
            remarks.push(format!(
                "{name}: nothing is served on it: it carries no program that outlives the agent"
            ));
            return Guard::Missing;
        };
        match keeper.judge_leaving(&mut programs.ebpf, device) {
            Ok(()) => Guard::Kernel,
            Err(error) => {
                remarks
                    .push(format!("{name}: nothing is served on it: its gate cannot be put there: {error}"));
                Guard::Missing
            }
        }
    }

    /// The programs serve the links of all interfaces that carry one.
    fn serve(&mut self) {
        let Parts { programs: Some(programs), watched, .. } = &mut self.parts else { return };
        let carries = |watched: &&Watched| watched.view.mode.is_some_and(|mode| mode != ReceiveMode::Socket);
        let served = watched.iter().filter(carries).flat_map(|watched| watched.arrivals.clone());
        if let Err(error) = programs.serve(&served.collect::<Vec<_>>()) {
            warn!("heartbeats may go unheard: {error}");
        }
    }

    fn say_ground(&self, watched: &Watched) {
        let ground = match (watched.view.index, watched.view.guard) {
            (0, _) => Ground::Absent,
            (index, Guard::Kernel | Guard::Userspace) => Ground::Ready(index),
            (_, Guard::Missing | Guard::NoAddress) => Ground::Unguarded,
        };
        self.queues.grounds.set(&watched.name, ground);
    }

    /// Whether everything that the configuration wants of an interface that is there works.
    fn is_settled(&self, place: usize) -> bool {
        let Some(Watched { name, view, .. }) = self.parts.watched.get(place) else { return true };
        let wanted = self.links(name).fold(0, |links, link| links | 1 << link.raw());
        view.index == 0 || (view.usable == wanted && view.guard != Guard::Missing)
    }

    fn links<'a>(&'a self, name: &'a str) -> impl Iterator<Item = LinkId> + 'a {
        let settings = &self.parts.settings;
        let uses = move |link: &&LinkSettings| {
            link.reaches(settings.me) && link.network().is_some_and(|network| network.interface == name)
        };
        settings.links.iter().filter(uses).map(|link| link.id)
    }

    /// Hands sockets over, or takes them away; those before are closed, before others are opened in their place.
    fn put(&mut self, place: usize, part: Option<Box<Part>>) {
        let Some(watched) = self.parts.watched.get_mut(place) else { return };
        let is_owed = std::mem::replace(&mut watched.has_part, part.is_some());
        self.send(Wire::Part { place, part });
        for _ in 0..ANSWER_LOOKS {
            if !is_owed || self.queues.rt.take_back().is_some() || self.queues.rt.is_abandoned() {
                return;
            }
            let _ = poll(&mut [], ANSWER_LOOK_MS);
        }
    }

    fn tell_carrier(&mut self, place: usize, up: bool) {
        let Some(watched) = self.parts.watched.get(place) else { return };
        let index = watched.view.index;
        if up {
            // Before the rt thread knows: the heartbeat that then leaves at once makes the kernel ask for the peers.
            let peers = neighbours::peers(&self.parts.settings, &watched.name);
            self.neighbours.ask_anew(index, peers, clock::now());
            self.queues.grounds.carrier_back(&watched.name);
        } else {
            self.neighbours.forget(index);
        }
        for link in self.links(&watched.name).collect::<Vec<_>>() {
            self.send(Wire::Carrier { link, up });
        }
    }

    fn send(&mut self, mut wire: Wire) {
        while let Err(back) = self.queues.rt.hand(wire) {
            if self.queues.rt.is_abandoned() {
                return;
            }
            wire = back;
            let _ = poll(&mut [], ANSWER_LOOK_MS);
        }
    }

    fn tell(&mut self, place: usize, change: Change) {
        let Some(Watched { view, .. }) = self.parts.watched.get(place) else { return };
        let place = u8::try_from(place).unwrap_or(u8::MAX);
        let note = Note::Interface { at: clock::now(), place, change, view: *view };
        if self.queues.notes.push(note).is_err() {
            self.stats.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // A full counter means that the reader has been woken already.
        let _ = nix::unistd::write(&self.queues.notes_ready, &1u64.to_ne_bytes());
    }
}
