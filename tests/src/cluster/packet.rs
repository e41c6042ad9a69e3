//! Heartbeats under way: one copy for each that was sent, shared by all links and receivers, and kept by the attacker.

use agent_common::{Ack, Beat, Claim, NodeSet, NodeState};

/// Most nodes of a simulated cluster.
pub(super) const NODES: usize = 8;
/// Most groups of it.
pub(super) const GROUPS: usize = 8;
/// Most links of it.
pub(super) const LINKS: usize = 3;

/// A heartbeat, without the room that only larger clusters need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) node: u8,
    pub(super) state: NodeState,
    pub(super) flags: u8,
    pub(super) score: u8,
    pub(super) vote_number: u16,
    pub(super) incarnation: u64,
    pub(super) seq: u64,
    pub(super) sent_ns: u64,
    pub(super) keepalive_us: u32,
    pub(super) deadtime_us: u32,
    pub(super) votes_version: u32,
    pub(super) acked: NodeSet,
    pub(super) acks: [Ack; NODES],
    pub(super) view: Option<NodeSet>,
    pub(super) has_claims: bool,
    /// What the sender votes for, whether the frame carries it or not.
    pub(super) claims: [Claim; GROUPS],
}

impl Packet {
    /// What `beat` says.
    pub(super) fn of(beat: &Beat) -> Self {
        let mut packet = Self {
            node: beat.node.raw(),
            state: beat.state,
            flags: beat.flags,
            score: beat.score,
            vote_number: beat.vote_number,
            incarnation: beat.incarnation,
            seq: beat.seq,
            sent_ns: beat.sent_ns,
            keepalive_us: beat.keepalive_us,
            deadtime_us: beat.deadtime_us,
            votes_version: beat.votes_version,
            acked: beat.acked,
            acks: [Ack::default(); NODES],
            view: beat.view,
            has_claims: beat.has_claims,
            claims: [Claim::default(); GROUPS],
        };
        packet.acks.copy_from_slice(&beat.acks[..NODES]);
        packet.claims.copy_from_slice(&beat.claims[..GROUPS]);
        packet
    }

    /// Writes it over `beat`, as the wire would have it: no table unless it is carried.
    pub(super) fn write(&self, beat: &mut Beat) {
        beat.state = self.state;
        beat.flags = self.flags;
        beat.score = self.score;
        beat.vote_number = self.vote_number;
        beat.incarnation = self.incarnation;
        beat.seq = self.seq;
        beat.sent_ns = self.sent_ns;
        beat.keepalive_us = self.keepalive_us;
        beat.deadtime_us = self.deadtime_us;
        beat.votes_version = self.votes_version;
        beat.acked = self.acked;
        for (node, (to, from)) in beat.acks.iter_mut().zip(&self.acks).enumerate() {
            *to = if self.acked.0 >> node & 1 == 1 { *from } else { Ack::default() };
        }
        beat.view = self.view;
        beat.has_claims = self.has_claims;
        let none = [Claim::default(); GROUPS];
        let claims = if self.has_claims { &self.claims } else { &none };
        beat.claims[..GROUPS].copy_from_slice(claims);
    }

    /// What it acknowledges of `node`.
    pub(super) fn ack_of(&self, node: u8) -> Option<&Ack> {
        (self.acked.0 >> node & 1 == 1).then(|| &self.acks[usize::from(node)])
    }
}

/// All heartbeats that somebody still needs.
#[derive(Debug, Default)]
pub(super) struct Pool {
    packets: Vec<Packet>,
    users: Vec<u32>,
    free: Vec<u32>,
}

impl Pool {
    /// Keeps `packet` for its sender until that one drops it.
    pub(super) fn add(&mut self, packet: &Packet) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.packets[index as usize] = *packet;
                self.users[index as usize] = 1;
                index
            }
            None => {
                self.packets.push(*packet);
                self.users.push(1);
                u32::try_from(self.packets.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    /// One more needs it.
    pub(super) fn share(&mut self, index: u32) {
        self.users[index as usize] += 1;
    }

    /// One fewer needs it.
    pub(super) fn leave(&mut self, index: u32) {
        let users = &mut self.users[index as usize];
        *users -= 1;
        if *users == 0 {
            self.free.push(index);
        }
    }

    /// The heartbeat.
    pub(super) fn get(&self, index: u32) -> &Packet {
        &self.packets[index as usize]
    }
}
