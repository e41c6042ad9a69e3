//! What the core asks for, done: one arm for each action, and what the other threads are told of it. Effects that can fail come
//! back as events.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_common::{GroupId, LinkId};
use agent_core::config::Carried;
use agent_core::{
    Action, Answer, Change, Event, Failure, Instant, Operator, PeerState, Refusal, ResourceRef, Transition,
};

use super::Rt;
use crate::bridge::{Note, Purpose};
use crate::takeover::{Job, Task, wake};
use crate::watchdog::Watchdog;

/// Between two snapshots, unless something changed.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(5);

impl Rt {
    /// Drains the core's actions; what failed on the way is told when they are through.
    pub(super) fn perform(&mut self, now: Instant) {
        let mut unsent = 0;
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Send { links } => unsent |= self.send(links),
                Action::Acquire { resource, attempt } => self.order(resource, Task::Acquire { attempt }, now),
                Action::Release { resource, attempt } => self.order(resource, Task::Release { attempt }, now),
                Action::Announce { resource } => self.order(resource, Task::Announce, now),
                Action::PetWatchdog => self.pet(now),
                Action::Gate { group, epoch, expiry } => {
                    if let Some(gates) = &mut self.parts.gates {
                        gates.write(group, epoch, expiry);
                    }
                    self.changed = true;
                }
                Action::SelfFence { group } => self.fence_itself(group, now),
                // Nobody fences peers yet: the tie-break goes unanswered, which is its safe side.
                Action::Fence { .. } => {}
                Action::Answer { ticket, answer } => self.answer(ticket, answer, now),
                Action::Transition(transition) => self.tell(transition),
                Action::Finished => self.finished = true,
            }
        }
        for link in LinkId::all().filter(|link| unsent & 1 << link.raw() != 0) {
            self.node.handle(Event::SendFailed { link }, now);
        }
    }

    /// Begins to pause. A node that has fenced itself goes on to its reset: its successor would not know of it.
    pub(super) fn pause(&mut self, ticket: u32, purpose: Purpose, now: Instant) {
        if self.parts.watchdog.as_ref().is_some_and(Watchdog::has_fenced) {
            let answer = Answer::Refused(Refusal::Failed);
            return self.note(Note::Answer { at: now, ticket, answer });
        }
        self.pausing = Some((ticket, purpose));
        self.node.handle(Event::Operator { ticket, what: Operator::Pause }, now);
        self.perform(now);
    }

    /// After [`super::Ended::Paused`]: what the next process goes on with. The addresses stay, and the watchdog watches on, for
    /// as long as the peers wait. Nothing may be sent any more. `None`, and nothing is changed, if no pause has begun.
    pub fn hand_over(&mut self) -> Option<Carried> {
        let carried = self.node.carry()?;
        self.parts.queues.handed_over.store(true, Ordering::Release);
        if let Some(watchdog) = self.parts.watchdog.take() {
            watchdog.hand_over(self.parts.config.timing.initdead);
        }
        Some(carried)
    }

    fn answer(&mut self, ticket: u32, answer: Answer, now: Instant) {
        if let Some((_, purpose)) = self.pausing.take_if(|(pausing, _)| *pausing == ticket)
            && answer == Answer::Done
        {
            self.paused = Some(purpose);
        }
        if self.answers.len() < self.answers.capacity() {
            self.answers.push((ticket, answer));
        } else {
            self.note(Note::Answer { at: now, ticket, answer });
        }
    }

    fn send(&mut self, links: u8) -> u8 {
        let parts = &mut self.parts;
        parts.sender.send(self.node.outgoing(), links, &parts.paths, parts.serial.as_mut(), &parts.stats)
    }

    /// Hands a job to the takeover thread. Its queue holds a job for every resource there can be; should it be full all
    /// the same, the effect has failed and the core tries again.
    fn order(&mut self, resource: ResourceRef, task: Task, now: Instant) {
        let queues = &mut self.parts.queues;
        if queues.jobs.push(Job { resource, task, decided: now }).is_ok() {
            wake(&queues.jobs_ready);
            return;
        }
        self.parts.stats.dropped.fetch_add(1, Ordering::Relaxed);
        let result = Err(Failure::TimedOut);
        match task {
            Task::Acquire { attempt } => self.node.handle(Event::Acquired { resource, attempt, result }, now),
            Task::Release { attempt } => self.node.handle(Event::Released { resource, attempt, result }, now),
            Task::Announce => {}
        }
    }

    fn tell(&mut self, transition: Transition) {
        self.changed = true;
        if let Change::Peer { to: PeerState::Dead, silent, deadtime, .. } = transition.what
            && silent > deadtime
        {
            self.parts.stats.overshoot.record(silent.saturating_sub(deadtime));
        }
        self.note(Note::Transition(transition));
    }

    pub(super) fn note(&mut self, note: Note) {
        if self.parts.queues.notes.push(note).is_err() {
            self.parts.stats.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.noted = true;
    }

    /// Shows the control thread what the core thinks, now and then and after every change; then tells the answers, so that
    /// whoever has one sees its effect; and wakes it for notes.
    pub(super) fn publish(&mut self, now: Instant) {
        let queues = &mut self.parts.queues;
        if self.changed || !self.answers.is_empty() || now.since(self.published) >= SNAPSHOT_EVERY {
            self.node.snapshot_into(queues.snapshots.input_buffer_mut(), now);
            queues.snapshots.publish();
            self.published = now;
            self.changed = false;
        }
        for place in 0..self.answers.len() {
            if let Some((ticket, answer)) = self.answers.get(place).copied() {
                self.note(Note::Answer { at: now, ticket, answer });
            }
        }
        self.answers.clear();
        if self.noted {
            // A full counter means that the reader has been woken already.
            let _ = nix::unistd::write(&self.parts.queues.notes_ready, &1u64.to_ne_bytes());
            self.noted = false;
        }
    }

    /// One write to a device that answers at once.
    fn pet(&mut self, now: Instant) {
        let Some(watchdog) = &mut self.parts.watchdog else { return };
        if let Err(errno) = watchdog.pet() {
            self.note(Note::WatchdogFailed { at: now, errno: errno as i32 });
        }
    }

    fn fence_itself(&mut self, group: GroupId, now: Instant) {
        if self.parts.watchdog.as_mut().is_none_or(Watchdog::fence) {
            self.note(Note::SelfFenced { at: now, group });
        }
    }

    /// Shuts every gate.
    pub(super) fn shut_all(&mut self) {
        if let Some(gates) = &mut self.parts.gates {
            GroupId::all().for_each(|group| gates.write(group, 0, Instant::ZERO));
        }
    }

    /// Orders every address to be deleted, held or not.
    pub(super) fn withdraw_all(&mut self, now: Instant) {
        for place in 0..self.parts.config.groups.len() {
            let Some((group, count)) = GroupId::all().nth(place).zip(self.resources_of(place)) else {
                continue;
            };
            for index in 0..count {
                // The attempt belongs to no action of the node that begins now: its result is ignored.
                self.order(ResourceRef { group, index }, Task::Release { attempt: u32::MAX }, now);
            }
        }
    }

    fn resources_of(&self, group: usize) -> Option<u8> {
        self.parts.config.groups.get(group).map(|group| group.resources)
    }
}
