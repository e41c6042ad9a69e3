//! The takeover thread: adds and deletes service addresses and announces them, by prepared messages on sockets that are
//! open from the start. Apart from `rt` because the kernel may hold a netlink request back for milliseconds.
//!
//! Jobs come and results go by bounded queues with an eventfd each. When `rt` ends in any way without having released
//! its addresses, this thread removes them: nothing serves without a heartbeat.

pub mod announce;
pub mod leftovers;
pub mod message;
pub mod netlink;
pub mod packet;
pub mod resource;
pub mod schedule;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::{Failure, Instant, ResourceRef};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;

use crate::bridge::{AddressChange, Note};
use crate::links::grounds::Grounds;
use crate::rt::clock;
use crate::settings::Settings;
use crate::stats::Stats;

use netlink::{Notifications, Requests};
use packet::PacketSocket;
use resource::Resource;

/// Least room for jobs, and for results.
const ROOM_LEAST: usize = 512;
/// Jobs of one resource that may wait together: to give it back, to announce it, to acquire or release it; with one to
/// spare. Of results there are no more: one of the last, and what a look has found.
const ROOM_EACH: usize = 4;
/// From a change of one of our addresses to the look at what is there: the changes are mostly this thread's own, and
/// the next job of a takeover goes first.
const LOOK_AFTER: Duration = Duration::from_millis(2);
/// From a look that the kernel did not answer to the next.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The thread wakes at least this often, so that a lost wake-up costs no more.
const IDLE: Duration = Duration::from_secs(1);

/// What `rt` wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which resource.
    pub resource: ResourceRef,
    /// What.
    pub task: Task,
    /// When it was decided.
    pub decided: Instant,
}

/// What to do with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Add the address and announce it.
    Acquire {
        /// Comes back with the result.
        attempt: u32,
    },
    /// Delete it.
    Release {
        /// Comes back with the result.
        attempt: u32,
    },
    /// Announce it again.
    Announce,
}

/// What became of it, or what somebody else did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which resource.
    pub resource: ResourceRef,
    /// What happened.
    pub what: Happened,
}

/// What happened to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// An acquire ended.
    Acquired {
        /// Of the job.
        attempt: u32,
        /// What became of it.
        result: Result<(), Failure>,
    },
    /// A release ended.
    Released {
        /// Of the job.
        attempt: u32,
        /// What became of it.
        result: Result<(), Failure>,
    },
    /// Somebody else deleted it.
    Vanished,
    /// It is there, and this thread did not add it.
    Found,
}

/// The thread's ends of its queues.
pub struct Queues {
    /// From `rt`.
    pub jobs: rtrb::Consumer<Job>,
    /// Written after each job, and when grounds change.
    pub jobs_ready: Arc<EventFd>,
    /// To `rt`.
    pub outcomes: rtrb::Producer<Outcome>,
    /// Wakes `rt`.
    pub outcomes_ready: Arc<EventFd>,
    /// To the control thread.
    pub notes: rtrb::Producer<Note>,
    /// Wakes the control thread.
    pub notes_ready: OwnedFd,
    /// Where addresses may be put.
    pub grounds: Arc<Grounds>,
    /// Set by `rt` before it ends when the addresses are to stay, for the next process.
    pub handed_over: Arc<AtomicBool>,
}

/// All that the thread owns.
pub struct Takeover {
    resources: Vec<Resource>,
    requests: Requests,
    notifications: Notifications,
    packets: Option<PacketSocket>,
    queues: Queues,
    stats: Arc<Stats>,
    refresh: Duration,
    look_at: Instant,
    /// The changes of grounds up to the last look.
    grounds_seen: u32,
}

/// Room for jobs, and for results: for all of every resource of every group at once.
pub fn room(settings: &Settings) -> usize {
    let resources: usize = settings.groups.iter().map(|group| group.addresses.len()).sum();
    ROOM_LEAST.max(resources.saturating_mul(ROOM_EACH))
}

impl Takeover {
    /// Puts the thread's state together; nothing is changed on any interface. Without `packets` nothing is announced.
    pub fn new(
        settings: &Settings,
        requests: Requests,
        notifications: Notifications,
        packets: Option<PacketSocket>,
        queues: Queues,
        stats: Arc<Stats>,
    ) -> Self {
        let resources = resource::all(settings);
        let refresh = settings.runtime.announce_refresh;
        // At once: what could not be removed at the start is told as found.
        let look_at = Instant::ZERO;
        let grounds_seen = queues.grounds.changes();
        Self { resources, requests, notifications, packets, queues, stats, refresh, look_at, grounds_seen }
    }

    /// Works until `rt` has ended.
    pub fn run(mut self) {
        loop {
            let ended = self.queues.jobs.is_abandoned();
            while let Ok(job) = self.queues.jobs.pop() {
                self.work(job);
            }
            if ended && self.queues.handed_over.load(Ordering::Acquire) {
                return;
            }
            if ended {
                return self.withdraw();
            }
            let now = clock::now();
            let resources = &self.resources;
            if self.notifications.drain(|address| resources.iter().any(|resource| resource.is(address))) {
                self.look_at = self.look_at.min(now.after(LOOK_AFTER));
            }
            if self.grounds_seen != self.queues.grounds.changes() {
                self.grounds_seen = self.queues.grounds.changes();
                self.look_at = now;
                self.announce_anew();
            }
            if self.look_at <= now {
                self.look_at = Instant::NEVER;
                self.compare();
            }
            self.announce_due(now);
            self.wait();
        }
    }

    fn work(&mut self, job: Job) {
        let Some(place) = self.resources.iter().position(|resource| resource.at == job.resource) else {
            return;
        };
        match job.task {
            Task::Acquire { attempt } => self.acquire(place, attempt, job.decided),
            Task::Release { attempt } => self.release(place, attempt),
            Task::Announce => {
                if self.resources.get(place).is_some_and(Resource::held) {
                    self.announce(place);
                }
            }
        }
    }

    fn acquire(&mut self, place: usize, attempt: u32, decided: Instant) {
        let Some(resource) = self.resources.get_mut(place) else { return };
        let at = resource.at;
        let ground = self.queues.grounds.of(&resource.settings().interface);
        let result = resource.add(&mut self.requests, ground);
        if result.is_ok() {
            let added = clock::now();
            let announced = self.announce(place);
            self.stats.takeover_address.record(added.since(decided));
            self.note(at, added, AddressChange::Added);
            if let Some(announced) = announced {
                self.stats.takeover_announce.record(announced.since(added));
                self.note(at, announced, AddressChange::Announced);
            }
        }
        self.tell(at, Happened::Acquired { attempt, result });
    }

    fn release(&mut self, place: usize, attempt: u32) {
        let Some(resource) = self.resources.get_mut(place) else { return };
        let at = resource.at;
        let result = resource.delete(&mut self.requests);
        if result.is_ok() {
            self.note(at, clock::now(), AddressChange::Deleted);
        }
        self.tell(at, Happened::Released { attempt, result });
    }

    /// Announces now, and densely again from here. Returns when the first frame had left, `None` if none did.
    fn announce(&mut self, place: usize) -> Option<Instant> {
        let resource = self.resources.get_mut(place)?;
        let left = resource.announce(self.packets.as_ref()?, &self.stats);
        resource.plan(clock::now());
        left
    }

    /// What is held is announced again where the carrier came back.
    fn announce_anew(&mut self) {
        let Some(packets) = &self.packets else { return };
        let grounds = &self.queues.grounds;
        let mut announced = Vec::new();
        for resource in &mut self.resources {
            let interface = &resource.settings().interface;
            let (returns, mac) = (grounds.returns(interface), packets.mac(interface));
            if !resource.carrier_is_back(returns) || !resource.held() {
                continue;
            }
            resource.renew(mac);
            let left = resource.announce(packets, &self.stats);
            resource.plan(clock::now());
            announced.extend(left.map(|left| (resource.at, left)));
        }
        for (at, left) in announced {
            self.note(at, left, AddressChange::Announced);
        }
    }

    fn announce_due(&mut self, now: Instant) {
        let Some(packets) = &self.packets else { return };
        for resource in &mut self.resources {
            if resource.due(now, self.refresh) {
                resource.renew(packets.mac(&resource.settings().interface));
                resource.announce(packets, &self.stats);
            }
        }
    }

    /// Looks at what is there, and tells `rt` where it is not what this thread made. The change that led here may have
    /// been this thread's own, or be undone already: only what is there now counts.
    fn compare(&mut self) {
        for resource in &mut self.resources {
            resource.expect_absent();
            let ground = self.queues.grounds.of(&resource.settings().interface);
            resource.withdraw_from_elsewhere(&mut self.requests, ground);
        }
        let resources = &mut self.resources;
        let listed = self.requests.dump(|present| {
            resources.iter_mut().for_each(|resource| resource.see(present));
        });
        if listed.is_err() {
            // What has changed is not known yet, and nobody tells of it again.
            self.look_at = clock::now().after(LOOK_AGAIN);
            return;
        }
        for place in 0..self.resources.len() {
            let Some(resource) = self.resources.get_mut(place) else { continue };
            let (at, news) = (resource.at, resource.judge());
            if let Some(news) = news {
                self.tell(at, news);
            }
        }
    }

    /// `rt` is gone: whatever is still held must not be served any longer.
    fn withdraw(&mut self) {
        for resource in self.resources.iter_mut().filter(|resource| resource.held()) {
            // Nobody is left to be told of a failure; the next start finds the leftover.
            let _ = resource.delete(&mut self.requests);
        }
    }

    fn tell(&mut self, resource: ResourceRef, what: Happened) {
        if self.queues.outcomes.push(Outcome { resource, what }).is_err() {
            self.stats.dropped.fetch_add(1, Ordering::Relaxed);
        }
        wake(&self.queues.outcomes_ready);
    }

    fn note(&mut self, resource: ResourceRef, at: Instant, done: AddressChange) {
        if self.queues.notes.push(Note::Address { at, resource, done }).is_err() {
            self.stats.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // A full counter means that the reader has been woken already.
        let _ = nix::unistd::write(&self.queues.notes_ready, &1u64.to_ne_bytes());
    }

    fn wait(&mut self) {
        let now = clock::now();
        let due = self.resources.iter().filter_map(Resource::next_due).fold(self.look_at, Instant::min);
        let span = due.since(now).min(IDLE);
        let mut ready = [
            PollFd::new(self.queues.jobs_ready.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.notifications.as_fd(), PollFlags::POLLIN),
        ];
        // An interruption or a failure ends the wait early, and everything is looked at again.
        let _ = ppoll(&mut ready, Some(TimeSpec::from_duration(span)), None);
        let _ = self.queues.jobs_ready.read();
    }
}

/// Wakes whoever waits for `event`. It fails only when the counter is full, and then it is readable already.
pub fn wake(event: &EventFd) {
    let _ = event.write(1);
}
