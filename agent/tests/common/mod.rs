//! Two rt loops in one process, without XDP and without the other threads: their queues' other ends are the test's.

#![allow(clippy::unwrap_used, dead_code, reason = "tests; not every test uses everything")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_common::maps::{Counter, KeyState};
use agent_common::wire::cluster_id;
use agent_common::{KeyId, LinkId, NodeId};
use agent_core::config::{self, Policy, Quorum, TieBreak, Timing};
use agent_core::{Change, Config, PeerState, Snapshot};
use nix::sys::eventfd::{EfdFlags, EventFd};
use xbeat::bridge::{Command, Keyring, Note};
use xbeat::io::interface;
use xbeat::io::paths::{Arrival, Part, Paths};
use xbeat::io::receiver::Receiver;
use xbeat::io::xdp::cluster_config;
use xbeat::links::{self, FollowerEnd};
use xbeat::rt::sender::Sender;
use xbeat::rt::waker::Woken;
use xbeat::rt::{Parts, Queues, Rt, clock};
use xbeat::serial;
use xbeat::settings::{
    AddressSettings, Autojoin, Cast, Generation, GroupSettings, LinkSettings, Medium, NetworkLink,
    NodeSettings, ReceiveMode, RuntimeSettings, Scheduling, SerialLink, Settings, XdpSetting,
};
use xbeat::stats::Stats;
use xbeat::takeover::Job;

pub(crate) fn node(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

fn address(id: u8) -> IpAddr {
    format!("127.0.46.{}", id + 1).parse().unwrap()
}

fn settings(me: u8, port: u16) -> Settings {
    let names = ["alpha", "beta"];
    Settings {
        cluster: "no-allocation".to_owned(),
        cluster_id: cluster_id("no-allocation"),
        me: node(me),
        nodes: names
            .map(|name| NodeSettings { name: name.to_owned(), witness: false, joined: false })
            .to_vec(),
        timing: Timing {
            keepalive: Duration::from_millis(2),
            deadtime: Duration::from_millis(200),
            warntime: Duration::from_millis(100),
            initdead: Duration::from_secs(10),
        },
        quorum: Quorum { policy: Policy::TwoNode(TieBreak::Always), number: 1, change: None },
        vote_change: None,
        links: vec![LinkSettings {
            id: LinkId::new(0).unwrap(),
            keepalive: Duration::from_millis(2),
            medium: Medium::Network(NetworkLink {
                interface: "lo".to_owned(),
                port,
                cast: Cast::Unicast { addresses: vec![Some(address(0)), Some(address(1))] },
            }),
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
        pings: Vec::new(),
        tie_break_ping: None,
        reachtime: Duration::from_secs(5),
        autojoin: Autojoin::None,
        key_file: "unused".into(),
        control_socket: "unused".into(),
        metrics_listen: None,
        watchdog: None,
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

fn core_config(settings: &Settings, incarnation: u64) -> Config {
    Config {
        me: settings.me,
        name: agent_common::Name::NONE,
        incarnation,
        wall_ms_at_zero: clock::wall_ns() / 1_000_000,
        seed: 1,
        timing: settings.timing,
        nodes: vec![config::NodeConfig::default(); settings.nodes.len()],
        links: settings
            .links
            .iter()
            .map(|link| config::LinkConfig { id: link.id, keepalive: link.keepalive })
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
        reach_dampening: Duration::from_secs(5),
        start: agent_core::config::Start::Fresh,
        gate: agent_core::config::GateKind::Userspace,
        mutated: agent_core::config::Mutated::default(),
    }
}

/// A loop, and the ends of its queues that other threads would have.
pub(crate) struct Agent {
    pub(crate) rt: Rt,
    /// Dropped after the loop, which it waits for.
    _line: Option<serial::Running>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) jobs: rtrb::Consumer<Job>,
    pub(crate) notes: rtrb::Consumer<Note>,
    pub(crate) commands: rtrb::Producer<Command>,
    pub(crate) follower: FollowerEnd,
    _others: (rtrb::Producer<xbeat::takeover::Outcome>, triple_buffer::Output<Snapshot>),
}

fn event() -> EventFd {
    EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap()
}

/// Node `me` of two that talk over loopback sockets on `port`.
pub(crate) fn agent(me: u8, incarnation: u64, port: u16) -> Agent {
    build(&settings(me, port), incarnation)
}

/// The same, and over a serial line between these devices.
pub(crate) fn agent_with_line(me: u8, incarnation: u64, port: u16, devices: [PathBuf; 2]) -> Agent {
    let mut settings = settings(me, port);
    let devices = devices.map(|device| vec![device]).to_vec();
    settings.links.push(LinkSettings {
        id: LinkId::new(1).unwrap(),
        keepalive: Duration::from_millis(10),
        medium: Medium::Serial(SerialLink { devices, baud: 460_800, rtscts: false, hopfudge: 1 }),
    });
    build(&settings, incarnation)
}

fn build(settings: &Settings, incarnation: u64) -> Agent {
    let lo = interface::look_up("lo").unwrap();
    let arrival =
        Arrival::of(settings.links[0].id, settings.links[0].network().unwrap(), settings, lo.as_ref())
            .unwrap();
    let (part, errors) = Part::open(settings, &[arrival], ReceiveMode::Socket);
    assert!(errors.is_empty(), "{errors:?}");
    let mut paths = Paths::default();
    paths.put(0, Some(Box::new(part)));
    let (links, follower) = links::ends().unwrap();
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
        links,
        snapshots,
        handed_over: Arc::default(),
    };
    let (line_notes, _) = rtrb::RingBuffer::new(256);
    let made = serial::make(settings, &stats, line_notes, event().into()).unwrap();
    let (serial, line) = made.map_or((None, None), |(ends, thread)| {
        (Some(ends), Some(serial::Running::start(thread, &settings.runtime).unwrap()))
    });
    let parts = Parts {
        config: core_config(settings, incarnation),
        kernel: None,
        receiver: Receiver::new(cluster_config(settings, incarnation), &keyring),
        paths,
        serial,
        pings: None,
        sender: Sender::new(settings.cluster_id, &settings.links, &keyring),
        queues,
        gates: None,
        watchdog: None,
        stats: Arc::clone(&stats),
    };
    let rt = Rt::new(parts).unwrap();
    Agent {
        rt,
        _line: line,
        stats,
        jobs,
        notes,
        commands: commands_in,
        follower,
        _others: (outcomes_in, shown),
    }
}

impl Agent {
    /// Heartbeats above everything heard before.
    pub(crate) fn heard(&self) -> u64 {
        self.stats.socket[Counter::Accepted.index()].load(Ordering::Relaxed)
    }

    /// Heartbeats sent.
    pub(crate) fn sent(&self) -> u64 {
        self.stats.sent[0].load(Ordering::Relaxed)
    }
}

/// Runs rounds of the agents until `done`; their timers are not waited for, which only makes for more rounds.
pub(crate) fn rounds(agents: &mut [&mut Agent], mut done: impl FnMut(&[&mut Agent]) -> bool) {
    let limit = clock::now().after(Duration::from_secs(30));
    while !done(agents) {
        assert!(clock::now() < limit, "nothing comes of it");
        for agent in &mut *agents {
            agent.rt.round(Woken { timer: true, receive: true });
        }
    }
}

/// The states that the peer went through since the last call.
pub(crate) fn peer_states(agent: &mut Agent) -> Vec<PeerState> {
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
