//! The one owner of the control thread's ends: drains notes, answers what clients ask, passes on what people want.

pub(super) mod changeover;
pub(super) mod joining;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use agent_common::GroupId;
use agent_core::{Answer, Operator, Snapshot};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use changeover::UnderWay;

use super::event::{Event, What};
use super::followers::{Followers, Line};
use super::metrics;
use super::signals::Wish;
use super::status::{Sources, Status};
use super::teller::{Teller, Weight};
use super::waiting::Waiting;
use crate::bridge::{Begun, Command, ControlSide, Note};
use crate::hosts::HostLink;
use crate::keys;
use crate::rt::admission::{ASK_EVERY, ASK_FIRST, Admission};
use crate::rt::clock;
use crate::settings::Settings;

/// How often a command is offered again to a full queue, and how often a slow leave is mentioned.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the servers ask of the hub.
pub(super) enum Ask {
    /// The status.
    Status(oneshot::Sender<Box<Status>>),
    /// What an operator wants; answered when the result is there.
    Operate { wanted: Wanted, reply: oneshot::Sender<Result<(), String>> },
    /// The metrics in OpenMetrics text.
    Metrics(oneshot::Sender<String>),
    /// Something about the nodes that joined.
    Join { wanted: joining::Wanted, reply: oneshot::Sender<Result<(), String>> },
    /// A new process, or new settings.
    ChangeOver { wanted: changeover::Wanted, reply: oneshot::Sender<Result<changeover::Outcome, String>> },
    /// Events: the past, and the future if asked for; `None` instead when there are too many followers.
    Events { follow: bool, lines: Option<u32>, reply: oneshot::Sender<Option<Events>> },
}

/// What an operator wants, groups by name; `None` is all.
pub(super) enum Wanted {
    Standby(Option<String>),
    Takeover(Option<String>),
    Maintenance(bool),
}

/// Events for one client.
pub(super) struct Events {
    pub(super) past: Vec<Line>,
    pub(super) future: Option<mpsc::Receiver<Line>>,
}

/// See the module.
pub(super) struct Hub {
    side: ControlSide,
    settings: Arc<Settings>,
    wished: mpsc::Receiver<Wish>,
    notes_ready: AsyncFd<OwnedFd>,
    ended: AsyncFd<OwnedFd>,
    followers: Followers,
    waiting: Waiting,
    leaving: bool,
    hosts: HostLink,
    /// Nodes have other names than when the teller was last told.
    renamed: bool,
    under_way: Option<UnderWay>,
    judged_in: mpsc::Sender<Result<(), String>>,
    judged: mpsc::Receiver<Result<(), String>>,
    /// What [`crate::stats::Stats::dropped`] was when it was last told.
    dropped: u64,
    admission: Admission,
}

impl Hub {
    /// # Errors
    /// A descriptor cannot be waited for.
    pub(super) fn new(side: ControlSide, wished: mpsc::Receiver<Wish>) -> io::Result<Self> {
        let settings = Arc::clone(&side.settings);
        let notes_ready = watched(&side.notes_ready)?;
        let ended = watched(&side.ended)?;
        let hosts = HostLink::new(&settings);
        let (followers, waiting) = (Followers::default(), Waiting::default());
        let (judged_in, judged) = mpsc::channel(1);
        let admission = Admission::new(Arc::clone(&side.stats), settings.timing.keepalive);
        Ok(Self {
            side,
            settings,
            wished,
            notes_ready,
            ended,
            followers,
            waiting,
            leaving: false,
            hosts,
            renamed: false,
            under_way: None,
            judged_in,
            judged,
            dropped: 0,
            admission,
        })
    }

    /// Until the rt thread has ended. `_asks` keeps the channel open when there is no server.
    ///
    /// # Errors
    /// A descriptor cannot be waited for.
    pub(super) async fn run(
        &mut self,
        mut asked: mpsc::Receiver<Ask>,
        _asks: mpsc::Sender<Ask>,
    ) -> io::Result<()> {
        let settings = Arc::clone(&self.settings);
        let mut teller = Teller::new(&settings);
        self.tell(What::own(begun(&self.side.process.begun)), Weight::Info);
        let mut reminder = tokio::time::interval(PATIENCE);
        let mut asking = tokio::time::interval(ASK_EVERY);
        asking.reset_after(ASK_FIRST);
        loop {
            tokio::select! {
                biased;
                ready = self.ended.readable() => {
                    let _ = ready?;
                    break;
                }
                ready = self.notes_ready.readable() => {
                    let mut ready = ready?;
                    // Read before the queues: a note that comes later raises the counter again.
                    let _ = nix::unistd::read(ready.get_inner(), &mut [0; 8]);
                    ready.clear_ready();
                    drop(ready);
                    self.drain(&mut teller);
                }
                Some(wish) = self.wished.recv() => match wish {
                    Wish::Leave => self.leave(),
                    Wish::Reload => self.change_over(changeover::Wanted::Reload, None),
                    Wish::Restart => self.change_over(changeover::Wanted::Restart, None),
                },
                Some(verdict) = self.judged.recv() => self.judged(verdict),
                Some(ask) = asked.recv() => self.answer(ask),
                _ = reminder.tick() => self.remind(),
                _ = asking.tick() => self.admission.ask(),
            }
        }
        self.drain(&mut teller);
        self.tell(What::own("ended"), Weight::Info);
        Ok(())
    }

    fn drain(&mut self, teller: &mut Teller) {
        let mut notes: Vec<Note> = Vec::new();
        for queue in &mut self.side.notes {
            // No more than is there now: a thread that goes on writing cannot keep this one here.
            for _ in 0..queue.slots() {
                notes.extend(queue.pop().ok());
            }
        }
        // Each queue is in order, but a wake-up finds several of them.
        notes.sort_by_key(Note::at);
        if std::mem::take(&mut self.renamed) {
            teller.rename(&self.settings);
        }
        for note in &notes {
            if let Note::Named { node, name, .. } = note {
                self.named(*node, *name, teller);
            }
            for event in teller.tell(note) {
                self.publish(&event, teller.weight(&event));
            }
            if let Note::Interface { place, view, .. } = note {
                self.side.know_interface(usize::from(*place), *view);
            }
            if let Note::Answer { ticket, answer, .. } = note
                && self.under_way.as_ref().is_some_and(|under_way| under_way.is_pause(*ticket))
            {
                self.paused(*answer);
            } else if let Note::Answer { ticket, answer, .. } = note {
                let result = match answer {
                    Answer::Done => Ok(()),
                    Answer::Refused(refusal) => Err(refusal.text().to_owned()),
                };
                self.waiting.answer(*ticket, result);
            }
        }
        let dropped = self.side.stats.dropped.load(std::sync::atomic::Ordering::Relaxed);
        if dropped > self.dropped {
            let count = dropped - self.dropped;
            self.dropped = dropped;
            self.tell(What::dropped(count), Weight::Warn);
        }
    }

    /// Something that happens now.
    fn tell(&mut self, what: What, weight: Weight) {
        self.publish(&Event::at(clock::now(), what), weight);
    }

    fn publish(&mut self, event: &Event, weight: Weight) {
        match weight {
            Weight::Warn => warn!("{}", event.to_text()),
            Weight::Info => info!("{}", event.to_text()),
        }
        self.followers.tell(event);
    }

    fn leave(&mut self) {
        if self.leaving || !self.stop_in_maintenance() {
            self.leave_in_order();
        }
    }

    fn leave_in_order(&mut self) {
        if !self.leaving {
            self.leaving = true;
            self.tell(What::own("leaving"), Weight::Info);
        }
        self.command(Command::Leave);
    }

    fn remind(&mut self) {
        if self.leaving {
            info!("still leaving: an address is not released yet, or a peer has not heard it");
            self.command(Command::Leave);
        }
    }

    /// Old keys stay in force unless the new ones are in order and the kernel has them.
    fn reload_keys(&mut self) -> Result<(), String> {
        let result = match keys::load(&self.settings.key_file) {
            Err(error) => Err(error.to_string()),
            Ok(ring) => match self.side.kernel.set_keys(&ring) {
                Err(error) => Err(format!("the kernel's map could not be written: {error}")),
                Ok(()) if self.command(Command::Keys(Box::new(ring))) => Ok(()),
                Ok(()) => Err("the realtime thread does not read its commands".to_owned()),
            },
        };
        let (to, weight) =
            if result.is_err() { ("refused", Weight::Warn) } else { ("reloaded", Weight::Info) };
        self.tell(What::config("keys", to, result.clone().err()), weight);
        result
    }

    /// Whether the rt thread's queue took it.
    fn command(&mut self, command: Command) -> bool {
        let taken = self.side.commands.push(command).is_ok();
        if !taken {
            error!("the realtime thread does not read its commands");
        }
        // A full counter means that it is awake already.
        let _ = nix::unistd::write(&self.side.commands_ready, &1_u64.to_ne_bytes());
        taken
    }

    /// A client that has gone needs no answer.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => {
                let status = self.with_sources(Status::of);
                let _ = reply.send(Box::new(status));
            }
            Ask::Operate { wanted, reply } => self.operate(wanted, reply),
            Ask::ChangeOver { wanted, reply } => self.change_over(wanted, Some(reply)),
            Ask::Join { wanted, reply } => drop(reply.send(self.join(wanted))),
            Ask::Metrics(reply) => {
                let text = self.with_sources(metrics::render);
                let _ = reply.send(text);
            }
            Ask::Events { follow, lines, reply } => {
                let past = self.followers.past(lines);
                let future = follow.then(|| self.followers.follow());
                let events = match future {
                    None => Some(Events { past, future: None }),
                    Some(None) => None,
                    Some(future @ Some(_)) => Some(Events { past, future }),
                };
                let _ = reply.send(events);
            }
        }
    }

    fn operate(&mut self, wanted: Wanted, reply: oneshot::Sender<Result<(), String>>) {
        let what = match wanted {
            Wanted::Standby(group) => self.group(group).map(Operator::Standby),
            Wanted::Takeover(group) => self.group(group).map(Operator::Takeover),
            Wanted::Maintenance(on) => Ok(Operator::Maintenance(on)),
        };
        match what {
            Ok(what) => {
                if let Some(ticket) = self.waiting.take(reply)
                    && !self.command(Command::Operate { ticket, what })
                {
                    let error = "the realtime thread does not read its commands";
                    self.waiting.answer(ticket, Err(error.to_owned()));
                }
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn group(&self, name: Option<String>) -> Result<Option<GroupId>, String> {
        let Some(name) = name else { return Ok(None) };
        let found = GroupId::all().zip(&self.settings.groups).find(|(_, group)| group.name == name);
        found.map(|(id, _)| Some(id)).ok_or_else(|| {
            let names: Vec<&str> = self.settings.groups.iter().map(|group| group.name.as_str()).collect();
            format!("there is no group {name} (there are: {})", names.join(", "))
        })
    }

    fn with_sources<T>(&mut self, make: impl FnOnce(&Sources<'_>) -> T) -> T {
        let snapshot: &Snapshot = self.side.snapshots.read();
        let sources = Sources {
            settings: &self.settings,
            stats: &self.side.stats,
            kernel: self.side.kernel.as_ref(),
            modes: &self.side.modes,
            interfaces: &self.side.interfaces,
            gate: self.side.gate,
            process: &self.side.process,
            snapshot,
            now: clock::now(),
        };
        make(&sources)
    }
}

/// How the log calls the beginning.
const fn begun(begun: &Begun) -> &'static str {
    match begun {
        Begun::Fresh { .. } => "started",
        Begun::Carried { .. } => "resumed",
    }
}

/// A copy of the descriptor that the runtime waits for.
fn watched(descriptor: &OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let copy = descriptor.try_clone()?;
    let flags = OFlag::from_bits_retain(fcntl(&copy, FcntlArg::F_GETFL)?);
    fcntl(&copy, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    // SAFETY: an OwnedFd owns a valid descriptor, and neither the hub nor AsyncFd replaces or closes it before it is
    // deregistered.
    Ok(unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) }?)
}
