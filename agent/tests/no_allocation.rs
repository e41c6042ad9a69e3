//! The rt loop allocates nothing once it runs: two loops heartbeat over loopback sockets under a counting allocator, one
//! falls silent, and the other declares it dead and orders the takeover.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_common::maps::{Counter, KeyState};
use agent_common::wire::cluster_id;
use agent_common::{KeyId, LinkId, NodeId};
use agent_core::config::{self, Policy, Quorum, TieBreak, Timing};
use agent_core::{Change, Config, PeerState, Snapshot};
use nix::sys::eventfd::{EfdFlags, EventFd};
use xbeat::bridge::{Keyring, Note};
use xbeat::io::interface;
use xbeat::io::paths::{Arrival, Paths};
use xbeat::io::receiver::Receiver;
use xbeat::io::xdp::cluster_config;
use xbeat::rt::sender::Sender;
use xbeat::rt::waker::Woken;
use xbeat::rt::{Parts, Queues, Rt, clock};
use xbeat::settings::{
    AddressSettings, Cast, Generation, GroupSettings, LinkSettings, NodeSettings, ReceiveMode,
    RuntimeSettings, Scheduling, Settings, XdpSetting,
};
use xbeat::stats::Stats;
use xbeat::takeover::{Job, Task};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what this thread asks for and gives back.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PORT: u16 = 46_950;

fn node(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

fn address(id: u8) -> IpAddr {
    format!("127.0.46.{}", id + 1).parse().unwrap()
}

fn settings(me: u8) -> Settings {
    let names = ["alpha", "beta"];
    Settings {
        cluster: "no-allocation".to_owned(),
        cluster_id: cluster_id("no-allocation"),
        me: node(me),
        nodes: names.map(|name| NodeSettings { name: name.to_owned(), witness: false }).to_vec(),
        timing: Timing {
            keepalive: Duration::from_millis(2),
            deadtime: Duration::from_millis(200),
            warntime: Duration::from_millis(100),
            initdead: Duration::from_secs(10),
        },
        quorum: Quorum { policy: Policy::TwoNode(TieBreak::Always), number: 1 },
        vote_change: None,
        links: vec![LinkSettings {
            id: LinkId::new(0).unwrap(),
            interface: "lo".to_owned(),
            port: PORT,
            cast: Cast::Unicast { addresses: vec![Some(address(0)), Some(address(1))] },
        }],
        groups: vec![GroupSettings {
            name: "web".to_owned(),
            prefer: vec![node(0), node(1)],
            auto_failback: false,
            addresses: vec![AddressSettings {
                address: "192.0.2.1".parse().unwrap(),
                prefix: 32,
                interface: "lo".to_owned(),
            }],
        }],
        key_file: "unused".into(),
        control_socket: "unused".into(),
        metrics_listen: None,
        runtime: RuntimeSettings {
            realtime: false,
            scheduling: Scheduling::Auto,
            priority: 60,
            cpus: Vec::new(),
            state_dir: "unused".into(),
            bpffs: "unused".into(),
            xdp: XdpSetting::Off,
            generation: Generation::Time,
            announce_refresh: Duration::from_secs(30),
        },
    }
}

fn core_config(settings: &Settings) -> Config {
    Config {
        me: settings.me,
        incarnation: 5,
        wall_ms_at_zero: clock::wall_ns() / 1_000_000,
        seed: 1,
        timing: settings.timing,
        nodes: vec![config::NodeConfig::default(); settings.nodes.len()],
        links: settings
            .links
            .iter()
            .map(|link| config::LinkConfig { id: link.id, keepalive: settings.timing.keepalive })
            .collect(),
        quorum: settings.quorum,
        groups: settings
            .groups
            .iter()
            .map(|group| config::GroupConfig {
                prefer: group.prefer.clone(),
                auto_failback: group.auto_failback,
                resources: u8::try_from(group.addresses.len()).unwrap(),
            })
            .collect(),
    }
}

/// A loop, and the ends of its queues that other threads would have.
struct Agent {
    rt: Rt,
    stats: Arc<Stats>,
    jobs: rtrb::Consumer<Job>,
    notes: rtrb::Consumer<Note>,
    _others: (
        rtrb::Producer<xbeat::takeover::Outcome>,
        rtrb::Producer<xbeat::bridge::Command>,
        triple_buffer::Output<Snapshot>,
    ),
}

fn event() -> EventFd {
    EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap()
}

fn agent(me: u8) -> Agent {
    let settings = settings(me);
    let lo = interface::look_up("lo").unwrap();
    let arrival = Arrival::of(&settings.links[0], &settings, lo.as_ref()).unwrap();
    let modes = BTreeMap::from([("lo".to_owned(), ReceiveMode::Socket)]);
    let (paths, errors) = Paths::open(&settings, &[arrival], &modes);
    assert!(errors.is_empty(), "{errors:?}");
    let mut states = vec![KeyState::default(); 256];
    states[1] = KeyState::from_secret(&[7; 32]);
    let keyring = Keyring { sign_with: KeyId::new(1).unwrap(), states };
    let stats = Arc::new(Stats::default());

    let (jobs_in, jobs) = rtrb::RingBuffer::new(16);
    let (outcomes_in, outcomes) = rtrb::RingBuffer::new(16);
    let (commands_in, commands) = rtrb::RingBuffer::new(16);
    let (notes_in, notes) = rtrb::RingBuffer::new(256);
    let (snapshots, shown) = triple_buffer::TripleBuffer::new(&Snapshot::default()).split();
    let queues = Queues {
        jobs: jobs_in,
        jobs_ready: Arc::new(event()),
        outcomes,
        outcomes_ready: Arc::new(event()),
        commands,
        commands_ready: event().into(),
        notes: notes_in,
        notes_ready: event().into(),
        snapshots,
    };
    let parts = Parts {
        config: core_config(&settings),
        kernel: None,
        receiver: Receiver::new(cluster_config(&settings, 5), &keyring, paths.sockets().len()),
        paths,
        sender: Sender::new(settings.cluster_id, 2_000, &keyring),
        queues,
        stats: Arc::clone(&stats),
    };
    Agent { rt: Rt::new(parts).unwrap(), stats, jobs, notes, _others: (outcomes_in, commands_in, shown) }
}

impl Agent {
    fn heard(&self) -> u64 {
        self.stats.socket[Counter::Accepted.index()].load(Ordering::Relaxed)
    }

    fn sent(&self) -> u64 {
        self.stats.sent[0].load(Ordering::Relaxed)
    }
}

/// Runs rounds of the agents until `done`; their timers are not waited for, which only makes for more rounds.
fn rounds(agents: &mut [&mut Agent], mut done: impl FnMut(&[&mut Agent]) -> bool) {
    let limit = clock::now().after(Duration::from_secs(30));
    while !done(agents) {
        assert!(clock::now() < limit, "nothing comes of it");
        for agent in &mut *agents {
            agent.rt.round(Woken { timer: true, receive: true });
        }
    }
}

fn peer_states(agent: &mut Agent) -> Vec<PeerState> {
    let mut states = Vec::new();
    while let Ok(note) = agent.notes.pop() {
        if let Note::Transition(transition) = note
            && let Change::Peer { to, .. } = transition.what
        {
            states.push(to);
        }
    }
    states
}

#[test]
fn heartbeats_a_death_and_a_takeover_allocate_nothing() {
    let (mut alpha, mut beta) = (agent(0), agent(1));
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| agent.heard() >= 20));
    assert!(peer_states(&mut beta).contains(&PeerState::Up));

    let before = ALLOCATIONS.with(Cell::get);
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| agent.heard() >= 220));
    let steady = ALLOCATIONS.with(Cell::get) - before;
    assert!(beta.sent() >= 200 && beta.stats.lateness.read().0.iter().sum::<u64>() >= 200);

    // Alpha is heard no more.
    let before = ALLOCATIONS.with(Cell::get);
    rounds(&mut [&mut beta], |agents| agents.iter().all(|agent| agent.jobs.slots() > 0));
    let takeover = ALLOCATIONS.with(Cell::get) - before;
    assert!(peer_states(&mut beta).contains(&PeerState::Dead));
    assert!(matches!(beta.jobs.pop().map(|job| job.task), Ok(Task::Acquire { .. })));
    assert_eq!(beta.stats.overshoot.read().0.iter().sum::<u64>(), 1);

    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(vec![1u8; 16]));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 2, "the count works");
    assert_eq!((steady, takeover), (0, 0));
}
