//! One machine: a clock, a kernel, a disk, and an agent that may be paused, killed and started anew.

use std::collections::VecDeque;

use agent_core::config::Mutated;
use agent_core::{Action, Carried, Event, Instant, Node, Operator, PeerState, Reading, ResourceRef};

use super::clock::Clock;
use super::kernel::{Kernel, Truth};
use super::packet::{GROUPS, NODES};
use super::plan::Votes;

/// What the agent finds besides the slots when it runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    /// An effect ended well.
    Ended { resource: ResourceRef, attempt: u32, acquires: bool },
    /// The kernel raised a bar.
    Bar { group: u8 },
    /// The operator wants something.
    Operator { ticket: u32, what: Operator },
    /// The clock is being slewed, or no more.
    Slew { ppm: i64 },
    /// So many ping groups are reached.
    Reach { score: u8 },
    /// The ping group answered a request that was sent then.
    Ping { sent: Instant },
}

impl Message {
    /// The event that the core is fed.
    pub(super) fn event(self, kernel: &Kernel) -> Option<Event<'static>> {
        Some(match self {
            Self::Ended { resource, attempt, acquires: true } => {
                Event::Acquired { resource, attempt, result: Ok(()) }
            }
            Self::Ended { resource, attempt, acquires: false } => {
                Event::Released { resource, attempt, result: Ok(()) }
            }
            Self::Bar { group } => Event::Bar {
                group: agent_common::GroupId::new(group)?,
                epoch: kernel.gates[usize::from(group)].bar,
            },
            Self::Operator { ticket, what } => Event::Operator { ticket, what },
            Self::Reach { score } => Event::Reach { score },
            Self::Ping { sent } => Event::Ping { reached: Some(sent) },
            Self::Slew { ppm } => Event::Slew { ppm: u32::try_from(ppm.unsigned_abs()).ok()? },
        })
    }
}

/// An action that waits for its turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A heartbeat, already written.
    Send { packet: u32, links: u8 },
    /// Anything else.
    Other(Action),
}

/// A stamp, and the deadtime in nanoseconds that was announced with it.
type Heard = (Instant, u64);

/// A running (or paused) agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) node: Node,
    pub(super) inbox: Vec<Message>,
    pub(super) is_paused: bool,
    /// What is to be done when it goes on.
    pub(super) woken: bool,
    pub(super) reading: Option<Instant>,
    pub(super) steps: VecDeque<Step>,
    /// The number of the armed timer.
    pub(super) armed: u32,
    /// By peer: the slot's generation at the last reading.
    pub(super) seen: [u32; NODES],
    /// By peer: its state, as the core told it.
    pub(super) believed: [PeerState; NODES],
    /// By peer: what counted when its slot was last read.
    pub(super) read_truth: [(Option<Heard>, Option<Heard>); NODES],
    /// By peer: the incarnation that was read last, and the first sign of it.
    life_read: [(u64, Instant); NODES],
    /// The ticket of a pause that the operator asked for.
    pub(super) pausing: Option<u32>,
    /// By peer: until when it is not called dead, since it was taken over as living and its slot may be new.
    pub(super) spared_until: [Instant; NODES],
}

impl Agent {
    /// An agent around `node`.
    pub(super) fn new(node: Node) -> Self {
        Self {
            node,
            inbox: Vec::new(),
            is_paused: false,
            woken: false,
            reading: None,
            steps: VecDeque::new(),
            armed: 0,
            seen: [0; NODES],
            believed: [PeerState::Unknown; NODES],
            read_truth: [(None, None); NODES],
            life_read: [(0, Instant::ZERO); NODES],
            pausing: None,
            spared_until: [Instant::ZERO; NODES],
        }
    }

    /// Takes up what the core was handed over of its peers, of which the first `listed` are still there, at `local`.
    pub(super) fn take_over(&mut self, carried: &Carried, listed: usize, local: Instant) {
        for peer in carried.peers.iter().filter(|peer| peer.node.index() < listed) {
            let index = peer.node.index();
            self.believed[index] = peer.state;
            if matches!(peer.state, PeerState::Up | PeerState::Late | PeerState::Leaving) {
                let deadtime = std::time::Duration::from_micros(u64::from(peer.deadtime_us));
                self.spared_until[index] = local.after(deadtime);
            }
        }
    }

    /// Its slot of `peer` was read. A life that does not count yet is a sign of life once, when it is read first.
    pub(super) fn note_reading(&mut self, peer: usize, truth: &Truth, reading: &Reading) {
        let (known, _) = self.life_read[peer];
        if truth.incarnation > known {
            self.life_read[peer] = (truth.incarnation, reading.heard_at.min(reading.read_at));
        }
        let (_, born) = self.life_read[peer];
        // What an earlier life announced last may have been overwritten before it was read.
        let (_, before) = self.read_truth[peer];
        let known = before.filter(|_| truth.counts.is_none()).map_or(0, |(_, deadtime)| deadtime);
        let heard = truth.heard.map(|(stamp, deadtime)| (stamp.max(born), deadtime.max(known)));
        self.read_truth[peer] = (truth.counts, heard);
    }
}

/// What the next agent of a machine starts with.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// The next incarnation.
    Fresh,
    /// This one, whatever the disk says.
    Incarnation(u64),
    /// What the one before handed over.
    Carried(Box<Carried>),
}

/// One machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: u8,
    pub(super) clock: Clock,
    /// Milliseconds since 1970 when the clock showed zero.
    pub(super) wall_ms_at_zero: u64,
    pub(super) kernel: Kernel,
    pub(super) agent: Option<Agent>,
    /// The incarnation on disk.
    pub(super) disk: u64,
    /// The highest incarnation that it ever used.
    pub(super) highest: u64,
    /// Counts agents.
    pub(super) life: u32,
    /// Without power nothing is received.
    pub(super) is_up: bool,
    pub(super) is_frozen: bool,
    /// When it goes on, if it is frozen.
    pub(super) thaws_at: u64,
    pub(super) next: Next,
    pub(super) votes: Votes,
    /// The announced deadtime, as configured on this node.
    pub(super) deadtime_us: u64,
    pub(super) mutated: Mutated,
    /// Somebody put a group on standby here, or told the node to leave.
    pub(super) stood_by: bool,
    /// Decisions are suspended.
    pub(super) in_maintenance: bool,
    /// Whether it lists the nodes that joined.
    pub(super) knows_joined: bool,
    /// By group: whether this agent has opened its gate.
    pub(super) has_opened: [bool; GROUPS],
    /// By how much the clock is being slewed, parts per million.
    pub(super) slewed: i64,
    /// Groups whose address is there.
    pub(super) addresses: [bool; GROUPS],
    tickets: u32,
}

impl Machine {
    /// A machine that was just booted, without an agent.
    pub(super) fn new(id: u8, clock: Clock, kernel: Kernel, votes: Votes, mutated: Mutated) -> Self {
        Self {
            id,
            clock,
            wall_ms_at_zero: 0,
            kernel,
            agent: None,
            disk: 0,
            highest: 0,
            life: 0,
            is_up: true,
            is_frozen: false,
            thaws_at: 0,
            next: Next::Fresh,
            votes,
            deadtime_us: 0,
            mutated,
            stood_by: false,
            in_maintenance: false,
            knows_joined: false,
            has_opened: [false; GROUPS],
            slewed: 0,
            addresses: [false; GROUPS],
            tickets: 0,
        }
    }

    /// Tells a running agent something; false when there is none.
    pub(super) fn tell(&mut self, message: Message) -> bool {
        let Some(agent) = self.agent.as_mut() else { return false };
        agent.inbox.push(message);
        true
    }

    /// A command of the operator; its ticket, `None` when no agent runs.
    pub(super) fn command(&mut self, what: Operator) -> Option<u32> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.tell(Message::Operator { ticket, what }).then_some(ticket)
    }

    /// Whether the addresses of `group` answer at the true time `now`.
    pub(super) fn is_open(&self, group: usize, now: u64) -> bool {
        self.is_up && !self.is_frozen && self.kernel.gates[group].is_open(self.clock.at(now))
    }
}
