//! Who else uses this node's id: authentic heartbeats that carry it and that this process has not sent. The kernel's program
//! and the socket path note the newest of them; here they are judged, by the thread that sends.
//!
//! Anything of an earlier life may be a replay of what this node sent before it started: it is told and counted, and
//! never a reason to do anything. What is *ahead* of this process, a higher incarnation or a higher number in its own, this
//! node can never have sent, as long as its incarnations only rise: that is another node.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::time::Duration;

use agent_common::LinkId;
use agent_common::maps::{RIVALS, Rival};
use agent_common::rival::{Rivals, read_rival};
use agent_core::Instant;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::settings::Settings;

/// The same rival is told again after this long.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Rivals that are told apart; more of them within [`TELL_EVERY`] are counted only.
const KNOWN_MAX: usize = 4;
/// Earlier lives of this process that are known for its own: frames of them may still be under way.
const LIVES_MAX: usize = 8;
const LENGTH: usize = size_of::<[Rival; RIVALS]>();

/// The mapping of the map `RIVAL`, read-only.
pub struct MappedRivals {
    base: NonNull<Rival>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only read.
unsafe impl Send for MappedRivals {}

impl MappedRivals {
    /// Maps the BPF map behind `map`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(map: impl AsFd) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(LENGTH).ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
        let base = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { base: base.cast() })
    }

    /// The entry of one kind; `None` when the kernel was writing at every try.
    fn read(&self, kind: usize) -> Option<Rival> {
        // SAFETY: the mapping is as long as this, and the kind is masked to be within.
        let entry = unsafe { self.base.as_ptr().add(kind % RIVALS) };
        // SAFETY: mapped as long as `self` lives; page-aligned memory aligns every entry to eight.
        unsafe { read_rival(entry) }
    }
}

impl Drop for MappedRivals {
    fn drop(&mut self) {
        // SAFETY: mapped with this length by `new`, and nothing borrows from it.
        let _ = unsafe { munmap(self.base.cast(), LENGTH) };
    }
}

/// How far this node has come: nothing above this was sent by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Sent {
    /// Its incarnation.
    pub incarnation: u64,
    /// Its newest heartbeat.
    pub seq: u64,
}

/// A heartbeat with this node's id that this process has not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// Where it came from; `None` over a serial line.
    pub address: Option<IpAddr>,
    /// The link.
    pub link: Option<LinkId>,
    /// Its incarnation.
    pub incarnation: u64,
    /// Whether this node can never have sent it; else it may be a replay.
    pub is_ahead: bool,
    /// How many there were since the last look.
    pub frames: u64,
}

impl Sighting {
    /// Where it was seen, for people: after "it is".
    pub fn place(&self, settings: &Settings) -> String {
        let link = self.link.map(|link| format!(" on link {}", settings.link_name(link))).unwrap_or_default();
        match self.address {
            Some(address) => format!("at {address}{link}"),
            None if self.link.is_some() => format!("somewhere{link}"),
            None => "somewhere; only its peers hear it".to_owned(),
        }
    }
}

/// What was seen of rivals, and told.
#[derive(Debug, Default)]
pub struct Watch {
    /// By source and kind: the entry's count at the last look.
    counted: [[u64; RIVALS]; 2],
    /// Whether the maps' content of before this process has been passed over.
    primed: bool,
    /// Earlier lives of this process.
    lives: [Sent; LIVES_MAX],
    known: [Option<(Option<IpAddr>, Instant)>; KNOWN_MAX],
    newest: Option<Sighting>,
}

impl Watch {
    /// Looks at both ways of receiving; the sighting that weighs most, if there is any.
    pub fn look(&mut self, kernel: Option<&MappedRivals>, socket: &Rivals, sent: Sent) -> Option<Sighting> {
        let mut found: Option<Sighting> = None;
        for kind in 0..RIVALS {
            let entries = [kernel.and_then(|kernel| kernel.read(kind)), socket.get(kind).copied()];
            for (way, entry) in entries.into_iter().enumerate() {
                let Some(sighting) = entry.and_then(|entry| self.judge(way, kind, &entry, sent)) else {
                    continue;
                };
                let outweighs = found.is_none_or(|found| sighting.is_ahead && !found.is_ahead);
                let frames = sighting.frames + found.map_or(0, |found| found.frames);
                found = Some(Sighting { frames, ..found.filter(|_| !outweighs).unwrap_or(sighting) });
            }
        }
        self.primed = true;
        self.newest = found.or(self.newest);
        found
    }

    /// The last that was seen.
    pub const fn newest(&self) -> Option<Sighting> {
        self.newest
    }

    /// This node starts over: what it has sent so far remains its own.
    pub fn begin_life(&mut self, before: Sent) {
        self.lives.rotate_right(1);
        if let Some(place) = self.lives.first_mut() {
            *place = before;
        }
    }

    /// Whether a sighting is to be told at `now`: each address once in a while.
    pub fn is_news(&mut self, sighting: &Sighting, now: Instant) -> bool {
        let stands = |at: Instant| now.since(at) < TELL_EVERY;
        if self.known.iter().flatten().any(|(address, at)| *address == sighting.address && stands(*at)) {
            return false;
        }
        let place = self.known.iter_mut().find(|known| known.is_none_or(|(_, at)| !stands(at)));
        let is_room = place.is_some();
        if let Some(place) = place {
            *place = Some((sighting.address, now));
        }
        is_room
    }

    fn judge(&mut self, way: usize, kind: usize, entry: &Rival, sent: Sent) -> Option<Sighting> {
        let counted = self.counted.get_mut(way)?.get_mut(kind)?;
        let frames = entry.frames.wrapping_sub(std::mem::replace(counted, entry.frames));
        let said = Sent { incarnation: entry.incarnation, seq: entry.seq };
        // What lay in a pinned map is of a process before this one.
        if frames == 0 || !self.primed || self.is_own(said, sent) {
            return None;
        }
        Some(Sighting {
            address: entry.address(),
            link: u8::try_from(entry.link).ok().and_then(LinkId::new),
            incarnation: entry.incarnation,
            is_ahead: said > sent,
            frames,
        })
    }

    fn is_own(&self, said: Sent, sent: Sent) -> bool {
        let is_of = |life: &Sent| said.incarnation == life.incarnation && said.seq <= life.seq;
        is_of(&sent) || self.lives.iter().any(is_of)
    }
}

#[cfg(test)]
mod tests {
    use agent_common::maps::Rival;
    use agent_common::rival::{Rivals, source};
    use agent_core::Instant;

    use super::{KNOWN_MAX, Sent, Sighting, TELL_EVERY, Watch};

    const SENT: Sent = Sent { incarnation: 50, seq: 1000 };

    fn watch() -> Watch {
        let mut watch = Watch::default();
        assert_eq!(watch.look(None, &Rivals::default(), SENT), None);
        watch
    }

    fn heard(incarnation: u64, seq: u64, frames: u64) -> Rival {
        let source = source("10.0.0.9".parse().expect("an address"));
        Rival { incarnation, seq, frames, source, ..Rival::default() }
    }

    fn look(watch: &mut Watch, another: Rival, ours: Rival) -> Option<(bool, u64, u64)> {
        let found = watch.look(None, &[another, ours], SENT)?;
        assert_eq!(found.address, Some("10.0.0.9".parse().expect("an address")));
        Some((found.is_ahead, found.incarnation, found.frames))
    }

    #[test]
    fn what_this_process_has_sent_is_no_rival() {
        let mut watch = watch();
        assert_eq!(look(&mut watch, Rival::default(), heard(50, 1000, 3)), None);
        assert_eq!(look(&mut watch, Rival::default(), heard(50, 1001, 4)), Some((true, 50, 1)));
        assert_eq!(look(&mut watch, Rival::default(), heard(50, 1001, 4)), None, "each frame once");
        watch.begin_life(Sent { incarnation: 49, seq: 7 });
        assert_eq!(look(&mut watch, heard(49, 7, 1), heard(50, 1001, 4)), None, "of an earlier life");
        assert_eq!(look(&mut watch, heard(49, 8, 3), heard(50, 1001, 4)), Some((false, 49, 2)));
    }

    #[test]
    fn only_what_is_ahead_is_proven() {
        let mut watch = watch();
        assert_eq!(look(&mut watch, heard(49, 2000, 5), Rival::default()), Some((false, 49, 5)));
        assert_eq!(look(&mut watch, heard(51, 1, 6), Rival::default()), Some((true, 51, 1)));
        let both = look(&mut watch, heard(49, 2001, 8), heard(50, 2000, 1));
        assert_eq!(both, Some((true, 50, 3)), "the proof weighs more");
        assert_eq!(watch.newest().map(|found| found.incarnation), Some(50));
    }

    #[test]
    fn what_a_pinned_map_held_before_is_passed_over() {
        let mut watch = Watch::default();
        assert_eq!(look(&mut watch, heard(60, 1, 5), Rival::default()), None);
        assert_eq!(look(&mut watch, heard(60, 2, 6), Rival::default()), Some((true, 60, 1)), "the witness");
    }

    #[test]
    fn a_rival_is_told_once_a_minute() {
        let mut watch = watch();
        let at = |seconds: u64| Instant(1 + seconds * 1_000_000_000);
        let from = |last: u8| Sighting {
            address: Some(std::net::IpAddr::from([10, 0, 0, last])),
            link: None,
            incarnation: 1,
            is_ahead: false,
            frames: 1,
        };
        assert!(watch.is_news(&from(1), at(0)));
        assert!(!watch.is_news(&from(1), at(59)));
        assert!(watch.is_news(&from(2), at(59)));
        assert!(watch.is_news(&from(1), at(60)));
        let told = (3..100).filter(|last| watch.is_news(&from(*last), at(61))).count();
        assert_eq!(told, KNOWN_MAX - 2, "however many addresses there are");
        assert!(watch.is_news(&from(200), at(61 + TELL_EVERY.as_secs())));
    }
}
