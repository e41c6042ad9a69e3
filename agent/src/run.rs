//! `xbeat run`: from a configuration to a node that takes part. The order is the point: attach XDP, since that may take
//! a link down for a moment; remove what a killed predecessor left; only then the first frame.

mod lives;
mod network;
mod notify;
mod queues;
mod replace;
mod threads;

pub use lives::{Invocation, run};
pub(crate) use replace::program;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_common::GroupId;
use agent_core::{Config, config};
use nix::errno::Errno;
use tracing::{info, warn};

use crate::bridge::{Keyring, Process};
use crate::carry::Stays;
use crate::gate::keeper::Keeper;
use crate::generation::GenerationError;
use crate::io::xdp::LoadError;
use crate::keys::KeyError;
use crate::links::follower::{self, Follower};
use crate::links::watch::Watch;
use crate::ping;
use crate::rt::sender::Sender;
use crate::rt::{self, clock, sched};
use crate::serial;
use crate::settings::{GroupSettings, LinkSettings, Settings};
use crate::stats::Stats;
use crate::takeover::netlink::{Notifications, Requests};
use crate::takeover::packet::PacketSocket;
use crate::takeover::{Takeover, leftovers};
use crate::watchdog::{Watchdog, WatchdogError};
use queues::Queues;
use threads::Left;

/// Why the agent did not start or had to end. No address of a group is served then.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The key file.
    #[error("the keys could not be loaded")]
    Keys(#[from] KeyError),
    /// The incarnation.
    #[error("this node has no incarnation")]
    Generation(#[from] GenerationError),
    /// The interfaces could not be listed.
    #[error("the network interfaces could not be listed")]
    Interfaces(#[source] std::io::Error),
    /// No link can be used.
    #[error("none of the links can be used: see the warnings above")]
    NoLink,
    /// No link can be used, for want of privilege.
    #[error("none of the links can be used: run it as root, or give it CAP_NET_BIND_SERVICE and CAP_NET_RAW")]
    NotPermitted(#[source] std::io::Error),
    /// A socket or descriptor of the agent's own.
    #[error("{what} could not be made")]
    Descriptor {
        /// What it is for.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A thread.
    #[error("thread {name} could not be started")]
    Thread {
        /// Its name.
        name: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The control thread cannot wait for signals; the node has left.
    #[error("the control thread could not go on, and this node has left the cluster")]
    Control(#[source] std::io::Error),
    /// A thread ended by a defect; the addresses were withdrawn.
    #[error("thread {0} ended by a defect and the addresses were withdrawn: please report what is above")]
    Defect(&'static str),
    /// The timer of the rt thread failed; the addresses were withdrawn.
    #[error("the timer could not be set, and the addresses were withdrawn")]
    Timer(#[source] std::io::Error),
    /// The watchdog, which the configuration names.
    #[error(transparent)]
    Watchdog(#[from] WatchdogError),
    /// Another node with this node's id is in the cluster, and was there first. Nothing was served here.
    #[error("{0}")]
    Rival(Box<str>),
    /// The node could not start over after a peer had shown a later life of it; the addresses were withdrawn.
    #[error("this node must start over with incarnation {incarnation}, and cannot")]
    StartOver {
        /// The incarnation.
        incarnation: u64,
        /// Why not.
        #[source]
        source: LoadError,
    },
}

/// What a life of the agent begins with.
struct Beginning {
    keyring: Keyring,
    /// Holds the pins; gates and maps found there are shut and gone, or resumed.
    keeper: Keeper,
    incarnation: u64,
    start: config::Start,
    /// Addresses that stay where they are: of groups that go on being served.
    stays: Stays,
    process: Process,
}

/// One life of the agent: until it has left, or pauses.
///
/// # Errors
/// See [`RunError`].
fn live(settings: &Arc<Settings>, beginning: Beginning) -> Result<Left, RunError> {
    let Beginning { keyring, keeper, incarnation, start, stays, process } = beginning;
    let stats = Arc::new(Stats::default());
    // Before the interfaces are looked at: what changes later is heard of.
    let watch = Watch::open().map_err(descriptor("the socket for changes of interfaces"))?;
    let network = network::bring_up(settings, &keyring, incarnation, keeper)?;
    let mut requests = Requests::open().map_err(descriptor("the socket for addresses"))?;
    leftovers::remove(settings, &stays, &mut requests);
    // Only now: until here a gate that is not ours may have been all that stood between a leftover and its rival.
    let keeper = network.keeper;
    if network.kernel.is_some() {
        keeper.tidy()
    } else {
        keeper.retire()
    }
    let notifications = Notifications::open().map_err(descriptor("the socket for changes of addresses"))?;
    let packets = PacketSocket::open()
        .inspect_err(|errno| warn!("addresses will not be announced: {errno} (it needs CAP_NET_RAW)"))
        .ok();

    let Queues { rt: rt_queues, takeover: takeover_queues, follower, mut ends } = queues::make(settings)?;
    let (_lines, serial) = serial_lines(settings, &stats, &mut ends)?;
    let (_pinging, pings) = ping_groups(settings, &stats, &mut ends)?;
    let takeover =
        Takeover::new(settings, requests, notifications, packets, takeover_queues, Arc::clone(&stats));
    let interfaces = network.watched.iter().map(|watched| watched.view).collect();
    let (settings_of, gate, watched) = (Arc::clone(settings), network.gate, network.watched);
    let followed =
        follower::Parts { settings: settings_of, programs: network.programs, keeper, gate, watched, watch };
    let follower = Follower::new(followed, follower, Arc::clone(&stats));
    let parts = rt::Parts {
        config: core_config(settings, incarnation, start, network.gate),
        kernel: network.kernel,
        receiver: network.receiver,
        paths: network.paths,
        serial,
        pings,
        sender: Sender::new(settings.cluster_id, &settings.links, &keyring),
        queues: rt_queues,
        gates: network.gates,
        watchdog: open_watchdog(settings)?,
        stats: Arc::clone(&stats),
    };
    let shown = queues::Shown { kernel: network.view, modes: network.modes, interfaces, gate };
    let control = ends.into_control(settings, &stats, shown, process);
    lock_memory(settings, &stats);
    let (me, cluster) = (settings.node_name(settings.me), &settings.cluster);
    info!("node {me} joins cluster {cluster} with incarnation {incarnation}");
    let (left, keeper) = threads::run(settings, parts, takeover, follower, control)?;
    match left {
        // Everything is released: there is nothing left to guard.
        Left::Finished => keeper.retire(),
        // The gate guards what is still here, and the next process finds it.
        Left::Paused { .. } => {}
    }
    Ok(left)
}

/// The serial lines, if there are any: their thread, which is waited for when it is dropped, and the rt thread's side
/// of them, which is dropped before.
fn serial_lines(
    settings: &Settings,
    stats: &Arc<Stats>,
    ends: &mut queues::BridgeEnds,
) -> Result<(Option<serial::Running>, Option<serial::Ends>), RunError> {
    let (notes, wake) = ends.more_notes()?;
    let made =
        serial::make(settings, stats, notes, wake).map_err(descriptor("the serial lines' descriptors"))?;
    let Some((ends, thread)) = made else { return Ok((None, None)) };
    let running = serial::Running::start(thread, &settings.runtime)
        .map_err(|source| RunError::Thread { name: "serial", source })?;
    Ok((Some(running), Some(ends)))
}

/// The thread that pings, which is ended and waited for when it is dropped, and the rt thread's side of it.
fn ping_groups(
    settings: &Arc<Settings>,
    stats: &Arc<Stats>,
    ends: &mut queues::BridgeEnds,
) -> Result<(Option<ping::Running>, Option<ping::Ends>), RunError> {
    let (notes, wake) = ends.more_notes()?;
    let started = ping::start(settings, stats, notes, wake);
    let started = started.map_err(|source| RunError::Thread { name: "ping", source })?;
    Ok(started.map_or((None, None), |(running, ends)| (Some(running), Some(ends))))
}

fn open_watchdog(settings: &Settings) -> Result<Option<Watchdog>, RunError> {
    let Some(path) = &settings.watchdog else { return Ok(None) };
    let watchdog = Watchdog::open(path, settings.timing.deadtime)?;
    watchdog.remarks.iter().for_each(|remark| info!("{remark}"));
    Ok(Some(watchdog))
}

fn lock_memory(settings: &Settings, stats: &Stats) {
    if !settings.runtime.realtime {
        return;
    }
    match sched::lock_memory() {
        Ok(()) => stats.memory_locked.store(1, Ordering::Relaxed),
        Err(errno) => {
            warn!("memory is not locked: {errno} (LimitMEMLOCK=infinity in the unit, or CAP_IPC_LOCK)");
        }
    }
}

fn descriptor(what: &'static str) -> impl Fn(Errno) -> RunError {
    move |errno| RunError::Descriptor { what, source: errno.into() }
}

/// What the core must know, ids instead of names.
fn core_config(
    settings: &Settings,
    incarnation: u64,
    start: config::Start,
    gate: config::GateKind,
) -> Config {
    let wall_ms = clock::wall_ns() / 1_000_000;
    let link = |link: &LinkSettings| config::LinkConfig { id: link.id, keepalive: link.keepalive };
    let group = |group: &GroupSettings| config::GroupConfig {
        prefer: group.prefer.clone(),
        auto_failback: group.auto_failback,
        resources: u8::try_from(group.addresses.len()).unwrap_or(u8::MAX),
    };
    Config {
        me: settings.me,
        name: agent_common::Name::new(settings.node_name(settings.me)).unwrap_or(agent_common::Name::NONE),
        incarnation,
        wall_ms_at_zero: wall_ms.saturating_sub(clock::now().0 / 1_000_000),
        seed: incarnation ^ u64::from(settings.me.raw()),
        timing: settings.timing,
        nodes: settings
            .nodes
            .iter()
            .map(|node| config::NodeConfig { witness: node.witness, vote: !node.joined })
            .collect(),
        links: settings.links.iter().map(link).collect(),
        quorum: settings.quorum,
        groups: settings.groups.iter().zip(GroupId::all()).map(|(settings, _)| group(settings)).collect(),
        reach_dampening: settings.reachtime,
        start,
        gate,
        mutated: config::Mutated::default(),
    }
}
