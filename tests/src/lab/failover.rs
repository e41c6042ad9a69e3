//! Takes the service from its holder and measures what follows, stage by stage: the demonstration, the benchmark and the
//! tests use this one. All times are CLOCK_MONOTONIC; the wire is seen at the survivor's port.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::bpf::HeldPrograms;
use super::client::Gap;
use super::clock;
use super::cluster::{Cluster, STOP};
use super::events::Events;
use super::network::Port;

/// What is taken from the holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kill {
    /// The agent, with SIGKILL.
    Agent,
    /// The carrier of all its links.
    Link,
    /// The agent, then at once its links.
    Both,
}

/// The stages of a takeover, in order. `None`: was not seen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stages {
    /// The fault.
    pub fault_ns: u64,
    /// The last heartbeat of the holder went to the survivor.
    pub last_heartbeat_ns: u64,
    /// The survivor declared it dead.
    pub dead_ns: u64,
    /// The survivor has the address.
    pub added_ns: u64,
    /// The first announcement of the address is on the wire.
    pub announced_ns: u64,
    /// Time without service for the client.
    pub gap: Gap,
}

impl Kill {
    /// As the options write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Link => "link",
            Self::Both => "both",
        }
    }
}

impl Stages {
    /// The verdict behind the deadtime, counted from the last heartbeat.
    pub fn overshoot_ms(&self, deadtime: Duration) -> f64 {
        clock::ms_between(self.last_heartbeat_ns, self.dead_ns) - deadtime.as_secs_f64() * 1e3
    }

    /// From the verdict to the first announcement on the wire.
    pub fn verdict_to_announcement_ms(&self) -> f64 {
        clock::ms_between(self.dead_ns, self.announced_ns)
    }
}

/// Takes `kill` from `node`. Says when.
///
/// # Errors
/// The agent does not run, or the kernel refused.
pub fn strike(cluster: &Cluster, node: usize, kill: Kill) -> Result<u64> {
    let fault_ns = clock::now_ns();
    match kill {
        Kill::Agent => cluster.agent(node)?.kill()?,
        Kill::Link => cut_all(cluster, node)?,
        Kill::Both => {
            cluster.agent(node)?.kill()?;
            cut_all(cluster, node)?;
        }
    }
    Ok(fault_ns)
}

/// Sleeps until `phase` (0 to 1) of an interval is over after a heartbeat that was seen at `seen_ns`, a few intervals on.
/// With phases spread evenly, the part of the gap that depends on when the fault falls is the same for every series.
pub fn sleep_to_phase(seen_ns: u64, interval: Duration, phase: f64) {
    let interval_ns = clock::ns(interval);
    let ahead = (clock::now_ns().saturating_sub(seen_ns) / interval_ns + 2) * interval_ns;
    clock::sleep_until(seen_ns + ahead + clock::ns(interval.mul_f64(phase)));
}

/// Gives back what [`strike`] took: the links, then a new agent.
///
/// # Errors
/// The agent cannot be started.
pub fn mend(cluster: &mut Cluster, node: usize, kill: Kill) -> Result<()> {
    match kill {
        Kill::Agent => {}
        Kill::Link | Kill::Both => {
            for bridge in 0..cluster.network().bridges() {
                cluster.network().heal(Port { host: node, bridge })?;
            }
        }
    }
    match kill {
        Kill::Link => Ok(()),
        Kill::Agent | Kill::Both => {
            cluster.agent_mut(node)?.reap(STOP)?;
            cluster.start_agent(node)
        }
    }
}

fn cut_all(cluster: &Cluster, node: usize) -> Result<()> {
    for bridge in 0..cluster.network().bridges() {
        cluster.network().cut(Port { host: node, bridge })?;
    }
    Ok(())
}

/// Strikes `holder` and follows the takeover by `survivor`, whose `events` are given.
///
/// # Errors
/// A stage did not come within `limit`.
pub fn fail_over(
    cluster: &Cluster,
    holder: usize,
    survivor: usize,
    kill: Kill,
    events: &Events,
    limit: Duration,
) -> Result<Stages> {
    // Until everything is measured.
    let _held = HeldPrograms::hold();
    let before_ns = clock::now_ns().saturating_sub(clock::ns(Duration::from_millis(300)));
    let fault_ns = strike(cluster, holder, kill)?;
    follow(cluster, holder, survivor, before_ns, fault_ns, events, limit)
}

fn follow(
    cluster: &Cluster,
    holder: usize,
    survivor: usize,
    before_ns: u64,
    fault_ns: u64,
    events: &Events,
    limit: Duration,
) -> Result<Stages> {
    let dead = [("event", "peer"), ("peer", cluster.name(holder)), ("to", "dead")];
    let dead_ns = events.wait(fault_ns, &dead, limit)?.at_ns;
    let address = cluster.address()?;
    let added_ns = events.wait(fault_ns, &[("event", "address"), ("to", "added")], limit)?.at_ns;
    let capture = cluster.capture(survivor)?;
    let announced_ns = clock::wait_for("an announcement on the wire", limit, || {
        Ok(capture.first_announcement_ns(address, fault_ns))
    })?;
    let last_heartbeat_ns = capture
        .last_heartbeat_ns(u8::try_from(holder)?, dead_ns)
        .context("no heartbeat of the holder was captured")?;
    let answer = |node: usize| {
        let answers = cluster.client().answers_since(before_ns);
        answers.into_iter().filter(move |answer| usize::from(answer.node) == node)
    };
    let first = clock::wait_for("an answer of the survivor", limit, || Ok(answer(survivor).next()))?;
    let last = answer(holder).next_back().context("the holder answered nothing before the fault")?;
    let gap = Gap { last, first };
    Ok(Stages { fault_ns, last_heartbeat_ns, dead_ns, added_ns, announced_ns, gap })
}

/// Pauses (SIGSTOP) or continues (SIGCONT) an agent.
///
/// # Errors
/// The agent does not run.
pub fn pause_agent(cluster: &Cluster, node: usize, paused: bool) -> Result<()> {
    cluster.agent(node)?.signal(if paused { Signal::SIGSTOP } else { Signal::SIGCONT })
}
