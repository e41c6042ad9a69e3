//! The world: the virtual clock, what is due when, and the checks after each round of each agent.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use agent_common::wire::FRAME_MAX;
use agent_common::{GroupId, LinkId, NodeId};
use agent_core::{Action, Event, ResourceRef, Snapshot, Transition};

use super::machine::{Machine, Message, Setup};
use super::network::Network;
use super::rng::Rng;
use super::witness::Witness;

/// An agent that is not paused wakes no later than this after it asked.
pub(super) const WAKE_MAX: Duration = Duration::from_micros(200);
/// An effect takes no longer than this.
const EFFECT_MAX: Duration = Duration::from_millis(2);
/// Transitions that are printed when a test fails.
const TRACE: usize = 80;

/// An armed timer: arming it anew voids it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    number: u64,
    asked: u64,
}

/// What is due.
#[derive(Debug)]
pub(super) enum Due {
    /// Rounds by news and messages have no timer.
    Round {
        node: NodeId,
        life: u64,
        timer: Option<Timer>,
    },
    Frame {
        to: NodeId,
        link: LinkId,
        frame: Rc<[u8]>,
    },
    Effect {
        node: NodeId,
        life: u64,
        resource: ResourceRef,
        attempt: u32,
        acquires: bool,
    },
    Resume {
        node: NodeId,
        life: u64,
    },
}

/// A cluster under a virtual clock.
pub struct World {
    /// What happened so far.
    pub witness: Witness,
    pub(super) setup: Setup,
    seed: u64,
    rng: Rng,
    pub(super) now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Due>,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    trace: Vec<(u64, NodeId, Transition)>,
}

impl World {
    /// A world in which every machine has just started its agent.
    pub fn new(setup: &Setup, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let machines = NodeId::all()
            .take(usize::from(setup.nodes))
            .map(|id| Machine::new(id, setup, 1_000_000_000 + rng.below(1_000_000_000_000)))
            .collect();
        let mut world = Self {
            witness: Witness::default(),
            setup: setup.clone(),
            seed,
            rng,
            now: 1_000_000_000,
            order: 0,
            queue: BTreeMap::new(),
            machines,
            network: Network::new(usize::from(setup.nodes), usize::from(setup.links)),
            trace: Vec::new(),
        };
        world.nodes().for_each(|node| world.start(node));
        world
    }

    /// The nodes of the world.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        NodeId::all().take(usize::from(self.setup.nodes))
    }

    /// Nanoseconds since the world's beginning, more or less.
    pub const fn now_ns(&self) -> u64 {
        self.now
    }

    /// Lets `span` pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + nanos(span);
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), due) = entry.remove_entry();
            self.now = at;
            self.happen(due);
        }
        self.now = end;
    }

    /// Lets time pass until `reached`, at most `bound`; how long it took, `None` if it was not reached.
    pub fn run_until(&mut self, bound: Duration, reached: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while !reached(self) {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at)?;
            if next > start + nanos(bound) {
                return None;
            }
            self.run(Duration::from_nanos(next - self.now));
        }
        Some(Duration::from_nanos(self.now - start))
    }

    /// Whose machines have the address of `group`.
    pub fn holders(&self, group: GroupId) -> Vec<NodeId> {
        let address = ResourceRef { group, index: 0 };
        let with = self.machines.iter().filter(|machine| machine.addresses.contains(&address));
        with.map(|machine| machine.id).collect()
    }

    /// Whose gate of `group` is open.
    pub fn open(&self, group: GroupId) -> Vec<NodeId> {
        let is_open = |machine: &&Machine| {
            machine.gates.get(&group).is_some_and(|expiry| machine.clock(self.now) < *expiry)
        };
        self.machines.iter().filter(is_open).map(|machine| machine.id).collect()
    }

    /// What the agent of `node` thinks, if it runs.
    pub fn view(&self, node: NodeId) -> Option<Snapshot> {
        let machine = self.machines.get(node.index())?;
        let mut snapshot = Snapshot::default();
        machine.agent.as_ref()?.node.snapshot_into(&mut snapshot, machine.clock(self.now));
        Some(snapshot)
    }

    /// Whether the agent of `node` runs.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.machines.get(node.index()).is_some_and(|machine| machine.agent.is_some())
    }

    pub(super) fn machine(&mut self, node: NodeId) -> &mut Machine {
        &mut self.machines[node.index()]
    }

    pub(super) fn plan(&mut self, at: u64, due: Due) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), due);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Round { node, life, timer } => {
                if self.runs(node, life) && timer.is_none_or(|timer| self.is_armed(node, timer)) {
                    self.round(node);
                }
            }
            Due::Frame { to, link, frame } => self.arrive(to, link, &frame),
            Due::Effect { node, life, resource, attempt, acquires } => {
                self.effect(node, life, resource, attempt, acquires);
            }
            Due::Resume { node, life } => self.resume(node, life),
        }
    }

    /// Whether that life of the agent is there and not paused.
    fn runs(&mut self, node: NodeId, life: u64) -> bool {
        let machine = self.machine(node);
        machine.life == life && machine.agent.as_ref().is_some_and(|agent| !agent.is_paused)
    }

    fn is_armed(&self, node: NodeId, timer: Timer) -> bool {
        let agent = self.machines[node.index()].agent.as_ref();
        agent.is_some_and(|agent| agent.armed == timer.number)
    }

    fn resume(&mut self, node: NodeId, life: u64) {
        let now = self.now;
        let machine = self.machine(node);
        if machine.life != life {
            return;
        }
        let Some(agent) = machine.agent.as_mut() else { return };
        agent.is_paused = false;
        agent.excused_until = now + nanos(WAKE_MAX);
        let asked = agent.node.poll_timeout();
        let late = now.saturating_sub(machine.world_ns(asked));
        self.witness.late_rounds += u64::from(late > nanos(self.setup.timing.deadtime));
        self.plan(now, Due::Round { node, life, timer: None });
    }

    fn arrive(&mut self, to: NodeId, link: LinkId, frame: &[u8]) {
        let now = self.now;
        let machine = self.machine(to);
        if machine.agent.is_none() {
            return;
        }
        if let Ok(accepted) = machine.receive(link, frame, now) {
            self.witness.frames += 1;
            if accepted.news {
                self.wake(to);
            }
        }
    }

    /// The agent of `node` is to run soon.
    fn wake(&mut self, node: NodeId) {
        let life = self.machine(node).life;
        let at = self.now + self.rng.below(nanos(WAKE_MAX));
        self.plan(at, Due::Round { node, life, timer: None });
    }

    pub(super) fn tell(&mut self, node: NodeId, message: Message) {
        if let Some(agent) = self.machine(node).agent.as_mut() {
            agent.inbox.push(message);
            self.wake(node);
        }
    }

    fn effect(&mut self, node: NodeId, life: u64, resource: ResourceRef, attempt: u32, acquires: bool) {
        let machine = self.machine(node);
        let Some(agent) = machine.agent.as_ref().filter(|_| machine.life == life) else { return };
        if agent.is_paused {
            self.plan(self.now + 1_000_000, Due::Effect { node, life, resource, attempt, acquires });
            return;
        }
        if acquires {
            machine.addresses.insert(resource);
            self.witness.acquired += 1;
            let doubled = self.holders(resource.group).len() > 1;
            self.witness.doubles += u64::from(doubled);
        } else {
            self.witness.released += u64::from(machine.addresses.remove(&resource));
        }
        self.tell(node, Message::Ended { resource, attempt, acquires, result: Ok(()) });
    }

    /// A round of an agent, as the core's contract has it.
    fn round(&mut self, node: NodeId) {
        let now = self.now;
        let machine = self.machine(node);
        let clock = machine.clock(now);
        let Some(agent) = machine.agent.as_mut() else { return };
        let is_due = clock >= agent.node.poll_timeout();
        for message in std::mem::take(&mut agent.inbox) {
            self.feed(node, message.event());
        }
        for peer in self.nodes().filter(|peer| *peer != node) {
            let machine = self.machine(node);
            let generation = machine.generation(peer);
            let Some(agent) = machine.agent.as_mut() else { return };
            let seen = std::mem::replace(&mut agent.seen[peer.index()], generation);
            if is_due || seen != generation {
                let reading = machine.read(peer, clock);
                self.feed(node, Event::Reading(&reading));
            }
        }
        if let Some(agent) = self.machine(node).agent.as_mut() {
            agent.node.handle_timeout(clock);
        }
        self.drain(node);
        self.check(node);
        self.sleep(node);
    }

    /// Arms the agent's timer.
    fn sleep(&mut self, node: NodeId) {
        let late = self.rng.below(nanos(WAKE_MAX));
        let machine = self.machine(node);
        let (life, Some(agent)) = (machine.life, machine.agent.as_mut()) else { return };
        agent.armed += 1;
        let wanted = agent.node.poll_timeout();
        if wanted == agent_core::Instant::NEVER {
            return;
        }
        let timer = Timer { number: agent.armed, asked: machine.world_ns(wanted) };
        assert!(timer.asked > self.now, "{node:?} would spin");
        self.plan(timer.asked + late, Due::Round { node, life, timer: Some(timer) });
    }

    fn feed(&mut self, node: NodeId, event: Event<'_>) {
        let now = self.now;
        let machine = self.machine(node);
        let clock = machine.clock(now);
        if let Some(agent) = machine.agent.as_mut() {
            agent.node.handle(event, clock);
        }
        self.drain(node);
    }

    fn drain(&mut self, node: NodeId) {
        while let Some(action) = self.machine(node).agent.as_mut().and_then(|agent| agent.node.poll_action())
        {
            match action {
                Action::Send { links } => self.send(node, links),
                Action::Acquire { resource, attempt } => self.begin(node, resource, attempt, true),
                Action::Release { resource, attempt } => self.begin(node, resource, attempt, false),
                Action::Gate { group, expiry, .. } => {
                    self.machine(node).gates.insert(group, expiry);
                }
                Action::SelfFence { .. } | Action::Fence { .. } | Action::Answer { .. } => {}
                Action::Announce { .. } => self.witness.announced += 1,
                Action::PetWatchdog => {}
                Action::Transition(transition) => {
                    self.trace.push((self.now, node, transition));
                    self.check_verdict(node, &transition.what);
                }
                Action::Finished => {
                    self.witness.finished += 1;
                    self.machine(node).agent = None;
                }
            }
        }
    }

    /// An effect is handed to the thread that carries them out in order.
    fn begin(&mut self, node: NodeId, resource: ResourceRef, attempt: u32, acquires: bool) {
        let takes = self.rng.below(nanos(EFFECT_MAX));
        let now = self.now;
        let machine = self.machine(node);
        let life = machine.life;
        let done = machine.busy_until.max(now) + takes;
        machine.busy_until = done;
        self.plan(done, Due::Effect { node, life, resource, attempt, acquires });
    }

    fn send(&mut self, from: NodeId, links: u8) {
        let mut frame = [0; FRAME_MAX];
        for link in LinkId::all().filter(|link| links & 1 << link.raw() != 0) {
            let machine = &self.machines[from.index()];
            let Some(agent) = machine.agent.as_ref() else { return };
            let Some(len) = machine.frame(agent.node.outgoing(), link, &mut frame) else { return };
            let bytes: Rc<[u8]> = frame[..len].into();
            for to in self.nodes().filter(|to| *to != from) {
                match self.network.carry(from, to, link, &mut self.rng) {
                    None => self.witness.lost += 1,
                    Some(delay) => {
                        let at = self.now + nanos(delay);
                        self.plan(at, Due::Frame { to, link, frame: Rc::clone(&bytes) });
                    }
                }
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}; the last transitions:", self.seed);
            for (at, node, transition) in self.trace.iter().rev().take(TRACE).rev() {
                let ms = (at - 1_000_000_000) / 1000;
                eprintln!("{:>8}.{:03} ms node {}: {:?}", ms / 1000, ms % 1000, node.raw(), transition.what);
            }
        }
    }
}

pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
