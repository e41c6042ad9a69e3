//! Where peers run: two nodes, a client that asks for the service each millisecond, a capture at each node's port; and the
//! pair of daemons in it, with the faults that can happen to them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agent_tests::lab::capture::{Capture, Direction};
use agent_tests::lab::client::Client;
use agent_tests::lab::echo::Echo;
use agent_tests::lab::frame::Kind;
use agent_tests::lab::network::{Network, Port};
use agent_tests::lab::scratch::Scratch;
use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use super::address::Mover;
use super::daemon::{Daemon, Log, Said};
use super::{Name, SERVICE, Setting, Software};

/// How long a pair may take to come up.
const LIMIT: Duration = Duration::from_secs(40);
/// Between two looks of the one that moves the address.
const LOOK_NS: u64 = 200_000;
/// As the threads of the software that it stands for.
const PRIORITY: i32 = 40;

/// The place.
pub struct Bed {
    /// The client, on the third host.
    pub client: Client,
    /// At the ports of the nodes.
    pub captures: [Capture; 2],
    /// The wires.
    pub network: Network,
    _echoes: [Echo; 2],
    scratch: Scratch,
}

/// Two nodes of a peer.
pub struct Pair {
    /// Whose.
    pub name: Name,
    /// How fast.
    pub setting: Setting,
    /// Where.
    pub bed: Bed,
    software: Box<dyn Software>,
    nodes: [Vec<Daemon>; 2],
    logs: Arc<[Mutex<Log>; 2]>,
    mover: Option<MoverThread>,
}

struct MoverThread {
    stop: Arc<AtomicBool>,
    /// Who keeps the address when both are alive.
    home: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Bed {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let network = Network::new(&["n0", "n1", "client"], 1)?;
        let port = |host: usize| Port { host, bridge: 0 };
        Ok(Self {
            _echoes: [Echo::start(network.host(0)?, 0)?, Echo::start(network.host(1)?, 1)?],
            client: Client::start(network.host(2)?, SERVICE.into())?,
            captures: [Capture::start(&network, port(0))?, Capture::start(&network, port(1))?],
            network,
            scratch,
        })
    }
}

impl Pair {
    /// Starts two nodes; [`Pair::wait_whole`] afterwards.
    ///
    /// # Errors
    /// Not privileged, or it cannot be started.
    pub fn start(name: Name, setting: Setting) -> Result<Self> {
        let software = name.software();
        let bed = Bed::new()?;
        let mut pair = Self {
            name,
            setting,
            bed,
            software,
            nodes: [Vec::new(), Vec::new()],
            logs: Arc::new([Mutex::default(), Mutex::default()]),
            mover: None,
        };
        pair.revive(0)?;
        pair.revive(1)?;
        if !pair.software.moves_address() {
            let moved_by = pair.software.moves_by();
            pair.mover = Some(MoverThread::start(&pair.bed.network, Arc::clone(&pair.logs), moved_by)?);
        }
        Ok(pair)
    }

    /// The deadtime at `node`.
    pub fn deadtime(&self, node: usize) -> Duration {
        self.software.deadtime(self.setting, node)
    }

    /// Waits until one node serves the client and both are settled; says who serves.
    ///
    /// # Errors
    /// It did not happen.
    pub fn wait_whole(&self) -> Result<usize> {
        let from_ns = clock::now_ns();
        clock::pause(self.software.settle())?;
        let steady = Duration::from_millis(300);
        let holder = clock::wait_for("a pair of which one node serves", LIMIT, || {
            let recent = self.bed.client.answers_since(clock::now_ns().saturating_sub(clock::ns(steady)));
            let first = recent.first().map(|answer| answer.node);
            let is_steady = recent.len() > 200 && recent.iter().all(|answer| Some(answer.node) == first);
            let is_quiet = (0..2).all(|node| {
                let quiet_from = from_ns.max(clock::now_ns().saturating_sub(clock::ns(steady)));
                self.log(node).since(quiet_from).iter().all(|(_, said)| *said != Said::Dead)
            });
            Ok(first.filter(|_| is_steady && is_quiet).map(usize::from))
        });
        let holder = holder.inspect_err(|_| self.print_logs())?;
        if let Some(mover) = &self.mover {
            mover.home.store(holder, Ordering::Relaxed);
        }
        self.bed.captures.iter().for_each(Capture::clear);
        self.bed.client.forget_lateness();
        Ok(holder)
    }

    /// What `node` said so far, of its present life.
    pub fn log(&self, node: usize) -> Log {
        self.logs
            .get(node)
            .map(|log| log.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }

    /// When `node` declared the other dead, since `from_ns`. For software that speaks of itself only, when it took over.
    pub fn verdicts(&self, node: usize, from_ns: u64) -> Vec<u64> {
        let wanted = match self.name {
            Name::Keepalived => Said::Serves,
            Name::Heartbeat | Name::Corosync | Name::Bfdd => Said::Dead,
        };
        self.log(node)
            .since(from_ns)
            .iter()
            .filter(|(_, said)| *said == wanted)
            .map(|(at_ns, _)| *at_ns)
            .collect()
    }

    /// When the newest sign of life of `of` went to `to`, no later than `until_ns`.
    pub fn last_heard_ns(&self, of: usize, to: usize, until_ns: u64) -> Option<u64> {
        let source = IpAddr::V4(Port { host: of, bridge: 0 }.ipv4());
        let is_sign = |kind: Kind| kind == Kind::Vrrp(source) || kind == Kind::Peer(source);
        let frames = self.bed.captures.get(to)?.frames(0, |frame| {
            frame.at_ns <= until_ns && frame.direction == Direction::ToHost && is_sign(frame.kind)
        });
        frames.last().map(|frame| frame.at_ns)
    }

    /// All processes of `node`.
    pub fn processes(&self, node: usize) -> Vec<u32> {
        self.nodes.get(node).into_iter().flatten().flat_map(Daemon::processes).collect()
    }

    /// SIGKILL to all processes of `node`.
    pub fn kill(&self, node: usize) {
        self.signal(node, Signal::SIGKILL);
    }

    /// A signal to all processes of `node`.
    pub fn signal(&self, node: usize, signal: Signal) {
        self.nodes.get(node).into_iter().flatten().for_each(|daemon| daemon.signal(signal));
    }

    /// Starts the daemons of `node` anew, after removing what a killed one left.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn revive(&mut self, node: usize) -> Result<()> {
        let slot = self.nodes.get_mut(node).context("there are two nodes")?;
        for mut daemon in slot.drain(..) {
            daemon.reap()?;
        }
        let host = self.bed.network.host(node)?;
        if host.has_address(SERVICE.into())? {
            host.ip(&format!("addr del {SERVICE}/24 dev eth0"))?;
        }
        *slot = self.software.start(&self.bed.network, &self.bed.scratch, node, self.setting)?;
        let Some(first) = slot.first() else { bail!("{} started nothing", self.name.label()) };
        if let Some(log) = self.logs.get(node) {
            *log.lock().unwrap_or_else(PoisonError::into_inner) = first.log().clone();
        }
        if let Some(mover) = &self.mover {
            // What was taken from this node stays with the other.
            mover.home.store(usize::from(node == 0), Ordering::Relaxed);
        }
        Ok(())
    }

    /// What the daemons logged first.
    pub fn print_logs(&self) {
        for (node, daemons) in self.nodes.iter().enumerate() {
            for line in daemons.iter().flat_map(|daemon| daemon.log().lines()) {
                eprintln!("{} n{node} | {line}", self.name.label());
            }
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // It looks at logs of daemons that end now.
        drop(self.mover.take());
    }
}

impl MoverThread {
    fn start(network: &Network, logs: Arc<[Mutex<Log>; 2]>, moved_by: Said) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let home = Arc::new(AtomicUsize::new(0));
        let mut movers = [Mover::new(network.host(0)?)?, Mover::new(network.host(1)?)?];
        movers[0].take()?;
        let (ending, keeps) = (Arc::clone(&stop), Arc::clone(&home));
        let work = move || {
            realtime::fifo(PRIORITY);
            let mut seen_ns = [0; 2];
            while !ending.load(Ordering::Relaxed) {
                for (node, mover) in movers.iter_mut().enumerate() {
                    let log = logs[node].lock().unwrap_or_else(PoisonError::into_inner).clone();
                    for (at_ns, said) in log.since(seen_ns[node]) {
                        seen_ns[node] = at_ns + 1;
                        if obey(said, moved_by, mover, node == keeps.load(Ordering::Relaxed)).is_err() {
                            return;
                        }
                    }
                }
                clock::sleep_until(clock::now_ns() + LOOK_NS);
            }
        };
        let thread = thread::Builder::new().name("mover".into()).spawn(work)?;
        Ok(Self { stop, home, thread: Some(thread) })
    }
}

/// The address is taken at what the software moves it by; of two that are alive, one gives it back.
fn obey(said: Said, moved_by: Said, mover: &mut Mover, keeps: bool) -> Result<()> {
    if said == moved_by {
        return mover.take();
    }
    if said == Said::Alive && !keeps { mover.give() } else { Ok(()) }
}

impl Drop for MoverThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}
