//! The queues between the threads, each end given to its owner.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use agent_core::Snapshot;
use agent_core::config::GateKind;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{RunError, descriptor};
use crate::bridge::{self, Command, ControlSide, KernelView, Note, Process};
use crate::links::follower;
use crate::links::grounds::Grounds;
use crate::settings::{ReceiveMode, Settings};
use crate::stats::Stats;
use crate::{links, rt, takeover};

/// All threads' ends.
pub(super) struct Queues {
    /// The rt thread's.
    pub(super) rt: rt::Queues,
    /// The takeover thread's.
    pub(super) takeover: takeover::Queues,
    /// The follower's.
    pub(super) follower: follower::Queues,
    /// The control thread's.
    pub(super) ends: BridgeEnds,
}

/// What the control thread gets of the queues.
pub(super) struct BridgeEnds {
    snapshots: triple_buffer::Output<Snapshot>,
    notes: Vec<rtrb::Consumer<Note>>,
    notes_ready: OwnedFd,
    commands: rtrb::Producer<Command>,
    commands_ready: OwnedFd,
    ended: OwnedFd,
    end: OwnedFd,
}

/// The control thread's side, and the descriptor by which it learns that the rt thread has ended.
pub(super) struct Control {
    /// Its ends.
    pub(super) side: ControlSide,
    /// Written when the rt thread has ended.
    pub(super) end: OwnedFd,
}

/// What the control thread shows of the network.
pub(super) struct Shown {
    pub(super) kernel: Box<dyn KernelView>,
    pub(super) modes: BTreeMap<String, ReceiveMode>,
    pub(super) interfaces: Vec<links::View>,
    pub(super) gate: GateKind,
}

impl BridgeEnds {
    /// A queue of notes for one more thread, and what wakes their reader.
    pub(super) fn more_notes(&mut self) -> Result<(rtrb::Producer<Note>, OwnedFd), RunError> {
        let (notes, out) = rtrb::RingBuffer::new(bridge::NOTES);
        self.notes.push(out);
        Ok((notes, duplicate(&self.notes_ready)?))
    }

    /// Puts the control thread's side together.
    pub(super) fn into_control(
        self,
        settings: &Arc<Settings>,
        stats: &Arc<Stats>,
        shown: Shown,
        process: Process,
    ) -> Control {
        let Shown { kernel, modes, interfaces, gate } = shown;
        let side = ControlSide {
            settings: Arc::clone(settings),
            stats: Arc::clone(stats),
            snapshots: self.snapshots,
            notes: self.notes,
            notes_ready: self.notes_ready,
            commands: self.commands,
            commands_ready: self.commands_ready,
            kernel,
            modes,
            interfaces,
            gate,
            ended: self.ended,
            process,
        };
        Control { side, end: self.end }
    }
}

/// All queues and the descriptors that wake their readers.
///
/// # Errors
/// No descriptor could be made.
pub(super) fn make(settings: &Settings) -> Result<Queues, RunError> {
    let (links, follower) = links::ends().map_err(descriptor("a descriptor to wake a thread"))?;
    let (follower_notes, follower_notes_out) = rtrb::RingBuffer::new(bridge::NOTES);
    let (jobs, jobs_out) = rtrb::RingBuffer::new(takeover::room(settings));
    let (outcomes, outcomes_out) = rtrb::RingBuffer::new(takeover::room(settings));
    let (rt_notes, rt_notes_out) = rtrb::RingBuffer::new(bridge::NOTES);
    let (takeover_notes, takeover_notes_out) = rtrb::RingBuffer::new(bridge::NOTES);
    let (commands, commands_out) = rtrb::RingBuffer::new(bridge::COMMANDS);
    let (snapshots, snapshots_out) = triple_buffer::TripleBuffer::new(&empty_snapshot(settings)).split();
    let (jobs_ready, outcomes_ready) = (Arc::new(event()?), Arc::new(event()?));
    let grounds = Arc::new(Grounds::new(settings, Arc::clone(&jobs_ready)));
    let (notes_ready, commands_ready, ended) = (shared_event()?, shared_event()?, shared_event()?);
    let handed_over = Arc::new(AtomicBool::new(false));
    let rt = rt::Queues {
        jobs,
        jobs_ready: Arc::clone(&jobs_ready),
        outcomes: outcomes_out,
        outcomes_ready: Arc::clone(&outcomes_ready),
        commands: commands_out,
        commands_ready: duplicate(&commands_ready)?,
        notes: rt_notes,
        notes_ready: duplicate(&notes_ready)?,
        links,
        snapshots,
        handed_over: Arc::clone(&handed_over),
    };
    let takeover = takeover::Queues {
        jobs: jobs_out,
        jobs_ready,
        outcomes,
        outcomes_ready,
        notes: takeover_notes,
        notes_ready: duplicate(&notes_ready)?,
        grounds: Arc::clone(&grounds),
        handed_over,
    };
    let follower = follower::Queues {
        rt: follower,
        grounds,
        notes: follower_notes,
        notes_ready: duplicate(&notes_ready)?,
    };
    let ends = BridgeEnds {
        snapshots: snapshots_out,
        notes: vec![rt_notes_out, takeover_notes_out, follower_notes_out],
        notes_ready,
        commands,
        commands_ready,
        end: duplicate(&ended)?,
        ended,
    };
    Ok(Queues { rt, takeover, follower, ends })
}

fn empty_snapshot(settings: &Settings) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.nodes.reserve(settings.nodes.len());
    snapshot.groups.reserve(settings.groups.len());
    snapshot
}

fn event() -> Result<EventFd, RunError> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    EventFd::from_value_and_flags(0, flags).map_err(descriptor("a descriptor to wake a thread"))
}

fn shared_event() -> Result<OwnedFd, RunError> {
    Ok(event()?.into())
}

fn duplicate(descriptor: &OwnedFd) -> Result<OwnedFd, RunError> {
    descriptor
        .try_clone()
        .map_err(|source| RunError::Descriptor { what: "a descriptor to wake a thread", source })
}

#[cfg(test)]
mod tests {
    use super::{Queues, make};
    use crate::config;

    /// A node that starts over gives back every address at once, and none of these orders may be lost.
    #[test]
    fn there_is_room_for_every_address_at_once() {
        let head = "[cluster]\nname = \"m\"\nnode = \"a\"\n[[node]]\nname = \"a\"\n[[link]]\ntype = \"bcast\"\n\
                    interface = \"eth0\"\n";
        let mut text = head.to_owned();
        for group in 0..64 {
            text += &format!("[[group]]\nname = \"g{group}\"\n");
            for host in 1..=64 {
                text +=
                    &format!("[[group.resource]]\naddress = \"10.1.{group}.{host}\"\ninterface = \"eth0\"\n");
            }
        }
        let (settings, _) = config::parse("m.toml", &text, "a").unwrap();
        let Queues { rt, takeover, .. } = make(&settings).unwrap();
        assert!(rt.jobs.slots() > 64 * 64, "{}", rt.jobs.slots());
        assert!(takeover.outcomes.slots() > 64 * 64, "{}", takeover.outcomes.slots());
    }
}
