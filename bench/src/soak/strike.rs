//! Does faults to a cluster and mends them. What runs beside the cluster for a fault, such as busy loops and loss, ends by itself
//! or with this.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agent_tests::lab::cluster::{Cluster, STOP};
use agent_tests::lab::config::GROUP;
use agent_tests::lab::loss::{Channel, Lossy};
use agent_tests::lab::network::Port;
use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::fault::{Fault, LINKS, NODES};

/// Below the service (45): that must not fail for want of a processor, which is nobody's failover.
const HOG_PRIORITY: i32 = 40;
/// Ordinary busy loops on each processor.
const HOGS_EACH: usize = 2;
/// Two shares of the deadtime for warntime, in turn.
const WARNTIMES: [f64; 2] = [0.5, 0.6];

/// Everything that is wrong now and must be kept for it.
#[derive(Debug, Default)]
pub struct Strikes {
    lossy: Vec<(Fault, Vec<Lossy>)>,
    hogs: Vec<(Fault, Hogs)>,
    unplugged: Vec<(Fault, String)>,
    handed_over: Option<usize>,
    retimed: usize,
}

impl Strikes {
    /// Begins a fault; `holder` serves. A command that was refused is said, and is no error here.
    ///
    /// # Errors
    /// The laboratory failed.
    pub fn begin(
        &mut self,
        cluster: &mut Cluster,
        fault: Fault,
        lasts: Duration,
        holder: usize,
    ) -> Result<Option<String>> {
        let network = cluster.network();
        match fault {
            Fault::Kill(node) => cluster.agent(node)?.kill()?,
            Fault::Pause(node) => cluster.agent(node)?.signal(Signal::SIGSTOP)?,
            Fault::CutOne(host, bridge) => network.cut(Port { host, bridge })?,
            Fault::CutBoth(host) => {
                LINKS.into_iter().try_for_each(|bridge| network.cut(Port { host, bridge }))?;
            }
            Fault::Deaf(host) => self.lose(cluster, fault, host, &LINKS, Channel::Independent(1.0))?,
            Fault::LossOne(host, bridge, channel) => self.lose(cluster, fault, host, &[bridge], channel)?,
            Fault::LossBoth(host, channel) => self.lose(cluster, fault, host, &LINKS, channel)?,
            Fault::Partition(minority) => part(cluster, minority)?,
            Fault::Unplug(host, bridge) => {
                let port = Port { host, bridge };
                let (_, mac) = network.interface(port)?;
                network.unplug(port)?;
                self.unplugged.push((fault, mac));
            }
            Fault::Takeover(node) => return said(cluster, node, &["takeover", GROUP]),
            Fault::Standby => {
                self.handed_over = Some(holder);
                return said(cluster, holder, &["standby", GROUP]);
            }
            Fault::Reload(node) => return said(cluster, node, &["reload"]),
            Fault::Restart(node) => return said(cluster, node, &["restart"]),
            Fault::Retime(node) => {
                self.retime(cluster, node)?;
                return said(cluster, node, &["reload"]);
            }
            Fault::HogFifo => self.hogs.push((fault, Hogs::start(Some(HOG_PRIORITY), lasts)?)),
            Fault::HogBusy => self.hogs.push((fault, Hogs::start(None, lasts)?)),
        }
        Ok(None)
    }

    /// Ends it.
    ///
    /// # Errors
    /// The laboratory failed.
    pub fn end(&mut self, cluster: &mut Cluster, fault: Fault) -> Result<Option<String>> {
        match fault {
            Fault::Kill(node) => {
                cluster.agent_mut(node)?.reap(STOP)?;
                cluster.start_agent(node)?;
            }
            Fault::Pause(node) => cluster.agent(node)?.signal(Signal::SIGCONT)?,
            Fault::CutOne(host, bridge) => cluster.network().heal(Port { host, bridge })?,
            Fault::CutBoth(host) => {
                LINKS.into_iter().try_for_each(|bridge| cluster.network().heal(Port { host, bridge }))?;
            }
            Fault::Deaf(_) | Fault::LossOne(..) | Fault::LossBoth(..) => {
                self.lossy.retain(|(wrong, _)| *wrong != fault);
            }
            Fault::Partition(_) => filter(cluster, "delete table bridge soak\n")?,
            Fault::Unplug(host, bridge) => {
                if let Some(place) = self.unplugged.iter().position(|(wrong, _)| *wrong == fault) {
                    let (_, mac) = self.unplugged.swap_remove(place);
                    cluster.network().replug(Port { host, bridge }, &mac)?;
                }
            }
            Fault::Standby => {
                if let Some(node) = self.handed_over.take() {
                    return said(cluster, node, &["takeover", GROUP]);
                }
            }
            Fault::HogFifo | Fault::HogBusy => self.hogs.retain(|(wrong, _)| *wrong != fault),
            Fault::Takeover(_) | Fault::Reload(_) | Fault::Restart(_) | Fault::Retime(_) => {}
        }
        Ok(None)
    }

    fn lose(
        &mut self,
        cluster: &Cluster,
        fault: Fault,
        host: usize,
        bridges: &[usize],
        channel: Channel,
    ) -> Result<()> {
        let start =
            |bridge: &usize| Lossy::start(cluster.network(), Port { host, bridge: *bridge }, channel, [0; 6]);
        let lossy = bridges.iter().map(start).collect::<Result<Vec<_>>>()?;
        self.lossy.push((fault, lossy));
        Ok(())
    }

    /// Writes another warntime into the configuration.
    fn retime(&mut self, cluster: &Cluster, node: usize) -> Result<()> {
        self.retimed += 1;
        let share = WARNTIMES.get(self.retimed % WARNTIMES.len()).copied().unwrap_or(0.5);
        let warntime = cluster.spec().deadtime.mul_f64(share).as_micros();
        let path = cluster.agent(node)?.config_path();
        let text = std::fs::read_to_string(&path).context("cannot read the configuration")?;
        let lines = text.lines().map(|line| {
            if line.starts_with("warntime") {
                format!("warntime = \"{warntime}us\"\n")
            } else {
                format!("{line}\n")
            }
        });
        std::fs::write(&path, lines.collect::<String>()).context("cannot write the configuration")
    }
}

/// What a command said when it was refused.
fn said(cluster: &Cluster, node: usize, command: &[&str]) -> Result<Option<String>> {
    Ok(cluster.agent(node)?.ask(command).err().map(|error| format!("{error:#}")))
}

fn part(cluster: &Cluster, minority: [usize; 2]) -> Result<()> {
    let ports = |is_wanted: &dyn Fn(usize) -> bool| {
        let ports = (0..NODES).filter(|node| is_wanted(*node)).flat_map(|host| {
            LINKS.into_iter().map(move |bridge| format!("\"{}\"", Port { host, bridge }.name()))
        });
        ports.collect::<Vec<_>>().join(", ")
    };
    let few = ports(&|node| minority.contains(&node));
    let many = ports(&|node| !minority.contains(&node));
    filter(
        cluster,
        &format!(
            "add table bridge soak\n\
             add chain bridge soak cut {{ type filter hook forward priority 0; }}\n\
             add rule bridge soak cut iifname {{ {few} }} oifname {{ {many} }} drop\n\
             add rule bridge soak cut iifname {{ {many} }} oifname {{ {few} }} drop\n"
        ),
    )
}

fn filter(cluster: &Cluster, rules: &str) -> Result<()> {
    let mut command: Command = cluster.network().switch().command("nft");
    let output = command.arg(rules).output().context("cannot run nft (package nftables)")?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Threads that take the processors, for a bounded time.
#[derive(Debug)]
struct Hogs {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Hogs {
    fn start(priority: Option<i32>, lasts: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let count = if priority.is_some() { processors } else { processors * HOGS_EACH };
        let end_ns = clock::now_ns() + clock::ns(lasts);
        let mut threads = Vec::new();
        for _ in 0..count {
            let stop = Arc::clone(&stop);
            let work = move || {
                if let Some(priority) = priority {
                    realtime::fifo(priority);
                }
                while clock::now_ns() < end_ns && !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            threads.push(thread::Builder::new().name("hog".into()).spawn(work)?);
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of a busy loop has been printed already.
            let _ = thread.join();
        }
    }
}
