//! What the kernel of one machine keeps, apart from the agent: the slots and windows of the peers, the gates with their
//! bars. The rules of counting are those of `agent_common::window`, held against it by a test; no digest is computed,
//! since an attacker who lacks the key can only replay.

use agent_common::Claim;
use agent_core::{Instant, LinkReading, Reading};

use super::packet::{GROUPS, LINKS, NODES, Packet};

/// How far below the highest number of a link a frame may come late.
const WINDOW: u64 = agent_common::window::WINDOW;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Taken {
    /// It was not refused.
    pub accepted: bool,
    /// It was above everything heard from its sender.
    pub newest: bool,
    /// Userspace must be woken.
    pub news: bool,
    /// Bit for each group whose bar it raised.
    pub raised: u8,
}

/// The gate of one group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gate {
    pub(super) epoch: u64,
    pub(super) expiry: Instant,
    pub(super) bar: u64,
}

impl Gate {
    /// Whether the group's addresses answer at `local`.
    pub(super) fn is_open(&self, local: Instant) -> bool {
        local < self.expiry && self.epoch >= self.bar
    }
}

/// What a frame said that was last told to userspace.
type Said = (u64, u64, u64, Option<u32>);

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    top: u64,
    bits: u64,
}

/// What truly counts of a peer, by the rule and whatever the kernel makes of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Truth {
    pub(super) incarnation: u64,
    top: u64,
    acked: u64,
    /// Newest stamp of the newest incarnation that counts, and the deadtime announced with it.
    pub(super) counts: Option<(Instant, u64)>,
    /// The same, of whatever incarnation.
    pub(super) heard: Option<(Instant, u64)>,
}

/// What is kept of one peer.
#[derive(Clone, Debug)]
struct Peer {
    incarnation: u64,
    top: u64,
    acked: u64,
    told: Option<Said>,
    links: [Window; LINKS],
    generation: u32,
    reading: Reading,
    truth: Truth,
}

/// The kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    me: u8,
    deadtime_max_us: u32,
    /// Nodes of the configuration; others are refused.
    pub(super) nodes: u32,
    /// Our incarnation, as the agent wrote it last.
    pub(super) ours: u64,
    peers: Vec<Peer>,
    pub(super) gates: [Gate; GROUPS],
    order_per_link: bool,
    /// By link: the interval that its frames announce, 0 for the node's.
    pub(super) paces_us: [u32; LINKS],
}

impl Kernel {
    /// A kernel that was just booted.
    pub(super) fn new(me: u8, initdead_us: u32, order_per_link: bool) -> Self {
        let mut kernel = Self {
            me,
            deadtime_max_us: initdead_us,
            nodes: 0,
            ours: 0,
            peers: Vec::new(),
            gates: [Gate::default(); GROUPS],
            order_per_link,
            paces_us: [0; LINKS],
        };
        kernel.forget(true);
        kernel
    }

    /// New maps of slots and windows: what an agent finds that loads the program anew. The gates stay. What truly counts
    /// begins anew `with_truth`: where the agent has lost its memory; else only what was heard goes with the maps.
    pub(super) fn forget(&mut self, with_truth: bool) {
        let truths: [Truth; NODES] =
            std::array::from_fn(|node| self.peers.get(node).map_or_else(Truth::default, |peer| peer.truth));
        let truth = |node: agent_common::NodeId| {
            let kept = Truth { counts: None, heard: None, ..truths[node.index()] };
            if with_truth { Truth::default() } else { kept }
        };
        let peer = |node| Peer {
            incarnation: 0,
            top: 0,
            acked: 0,
            told: None,
            links: [Window::default(); LINKS],
            generation: 0,
            reading: Reading::silent(node, Instant::ZERO),
            truth: truth(node),
        };
        self.peers = agent_common::NodeId::all().take(NODES).map(peer).collect();
    }

    /// How often the slot of `peer` was written.
    pub(super) fn generation(&self, peer: u8) -> u32 {
        self.peers[usize::from(peer)].generation
    }

    /// What truly counts of `peer`.
    pub(super) fn truth(&self, peer: u8) -> &Truth {
        &self.peers[usize::from(peer)].truth
    }

    /// The slot of `peer` as the agent reads it, which looked at the clock at `read_at`, before.
    pub(super) fn read(&mut self, peer: u8, read_at: Instant) -> &Reading {
        let reading = &mut self.peers[usize::from(peer)].reading;
        reading.read_at = read_at;
        reading
    }

    /// A frame arrives.
    pub(super) fn receive(&mut self, packet: &Packet, link: u8, stamp: Instant) -> Taken {
        let is_known = self.nodes >> packet.node & 1 == 1 && packet.node != self.me;
        let is_bounded = packet.deadtime_us != 0 && packet.deadtime_us <= self.deadtime_max_us;
        let (ours, me, per_link) = (self.ours, self.me, self.order_per_link);
        let pace_us = self.paces_us[usize::from(link)];
        let peer = &mut self.peers[usize::from(packet.node)];
        if !is_known || !is_bounded || !peer.judge(packet, link) {
            return Taken::default();
        }
        if packet.incarnation > peer.incarnation {
            peer.forget(packet.incarnation);
        }
        let above_on_link = packet.seq > peer.links[usize::from(link)].top;
        peer.record_link(packet, link, pace_us, stamp);
        peer.generation = peer.generation.wrapping_add(1);
        let newest = packet.seq > peer.top || (per_link && above_on_link);
        let mut taken = Taken { accepted: true, newest, news: false, raised: 0 };
        if newest {
            taken.news = peer.record(packet, ours, me, stamp);
            if peer.acked == ours && ours != 0 && packet.has_claims {
                taken.raised = self.raise(packet);
            }
        }
        let peer = &mut self.peers[usize::from(packet.node)];
        peer.truth.hear(packet, ours, me, stamp);
        taken
    }

    /// The bar: another node holds a group at a higher epoch.
    fn raise(&mut self, packet: &Packet) -> u8 {
        let mut raised = 0;
        for (group, (gate, claim)) in self.gates.iter_mut().zip(&packet.claims).enumerate() {
            let holds = claim.flags & Claim::HELD != 0 && claim.candidate == packet.node;
            if holds && claim.epoch > gate.bar {
                gate.bar = claim.epoch;
                raised |= 1 << group;
            }
        }
        raised
    }
}

impl Peer {
    /// Whether the order of numbers lets it in.
    fn judge(&self, packet: &Packet, link: u8) -> bool {
        if packet.incarnation < self.incarnation || packet.incarnation == 0 || packet.seq == 0 {
            return false;
        }
        let window = self.links[usize::from(link)];
        if packet.incarnation > self.incarnation || packet.seq > window.top {
            return true;
        }
        let age = window.top - packet.seq;
        age < WINDOW && window.bits >> age & 1 == 0
    }

    fn forget(&mut self, incarnation: u64) {
        (self.incarnation, self.top, self.acked) = (incarnation, 0, 0);
        self.links = [Window::default(); LINKS];
        for link in &mut self.reading.links {
            *link = LinkReading { at: link.at, ..LinkReading::default() };
        }
    }

    fn record_link(&mut self, packet: &Packet, link: u8, pace_us: u32, stamp: Instant) {
        let window = &mut self.links[usize::from(link)];
        if packet.seq > window.top {
            let ahead = packet.seq - window.top;
            window.bits = if ahead >= WINDOW { 1 } else { window.bits << ahead | 1 };
            window.top = packet.seq;
        } else {
            window.bits |= 1 << (window.top - packet.seq);
        }
        let shown = &mut self.reading.links[usize::from(link)];
        if shown.at.is_none_or(|before| stamp > before) {
            (shown.at, shown.sent_ns) = (Some(stamp), packet.sent_ns);
        }
        shown.seq = shown.seq.max(packet.seq);
        if shown.frames == 0 || packet.seq < shown.first_seq {
            shown.first_seq = packet.seq;
        }
        shown.frames += 1;
        shown.keepalive_us = pace_us.max(packet.keepalive_us);
    }

    /// It is above everything heard before; whether that is news.
    fn record(&mut self, packet: &Packet, ours: u64, me: u8, stamp: Instant) -> bool {
        self.top = packet.seq;
        if packet.ack_of(me).is_some_and(|ack| ack.incarnation == ours) {
            self.acked = ours;
        }
        let counts = ours != 0 && self.acked == ours;
        let stamp = stamp.max(self.reading.heard_at);
        self.reading.heard = true;
        self.reading.heard_at = stamp;
        self.reading.counts_at = counts.then_some(stamp);
        self.reading.accepted += 1;
        packet.write(&mut self.reading.beat);
        let life = packet.state as u64
            | u64::from(packet.flags | packet.score << 4) << 8
            | u64::from(packet.vote_number) << 16;
        let terms = u64::from(packet.deadtime_us) << 32 | u64::from(packet.votes_version);
        let view = packet.view.map(|view| view.0);
        let said = Some((packet.incarnation, life | u64::from(counts) << 32, terms, view));
        let news = said != self.told;
        self.told = said;
        news
    }
}

impl Truth {
    fn hear(&mut self, packet: &Packet, ours: u64, me: u8, stamp: Instant) {
        if packet.incarnation < self.incarnation {
            return;
        }
        if packet.incarnation > self.incarnation {
            *self = Self { incarnation: packet.incarnation, heard: self.heard, ..Self::default() };
        }
        if packet.seq > self.top {
            self.top = packet.seq;
            if packet.ack_of(me).is_some_and(|ack| ack.incarnation == ours) {
                self.acked = ours;
            }
            if ours != 0 && self.acked == ours {
                self.counts = Some((stamp, u64::from(packet.deadtime_us) * 1000));
                self.heard = self.counts;
            } else {
                self.counts = None;
            }
        }
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
