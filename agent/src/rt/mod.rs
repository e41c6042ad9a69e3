//! The rt thread: owns the core, sends, reads the peers' slots, decides. A round is: drain every input, re-read the
//! slots, judge, act, sleep until the core's next deadline.
//!
//! In the loop there is no file, no log, no lock and no allocation. What others must know leaves by bounded queues.

pub mod admission;
pub mod clock;
pub mod execute;
mod links;
pub mod readings;
mod rivals;
pub mod sched;
pub mod sender;
pub mod slew;
pub mod waker;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_common::GroupId;
use agent_core::config::Start;
use agent_core::{Answer, Config, Event, Instant, Node, Operator, Snapshot};
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;

use crate::bridge::{self, Command, Note, Purpose};
use crate::gate::Gates;
use crate::io::paths::Paths;
use crate::io::receiver::Receiver;
use crate::io::rival::Sighting;
use crate::io::xdp::Kernel;
use crate::links::RtEnd;
use crate::stats::Stats;
use crate::takeover::{Happened, Job, Outcome};
use crate::watchdog::Watchdog;
use crate::{ping, serial};

use readings::{Look, Readings, Sources};
use rivals::Rivalry;
use sender::Sender;
use slew::Slew;
use waker::{Source, Waker, Woken};

/// News taken from the ring in one round. What each says is read from the slot; the ring only wakes.
const NEWS_MAX: usize = 1024;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is released and told.
    Finished,
    /// A peer knows a later life of this node: it must start over with this incarnation.
    Outlived(u64),
    /// Another node uses this one's id, and was here first.
    Rival(Sighting),
    /// The timer could not be set: without it nothing is on time.
    NoTimer(Errno),
    /// The takeover thread is gone: no address could be given back any more.
    NoTakeover,
    /// A majority bears a pause that has begun: [`Rt::hand_over`] has what the next process goes on with.
    Paused(Purpose),
}

/// The thread's ends of its queues.
pub struct Queues {
    /// To the takeover thread.
    pub jobs: rtrb::Producer<Job>,
    /// Wakes it.
    pub jobs_ready: Arc<EventFd>,
    /// From the takeover thread.
    pub outcomes: rtrb::Consumer<Outcome>,
    /// Woken by it.
    pub outcomes_ready: Arc<EventFd>,
    /// From the control thread.
    pub commands: rtrb::Consumer<Command>,
    /// Woken by it.
    pub commands_ready: OwnedFd,
    /// To the control thread.
    pub notes: rtrb::Producer<Note>,
    /// Wakes it.
    pub notes_ready: OwnedFd,
    /// From and to the follower of the interfaces.
    pub links: RtEnd,
    /// Newest snapshot.
    pub snapshots: triple_buffer::Input<Snapshot>,
    /// Set when the addresses are to stay, for the next process, although this thread ends.
    pub handed_over: Arc<AtomicBool>,
}

/// What the thread works with.
pub struct Parts {
    /// The core's configuration.
    pub config: Config,
    /// XDP, if any interface carries it.
    pub kernel: Option<Kernel>,
    /// The socket path.
    pub receiver: Receiver,
    /// The links.
    pub paths: Paths,
    /// Serial lines, if this node has any.
    pub serial: Option<serial::Ends>,
    /// What the ping thread says, if there are ping groups.
    pub pings: Option<ping::Ends>,
    /// Signs and sends.
    pub sender: Sender,
    /// Queues.
    pub queues: Queues,
    /// The gate, if the kernel has one and this node an address behind it.
    pub gates: Option<Gates>,
    /// The watchdog, if there is one.
    pub watchdog: Option<Watchdog>,
    /// Counters.
    pub stats: Arc<Stats>,
}

/// The thread's state.
pub struct Rt {
    node: Node,
    readings: Readings,
    rivalry: Rivalry,
    parts: Parts,
    waker: Waker,
    slew: Slew,
    published: Instant,
    /// Something happened that the next snapshot must show.
    changed: bool,
    /// Notes were queued since the control thread was last woken.
    noted: bool,
    /// Answers to commands of this round: told when what they speak of is shown. No more than there is room for.
    answers: Vec<(u32, Answer)>,
    finished: bool,
    /// A pause that is under way, by its ticket; and one that has begun.
    pausing: Option<(u32, Purpose)>,
    paused: Option<Purpose>,
}

impl Rt {
    /// Puts the thread's state together; nothing is sent. Everything is allocated here.
    ///
    /// # Errors
    /// The kernel gave no descriptors.
    pub fn new(mut parts: Parts) -> Result<Self, Errno> {
        let now = clock::now();
        let node = Node::new(&parts.config, now);
        let readings = Readings::new(parts.config.nodes.len(), parts.config.me);
        // All three buffers get their size here, so that publishing allocates nothing.
        for _ in 0..3 {
            node.snapshot_into(parts.queues.snapshots.input_buffer_mut(), now);
            parts.queues.snapshots.publish();
        }
        let waker = Waker::new()?;
        waker.watch(&parts.queues.commands_ready, Source::Thread, true)?;
        waker.watch(&*parts.queues.outcomes_ready, Source::Thread, true)?;
        if let Some(pings) = &parts.pings {
            waker.watch(pings, Source::Thread, true)?;
        }
        if let Some(kernel) = &parts.kernel {
            waker.watch(kernel.news.as_fd(), Source::Receive, true)?;
        }
        if let Some(serial) = &parts.serial {
            waker.watch(serial.ready(), Source::Receive, true)?;
        }
        waker.watch(&*parts.queues.links.wires_ready, Source::Thread, true)?;
        for socket in parts.paths.receiving() {
            waker.watch(socket.channel.as_fd(), Source::Receive, false)?;
        }
        Ok(Self {
            node,
            readings,
            rivalry: Rivalry::default(),
            parts,
            waker,
            slew: Slew::default(),
            published: now,
            changed: false,
            noted: false,
            answers: Vec::with_capacity(bridge::COMMANDS),
            pausing: None,
            paused: None,
            finished: false,
        })
    }

    /// What wakes the takeover thread.
    pub fn takeover_bell(&self) -> Arc<EventFd> {
        Arc::clone(&self.parts.queues.jobs_ready)
    }

    /// The core's time begins now: what the start took is not its lateness. Allocates.
    pub fn begin(&mut self) {
        if let Some(gates) = &mut self.parts.gates {
            gates.forget_seen();
        }
        self.slew = Slew::default();
        let now = clock::now();
        self.node = Node::new(&self.parts.config, now);
        let heard = self.parts.pings.iter().flat_map(ping::Ends::again);
        heard.for_each(|event| self.node.handle(event, now));
        self.changed = true;
    }

    /// Works until the core says that it is done.
    pub fn run(&mut self) -> Ended {
        let mut woken = Woken::default();
        loop {
            self.round(woken);
            if self.finished {
                return Ended::Finished;
            }
            if let Some(purpose) = self.paused {
                return Ended::Paused(purpose);
            }
            if self.parts.queues.jobs.is_abandoned() {
                return Ended::NoTakeover;
            }
            if let Some(ended) = self.outbid() {
                return ended;
            }
            if let Err(errno) = self.rearm() {
                return Ended::NoTimer(errno);
            }
            woken = self.waker.wait();
        }
    }

    /// One round. Nothing in it blocks, and nothing allocates.
    pub fn round(&mut self, woken: Woken) {
        let now = clock::now();
        // Right after the reading of the clock, with which another is compared.
        self.drain_clock(now);
        self.account(woken, now);
        self.drain_threads(now);
        self.drain_links(now);
        self.drain_bars(now);
        let read_at = self.drain_frames();
        self.drain_rivals(now);
        self.feed(read_at, now);
        self.node.handle_timeout(now);
        self.perform(now);
        self.publish(now);
    }

    /// This node starts over with a higher incarnation: all that it held is given back, all that it knew forgotten.
    ///
    /// # Errors
    /// The kernel's map could not be written.
    pub fn start_over(&mut self, incarnation: u64) -> Result<(), crate::io::xdp::LoadError> {
        let now = clock::now();
        self.end_life();
        self.shut_all();
        self.withdraw_all(now);
        (self.parts.config.incarnation, self.parts.config.start) = (incarnation, Start::Fresh);
        self.parts.receiver.set_incarnation(incarnation);
        if let Some(kernel) = &mut self.parts.kernel {
            kernel.set_incarnation(incarnation)?;
        }
        self.begin();
        Ok(())
    }

    /// This thread ends in order: the watchdog may stop watching.
    ///
    /// # Errors
    /// The device's; it will reset the machine.
    pub fn close_watchdog(&mut self) -> Result<(), Errno> {
        self.parts.watchdog.take().map_or(Ok(()), Watchdog::close)
    }

    fn rearm(&mut self) -> Result<(), Errno> {
        let due = self.node.poll_timeout();
        // An expired timer does not fire again by itself, even for the same moment.
        if due != self.waker.armed() || due <= clock::now() { self.waker.arm(due) } else { Ok(()) }
    }

    fn account(&self, woken: Woken, now: Instant) {
        let stats = &self.parts.stats;
        stats.wakeups.fetch_add(1, Ordering::Relaxed);
        if woken.receive {
            stats.receive_wakeups.fetch_add(1, Ordering::Relaxed);
        }
        if woken.timer {
            stats.lateness.record(now.since(self.waker.armed()));
        }
    }

    /// Results and commands of the other threads.
    fn drain_threads(&mut self, now: Instant) {
        while let Ok(Outcome { resource, what }) = self.parts.queues.outcomes.pop() {
            let event = match what {
                Happened::Acquired { attempt, result } => Event::Acquired { resource, attempt, result },
                Happened::Released { attempt, result } => Event::Released { resource, attempt, result },
                Happened::Vanished => Event::Vanished { resource },
                Happened::Found => Event::Found { resource },
            };
            self.node.handle(event, now);
            self.perform(now);
        }
        while let Some(event) = self.parts.pings.as_mut().and_then(ping::Ends::take) {
            self.node.handle(event, now);
            self.perform(now);
        }
        while let Ok(command) = self.parts.queues.commands.pop() {
            match command {
                Command::Leave => {
                    self.node.handle(Event::Operator { ticket: 0, what: Operator::Leave }, now);
                    self.perform(now);
                }
                Command::Operate { ticket, what } => {
                    self.node.handle(Event::Operator { ticket, what }, now);
                    self.perform(now);
                }
                Command::Pause { ticket, purpose } => self.pause(ticket, purpose, now),
                Command::Keys(keyring) => {
                    self.parts.sender.set_keys(&keyring);
                    self.parts.receiver.set_keys(&keyring);
                }
            }
        }
        // Without the control thread nobody hears a signal any more: better to leave in order than to be killed.
        if self.parts.queues.commands.is_abandoned() {
            self.node.handle(Event::Operator { ticket: 0, what: Operator::Leave }, now);
            self.perform(now);
        }
    }

    /// How true the clock is by which everything is timed.
    fn drain_clock(&mut self, now: Instant) {
        if let Some(ppm) = self.slew.changed(now) {
            self.node.handle(Event::Slew { ppm }, now);
            self.perform(now);
        }
    }

    /// What other nodes were seen to hold by the kernel, also while this process did not run.
    fn drain_bars(&mut self, now: Instant) {
        for group in GroupId::all().take(self.parts.config.groups.len()) {
            let risen = self.parts.gates.as_mut().and_then(|gates| gates.risen(group));
            if let Some(epoch) = risen {
                self.node.handle(Event::Bar { group, epoch }, now);
                self.perform(now);
            }
        }
    }

    /// Takes what arrived. Returns the moment up to which everything that arrived is in the slots.
    fn drain_frames(&mut self) -> Instant {
        let parts = &mut self.parts;
        if let Some(kernel) = &mut parts.kernel {
            let mut taken = 0;
            while taken < NEWS_MAX && kernel.news.next().is_some() {
                taken += 1;
            }
        }
        let now = clock::now();
        let complete = parts.receiver.drain(&mut parts.paths, &parts.stats);
        let lines = parts.serial.as_mut();
        let read = lines.map_or(now, |serial| serial.drain(&mut parts.receiver, now, &parts.stats));
        now.min(complete).min(read)
    }

    /// Tells the core of every slot that changed, and of every slot on which a verdict hangs now.
    fn feed(&mut self, read_at: Instant, now: Instant) {
        for place in 0..self.readings.len() {
            let sources = Sources {
                kernel: self.parts.kernel.as_ref().map(|kernel| &kernel.slots),
                socket: &self.parts.receiver,
            };
            let look = self.readings.look(place, sources, read_at);
            let Some(reading) = self.readings.get(place) else { continue };
            let due = || self.node.peer_deadline(reading.beat.node).is_some_and(|at| at <= now);
            if look == Look::Changed || (look == Look::Same && due()) {
                self.node.handle(Event::Reading(reading), now);
                self.perform(now);
            }
            if look == Look::Changed
                && let Some((node, name)) = self.readings.renamed(place)
            {
                self.note(Note::Named { at: now, node, name });
            }
        }
        self.parts.stats.undecodable.store(self.readings.undecodable, Ordering::Relaxed);
    }
}
