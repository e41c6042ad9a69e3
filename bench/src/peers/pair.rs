//! A pair of daemons of one software, and the faults that can happen to them. Many can run side by side in one process; what
//! they made is gone with them, however they end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_tests::lab::capture::Signs;
use agent_tests::lab::network::Port;
use agent_tests::lab::{clock, process};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::address::Movers;
use super::bed::Bed;
use super::daemon::{Daemon, Log, Said, Told};
use super::{Name, Options, Place, SERVICE, Setting, Software};

/// How long a pair may take to come up.
const LIMIT: Duration = Duration::from_secs(40);
/// One node must have served alone, and both must have known each other, for so long.
const STEADY: Duration = Duration::from_millis(500);

/// Two nodes of a peer.
pub struct Pair {
    /// Whose.
    pub name: Name,
    /// How fast.
    pub setting: Setting,
    /// How else.
    pub options: Options,
    /// Where.
    pub bed: Bed,
    software: Box<dyn Software>,
    nodes: [Option<Node>; 2],
    movers: Option<Arc<Mutex<Movers>>>,
}

struct Node {
    daemon: Daemon,
    started_ns: u64,
}

impl Pair {
    /// Starts two nodes with a client and captures; [`Pair::wait_whole`] afterwards.
    ///
    /// # Errors
    /// Not privileged, or it cannot be started.
    pub fn start(name: Name, setting: Setting) -> Result<Self> {
        Self::start_with(name, setting, Options::default())
    }

    /// Starts two nodes as `options` say.
    ///
    /// # Errors
    /// Not privileged, it cannot be started, or it cannot be had this way.
    pub fn start_with(name: Name, setting: Setting, options: Options) -> Result<Self> {
        let software = name.software();
        let label = name.label();
        ensure!(software.takes(setting), "{label} cannot be run with {setting:?}");
        ensure!(software.takes_links(options.links), "{label} cannot be run with {} links", options.links);
        let bed = Bed::new(options)?;
        let movers = if software.moves_address() { None } else { Some(Movers::new(&bed.network)?) };
        let movers = movers.map(|movers| Arc::new(Mutex::new(movers)));
        let mut pair = Self { name, setting, options, bed, software, nodes: [None, None], movers };
        pair.revive(0)?;
        pair.revive(1)?;
        pair.with_movers(|movers| movers.take(0))?;
        Ok(pair)
    }

    /// The deadtime at `node`.
    pub fn deadtime(&self, node: usize) -> Duration {
        self.software.deadtime(self.setting, node)
    }

    /// Waits until one node serves, both are settled, and the failure of the one that serves would be found in time. Says who
    /// it is.
    ///
    /// # Errors
    /// It did not happen.
    pub fn wait_whole(&self) -> Result<usize> {
        self.wait_whole_since(0)
    }

    /// As [`Pair::wait_whole`], of a pair that was disturbed until `since_ns`, other than by a restart.
    ///
    /// # Errors
    /// It did not happen.
    pub fn wait_whole_since(&self, since_ns: u64) -> Result<usize> {
        let started_ns = self.nodes.iter().flatten().map(|node| node.started_ns);
        let newest_ns = started_ns.fold(since_ns, u64::max);
        self.pause_until(newest_ns + clock::ns(self.software.settle()))?;
        let from_ns = clock::now_ns();
        let holder = clock::wait_for("a pair of which one node serves", LIMIT, || {
            if !self.is_calm(from_ns) {
                return Ok(None);
            }
            self.serves()
        });
        let holder = holder.inspect_err(|_| self.print_logs())?;
        let started_ns = self.node(holder).map_or(0, |node| node.started_ns);
        self.pause_until(started_ns + clock::ns(self.software.matures()))?;
        self.with_movers(|movers| {
            movers.home = holder;
            Ok(())
        })?;
        self.bed.forget();
        Ok(holder)
    }

    /// Waits until the failure of either would be found in time.
    ///
    /// # Errors
    /// The user interrupted.
    pub fn wait_mature(&self) -> Result<()> {
        let newest_ns = self.nodes.iter().flatten().map(|node| node.started_ns).max().unwrap_or(0);
        self.pause_until(newest_ns + clock::ns(self.software.matures()))
    }

    /// What `node` said so far, of its present life.
    pub fn log(&self, node: usize) -> Log {
        self.node(node).map(|node| node.daemon.log().clone()).unwrap_or_default()
    }

    /// When `node` declared the other dead, since `from_ns`. For software that speaks of itself only, when it took over.
    pub fn verdicts(&self, node: usize, from_ns: u64) -> Vec<u64> {
        let wanted = match self.name {
            Name::Keepalived => Said::Serves,
            Name::Heartbeat | Name::Corosync | Name::Bfdd => Said::Dead,
        };
        let said = self.log(node).since(from_ns).into_iter();
        said.filter(|(_, said)| *said == wanted).map(|(at_ns, _)| at_ns).collect()
    }

    /// When the newest sign of life of `of` went to `to`, no later than `until_ns`.
    pub fn last_heard_ns(&self, of: usize, to: usize, until_ns: u64) -> Option<u64> {
        self.bed.last_heard_ns(of, to, until_ns)
    }

    /// Signs of life that `node` sent, and that came to it, since the start.
    ///
    /// # Errors
    /// The pair runs without captures.
    pub fn heartbeats(&self, node: usize) -> Result<[Signs; 2]> {
        self.bed.heartbeats(node)
    }

    /// All processes of the software on `node`, parents first.
    pub fn processes(&self, node: usize) -> Vec<u32> {
        self.node(node).map(|node| node.daemon.processes()).unwrap_or_default()
    }

    /// Time that all threads of all processes of `node` ran.
    pub fn run_time_ns(&self, node: usize) -> u64 {
        // One that has just ended is left out.
        self.processes(node).into_iter().filter_map(|pid| process::run_time_ns(pid).ok()).sum()
    }

    /// Resident memory of all processes of `node`. What they share is counted for each.
    pub fn resident_kib(&self, node: usize) -> u64 {
        self.processes(node).into_iter().filter_map(|pid| process::resident_kib(pid).ok()).sum()
    }

    /// How often a thread of `node` was put on a CPU.
    pub fn wakeups(&self, node: usize) -> u64 {
        self.processes(node).into_iter().filter_map(|pid| process::wakeups(pid).ok()).sum()
    }

    /// Takes all links of `node`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn cut(&self, node: usize) -> Result<()> {
        (0..self.options.links).try_for_each(|bridge| self.bed.network.cut(Port { host: node, bridge }))
    }

    /// Gives them back.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn heal(&self, node: usize) -> Result<()> {
        (0..self.options.links).try_for_each(|bridge| self.bed.network.heal(Port { host: node, bridge }))
    }

    /// SIGKILL to all processes of `node`.
    pub fn kill(&self, node: usize) {
        if let Some(node) = self.node(node) {
            node.daemon.kill();
        }
    }

    /// A signal to all processes of the software on `node`.
    pub fn signal(&self, node: usize, signal: Signal) {
        if let Some(node) = self.node(node) {
            node.daemon.signal(signal);
        }
    }

    /// Stops all processes of `node` where they are.
    pub fn freeze(&self, node: usize) {
        self.signal(node, Signal::SIGSTOP);
    }

    /// Lets them go on.
    pub fn thaw(&self, node: usize) {
        self.signal(node, Signal::SIGCONT);
    }

    /// Ends `node` as an administrator would. An address that this program moves is taken from it before.
    ///
    /// # Errors
    /// The address could not be moved.
    pub fn stop_orderly(&self, node: usize) -> Result<()> {
        self.with_movers(|movers| movers.end(node))?;
        if let Some(node) = self.node(node) {
            node.daemon.stop(self.name.leader());
        }
        Ok(())
    }

    /// Starts `node` anew, after killing it if need be and removing what it left.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn revive(&mut self, node: usize) -> Result<()> {
        let slot = self.nodes.get_mut(node).context("there are two nodes")?;
        if let Some(mut old) = slot.take() {
            old.daemon.reap()?;
            let host = self.bed.network.host(node)?;
            if host.has_address(SERVICE.into())? {
                host.ip(&format!("addr del {SERVICE}/24 dev eth0"))?;
            }
            if let Some(movers) = &self.movers {
                movers.lock().unwrap_or_else(PoisonError::into_inner).begin(node);
            }
        }
        let place = Place {
            network: &self.bed.network,
            directory: self.bed.scratch.root(),
            node,
            setting: self.setting,
            links: self.options.links,
            cpu: self.options.cpus.and_then(|cpus| cpus.get(node).copied()),
            told: told(self.movers.clone(), self.software.moves_by(), node),
        };
        let daemon = self.software.start(&place)?;
        *slot = Some(Node { daemon, started_ns: clock::now_ns() });
        Ok(())
    }

    /// What the daemons logged first.
    pub fn print_logs(&self) {
        for node in 0..self.nodes.len() {
            for line in self.log(node).lines() {
                eprintln!("{} n{node} | {line}", self.name.label());
            }
        }
    }

    fn node(&self, node: usize) -> Option<&Node> {
        self.nodes.get(node)?.as_ref()
    }

    fn with_movers(&self, work: impl FnOnce(&mut Movers) -> Result<()>) -> Result<()> {
        self.movers
            .as_ref()
            .map_or(Ok(()), |movers| work(&mut movers.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn pause_until(&self, at_ns: u64) -> Result<()> {
        clock::pause(Duration::from_nanos(at_ns.saturating_sub(clock::now_ns())))
    }

    /// Whether both know each other and neither found the other dead lately.
    fn is_calm(&self, from_ns: u64) -> bool {
        let quiet_from = from_ns.max(clock::now_ns().saturating_sub(clock::ns(STEADY)));
        (0..2).all(|node| {
            let log = self.log(node);
            let knows = match self.name {
                Name::Keepalived => log.newest(Said::Serves, Said::Yields).is_some(),
                Name::Heartbeat | Name::Corosync | Name::Bfdd => {
                    log.newest(Said::Alive, Said::Dead) == Some(Said::Alive)
                }
            };
            let lately = log.since(quiet_from);
            knows && lately.iter().all(|(_, said)| *said != Said::Dead && *said != Said::Alive)
        })
    }

    /// The node that alone served the client lately; without a client, the one that alone has the address.
    fn serves(&self) -> Result<Option<usize>> {
        let Some(interval) = self.options.client.interval() else { return self.bed.owner() };
        let recent = self.bed.client.answers_since(clock::now_ns().saturating_sub(clock::ns(STEADY)));
        let asked = STEADY.as_millis() / interval.as_millis();
        let first = recent.first().map(|answer| answer.node);
        let is_steady =
            recent.len() as u128 > asked * 2 / 3 && recent.iter().all(|answer| Some(answer.node) == first);
        Ok(first.filter(|_| is_steady).map(usize::from))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Before the place that they run in is taken from them; both at once, since the end of each takes a while.
        self.nodes.iter().flatten().for_each(|node| node.daemon.kill());
        self.nodes = [None, None];
    }
}

/// Moves the address as the software says, where it moves none itself.
fn told(movers: Option<Arc<Mutex<Movers>>>, moved_by: Said, node: usize) -> Told {
    Arc::new(move |said| {
        let Some(movers) = &movers else { return };
        let moved = movers.lock().unwrap_or_else(PoisonError::into_inner).hear(node, said, moved_by);
        if let Err(error) = moved {
            eprintln!("warning: the address was not moved: {error:#}");
        }
    })
}
