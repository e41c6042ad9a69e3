//! The peers' slots as the core wants them: a consistent copy, decoded only when it changed, with the moment up to
//! which it is complete. Kernel slots and socket slots are joined here.

use agent_common::maps::PeerSlot;
use agent_common::wire::decode_into;
use agent_common::{LinkId, Name, NodeId};
use agent_core::{Instant, LinkReading, Reading};

use crate::io::merge::merge;
use crate::io::receiver::Receiver;
use crate::io::slots::MappedSlots;

/// Where slots come from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The kernel's, if any interface carries the program.
    pub kernel: Option<&'a MappedSlots>,
    /// The socket path's.
    pub socket: &'a Receiver,
}

/// What a look at a slot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing arrived since the last look.
    Same,
    /// Something arrived.
    Changed,
    /// The slot was being written at every try: the old reading stands, with its old time.
    Torn,
}

/// One peer.
struct Known {
    kernel: PeerSlot,
    socket: PeerSlot,
    reading: Reading,
    /// The name that it said last, and in which life.
    said: (u64, Name),
}

/// All peers.
pub struct Readings {
    peers: Vec<Known>,
    merged: Box<PeerSlot>,
    /// Slots whose body did not decode: authentic, but of a sender of another build.
    pub undecodable: u64,
}

impl Readings {
    /// All nodes but `me`, none of them heard.
    pub fn new(nodes: usize, me: NodeId) -> Self {
        let peers = NodeId::all().take(nodes).filter(|node| *node != me);
        let silent = |node| Known {
            kernel: PeerSlot::EMPTY,
            socket: PeerSlot::EMPTY,
            reading: Reading::silent(node, Instant::ZERO),
            said: (0, Name::NONE),
        };
        Self { peers: peers.map(silent).collect(), merged: Box::new(PeerSlot::EMPTY), undecodable: 0 }
    }

    /// How many peers there are; their places are below.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether this node is alone.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The reading at `place`.
    pub fn get(&self, place: usize) -> Option<&Reading> {
        self.peers.get(place).map(|peer| &peer.reading)
    }

    /// The name that the peer at `place` says in its newest heartbeat, if it said another before, or none in this life.
    pub fn renamed(&mut self, place: usize) -> Option<(NodeId, Name)> {
        let peer = self.peers.get_mut(place)?;
        let beat = &peer.reading.beat;
        let said = (beat.incarnation, beat.name);
        if beat.name == Name::NONE || peer.said == said {
            return None;
        }
        peer.said = said;
        Some((beat.node, beat.name))
    }

    /// Looks at the slots of the peer at `place`. `read_at`: the clock, read before; all that arrived earlier is there.
    pub fn look(&mut self, place: usize, sources: Sources<'_>, read_at: Instant) -> Look {
        let Some(peer) = self.peers.get_mut(place) else { return Look::Same };
        let node = peer.reading.beat.node;
        let mut changed = false;
        if let Some(slots) = sources.kernel
            && slots.generation(node) != peer.kernel.generation
        {
            if !slots.read(node, &mut peer.kernel) {
                // Whatever is in the copy: it is read again, whole, at the next look.
                peer.kernel.generation = u64::MAX;
                return Look::Torn;
            }
            changed = true;
        }
        if let Some(slot) = sources.socket.slot(node)
            && slot.generation != peer.socket.generation
        {
            peer.socket = *slot;
            changed = true;
        }
        peer.reading.read_at = peer.reading.read_at.max(read_at);
        if !changed {
            return Look::Same;
        }
        let slot = if peer.socket.generation == 0 {
            &peer.kernel
        } else if peer.kernel.generation == 0 {
            &peer.socket
        } else {
            merge(&peer.kernel, &peer.socket, &mut self.merged);
            &self.merged
        };
        if !fill(&mut peer.reading, slot) {
            self.undecodable += 1;
        }
        Look::Changed
    }
}

/// Turns a slot into a reading; false when its body does not decode. Then what the peer *said* is unchanged, but that it
/// was heard is true all the same.
fn fill(reading: &mut Reading, slot: &PeerSlot) -> bool {
    reading.heard = slot.body_len != 0;
    reading.heard_at = Instant(slot.heard_ns);
    reading.counts_at = (slot.counts_ns != 0).then_some(Instant(slot.counts_ns));
    reading.accepted = slot.accepted;
    for (link, id) in reading.links.iter_mut().zip(LinkId::all()) {
        let Some(known) = slot.links.get(id.index()) else { continue };
        *link = LinkReading {
            at: (known.stamp_ns != 0).then_some(Instant(known.stamp_ns)),
            seq: known.seq,
            first_seq: known.first_seq,
            frames: known.frames,
            sent_ns: known.sent_ns,
            keepalive_us: known.keepalive_us as u32,
        };
    }
    !reading.heard || decode_into(slot.body(), &mut reading.beat).is_ok()
}

#[cfg(test)]
mod tests {
    use agent_common::maps::{LinkSlot, PeerSlot};
    use agent_common::{KeyId, LinkId, NodeId};
    use agent_core::{Instant, Reading};

    use super::fill;

    #[test]
    fn a_slot_becomes_a_reading() {
        let node = NodeId::new(1).expect("in range");
        let mut slot = PeerSlot { heard_ns: 70, counts_ns: 60, accepted: 4, ..PeerSlot::EMPTY };
        slot.links[2] = LinkSlot { stamp_ns: 65, seq: 9, frames: 8, first_seq: 1, ..LinkSlot::default() };
        let beat =
            agent_common::Beat { seq: 9, keepalive_us: 1, deadtime_us: 3, ..agent_common::Beat::empty(node) };
        let mut frame = [0; agent_common::wire::FRAME_MAX];
        let link = LinkId::new(2).expect("in range");
        let key = agent_common::maps::KeyState::default();
        let length =
            agent_common::wire::encode(&beat, link, 1, 7, KeyId::new(1).expect("not zero"), &key, &mut frame);
        let body = length - agent_common::wire::TAG_LEN;
        slot.body[..body].copy_from_slice(&frame[..body]);
        slot.body_len = body as u64;

        let mut reading = Reading::silent(node, Instant::ZERO);
        assert!(fill(&mut reading, &slot));
        assert!(reading.heard);
        assert_eq!(
            (reading.heard_at, reading.counts_at, reading.accepted),
            (Instant(70), Some(Instant(60)), 4)
        );
        assert_eq!((reading.links[2].at, reading.links[2].seq), (Some(Instant(65)), 9));
        assert_eq!(reading.links[0].at, None);
        assert_eq!(reading.beat.seq, 9);

        slot.body[0] ^= 1;
        slot.counts_ns = 0;
        assert!(!fill(&mut reading, &slot), "no heartbeat any more");
        assert_eq!((reading.counts_at, reading.beat.seq), (None, 9));
    }
}
