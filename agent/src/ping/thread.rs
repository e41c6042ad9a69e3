//! The loop of the ping thread. A round is: read every answer, judge, ask whom it is time to ask, tell what changed, sleep.
//! Answers that arrived before the round are read before anybody is called dead.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_core::Instant;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use tracing::{info, warn};

use super::packet::{Echo, Mark, PACKET_LEN};
use super::socket::{Family, Kind, Socket, is_from};
use super::watch::{Changed, Place, Watch};
use super::{Heard, Queues, remedy};
use crate::bridge::Note;
use crate::rt::clock;
use crate::settings::Settings;
use crate::stats::Stats;
use crate::takeover::wake;

/// Messages read of one socket in one round; more are read in the next.
const READ_MAX: usize = 256;
/// Requests of one round.
const ASK_MAX: usize = 256;
/// An IPv4 header with options, and more than a message, so that longer ones are seen to be longer.
const BUFFER_LEN: usize = 60 + PACKET_LEN + 1;

/// See the module.
pub(super) struct Pinger {
    settings: Arc<Settings>,
    queues: Queues,
    stats: Arc<Stats>,
    bell: Arc<EventFd>,
    sockets: Vec<(Family, Socket)>,
    mark: Mark,
    watch: Watch,
    /// The score that the rt thread knows.
    told: Option<u8>,
    /// The newest request of the tie-break group that was answered, and whether the rt thread knows.
    reached: Instant,
    reached_told: Instant,
}

impl Pinger {
    /// Opens the sockets; a family whose socket cannot be had is warned of, and its targets stay silent.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn new(
        settings: Arc<Settings>,
        queues: Queues,
        stats: Arc<Stats>,
        bell: Arc<EventFd>,
    ) -> std::io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
        let nonce = u64::from_ne_bytes(random);
        let mut sockets = Vec::new();
        for family in [Family::V4, Family::V6] {
            let mut targets = settings.pings.iter().flat_map(|ping| &ping.targets);
            if !targets.any(|target| Family::of(target.address) == family) {
                continue;
            }
            match Socket::open(family) {
                Ok(socket) => {
                    let how = match socket.kind() {
                        Kind::Unprivileged => "an unprivileged socket",
                        Kind::Raw => "a raw socket",
                    };
                    info!("ping groups: {family:?} targets are asked through {how}");
                    sockets.push((family, socket));
                }
                Err(errno) => warn!("{family:?} targets cannot be pinged: {errno}{}", remedy(errno)),
            }
        }
        let watch = Watch::new(&settings.pings, clock::now());
        let mark = Mark { nonce, id: nonce as u16 };
        let (reached, reached_told) = (Instant::ZERO, Instant::ZERO);
        Ok(Self { settings, queues, stats, bell, sockets, mark, watch, told: None, reached, reached_told })
    }

    /// Until the bell rings, or nobody listens any more.
    pub(super) fn run(&mut self) {
        while !self.queues.heard.is_abandoned() {
            let now = clock::now();
            self.read();
            self.watch.judge(now);
            self.ask();
            self.show();
            self.tell();
            if self.sleep() {
                return;
            }
        }
    }

    /// Waits for an answer, or for what is due next; true when the bell rang.
    fn sleep(&self) -> bool {
        let wait = self.watch.next().since(clock::now());
        let timeout = TimeSpec::new(wait.as_secs() as libc::time_t, wait.subsec_nanos().into());
        let mut watched = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        watched.extend(self.sockets.iter().map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match ppoll(&mut watched, Some(timeout), None) {
            Ok(_) | Err(Errno::EINTR) => watched.first().and_then(PollFd::any).unwrap_or(false),
            Err(errno) => {
                warn!("the ping thread cannot wait for answers and ends: {errno}");
                true
            }
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; BUFFER_LEN];
        for (_, socket) in &self.sockets {
            for _ in 0..READ_MAX {
                let Some((from, message)) = socket.receive(&mut buffer) else { break };
                let now = clock::now();
                let settings = &self.settings;
                let answer = self.mark.answered(from.address, message).and_then(|echo| {
                    let place = Place { group: echo.group.into(), target: echo.target.into() };
                    let target = settings.pings.get(place.group)?.targets.get(place.target)?;
                    let answer =
                        is_from(from, target).then(|| self.watch.answer(place, echo.sequence, now))?;
                    Some((place, answer?))
                });
                let Some((place, answer)) = answer else {
                    self.stats.pings.ignored.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                if settings.tie_break_ping == Some(place.group) {
                    self.reached = self.reached.max(answer.sent);
                }
                let Some(group) = self.stats.pings.group(place.group) else { continue };
                group.replied(now);
                if let Some(target) = group.target(place.target) {
                    target.received.fetch_add(1, Ordering::Relaxed);
                    target.measured(answer.rtt);
                }
            }
        }
    }

    fn ask(&mut self) {
        let now = clock::now();
        for _ in 0..ASK_MAX {
            let Some(place) = self.watch.due(now) else { return };
            let target = self.settings.pings.get(place.group).and_then(|ping| ping.targets.get(place.target));
            let Some(target) = target else { return };
            // Read before the request leaves: an answer shows that the target was there at this moment or later.
            let sequence = self.watch.ask(place, clock::now());
            let (group, number) = (place.group as u8, place.target as u8);
            let request = self.mark.request(target.address, Echo { group, target: number, sequence });
            let family = Family::of(target.address);
            let socket = self.sockets.iter().find(|(other, _)| *other == family);
            let sent = socket.is_some_and(|(_, socket)| socket.send(target, &request).is_ok());
            let counters = self.stats.pings.group(place.group).and_then(|group| group.target(place.target));
            if let Some(counters) = counters {
                if sent { &counters.sent } else { &counters.failed }.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Every target's state, for `status`.
    fn show(&self) {
        for (group, ping) in self.settings.pings.iter().enumerate() {
            let Some(counters) = self.stats.pings.group(group) else { continue };
            for target in 0..ping.targets.len() {
                if let Some(counters) = counters.target(target) {
                    counters.set_state(self.watch.target_state(Place { group, target }));
                }
            }
        }
    }

    /// What the other threads do not know yet. What finds a queue full is told in the next round.
    fn tell(&mut self) {
        let mut noted = false;
        for Changed { at, group, from, to } in self.watch.take_changes() {
            if let Some(counters) = self.stats.pings.group(group) {
                counters.set_state(to);
            }
            let note = Note::Ping { at, group: group as u8, from, to };
            if self.queues.notes.push(note).is_err() {
                self.stats.dropped.fetch_add(1, Ordering::Relaxed);
            }
            noted = true;
        }
        if noted {
            // A full counter means that the reader has been woken already.
            let _ = nix::unistd::write(&self.queues.notes_ready, &1u64.to_ne_bytes());
        }
        let (score, reached) = (self.watch.score(), self.reached);
        let mut heard = false;
        if let Some(score) = score
            && self.told != Some(score)
            && self.queues.heard.push(Heard::Reach(score)).is_ok()
        {
            self.told = Some(score);
            heard = true;
        }
        if reached > self.reached_told && self.queues.heard.push(Heard::TieBreak(reached)).is_ok() {
            self.reached_told = reached;
            heard = true;
        }
        if heard {
            wake(&self.queues.ready);
        }
    }
}
