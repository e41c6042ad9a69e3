//! A cluster of two xbeat nodes under a flood of each kind, at either node, with the counters that say that it arrived.

use std::time::Duration;

use agent_tests::lab::capture::Direction;
use agent_tests::lab::clock;
use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::config::{LinkSpec, Policy, Spec, Xdp};
use agent_tests::lab::events::Events;
use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::generator::{Generator, Sent};
use super::taken::Taken;
use super::{Kind, Load, frames};
use crate::cost::programs::{Loaded, Runs};
use crate::failover::stalls::Stalls;
use crate::progress::Progress;
use crate::starvation::lateness::Lateness;

/// Of all that is flooded.
pub const KEEPALIVE: Duration = Duration::from_millis(10);
/// Of all that is flooded.
pub const DEADTIME: Duration = Duration::from_millis(50);
/// Until heartbeats are captured.
const WARM: Duration = Duration::from_secs(1);
/// After a flood, until what it left in queues is gone and all verdicts are told.
const CALM: Duration = Duration::from_millis(500);

/// Who is flooded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The node that serves.
    Holder,
    /// The one that would call it dead.
    Backup,
}

impl Target {
    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Holder => "serving",
            Self::Backup => "waiting",
        }
    }
}

/// How the nodes of a cluster hear each other, and which of them are flooded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// By XDP on one link; both nodes in turn.
    Xdp,
    /// By sockets on one link; the waiting node.
    Sockets,
    /// By XDP on two links, of which one is flooded, at the serving node.
    TwoLinks,
}

impl Lane {
    /// In order of the table.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::Sockets, Self::TwoLinks];

    /// For tables.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Xdp => "xbeat",
            Self::Sockets => "xbeat, sockets",
            Self::TwoLinks => "xbeat, two links",
        }
    }

    /// Who is flooded.
    pub const fn targets(self) -> &'static [Target] {
        match self {
            Self::Xdp => &[Target::Backup, Target::Holder],
            Self::Sockets => &[Target::Backup],
            Self::TwoLinks => &[Target::Holder],
        }
    }

    /// How many floods that makes.
    pub const fn floods(self) -> usize {
        self.targets().len() * Kind::ALL.len()
    }

    fn spec(self) -> Spec {
        let (xdp, bridges) = match self {
            Self::Xdp => (Xdp::Auto, 1),
            Self::Sockets => (Xdp::Off, 1),
            Self::TwoLinks => (Xdp::Auto, 2),
        };
        Spec {
            keepalive: KEEPALIVE,
            deadtime: DEADTIME,
            xdp,
            links: (0..bridges).map(|bridge| LinkSpec { bridge, ..LinkSpec::default() }).collect(),
            policy: Policy::TwoNodeAlways,
            ..Spec::default()
        }
    }
}

/// What came of one flood.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who was flooded: software and how it receives.
    pub subject: &'static str,
    /// Which node.
    pub target: Target,
    /// With what.
    pub label: String,
    /// Of xbeat, which kind.
    pub kind: Option<Kind>,
    /// How much.
    pub sent: Sent,
    /// Frames in the counters of refusals; NaN where nothing counts them.
    pub counted: f64,
    /// Frames for which the victim's interface had no room, of whomever.
    pub dropped: u64,
    /// Heartbeats of the other node that the target did not get. NaN where nobody counts them.
    pub heartbeats_lost: f64,
    /// Runs of the XDP programs of both nodes.
    pub runs: Runs,
    /// Verdicts of death, of both nodes.
    pub deaths: usize,
    /// Verdicts of death while the machine did not stand still for half a deadtime.
    pub deaths_unexcused: usize,
    /// Worst lateness of a wake-up at the target; NaN where nobody tells.
    pub late_ms: f64,
    /// Probes of the client without an answer.
    pub probes_lost: usize,
    /// The longest gap of the client.
    pub gap_ms: f64,
    /// Time of all processors in softirqs, seconds.
    pub softirq_seconds: f64,
    /// The machine's own longest stall meanwhile.
    pub stall_ms: f64,
}

struct Bench<'a> {
    subject: &'static str,
    cluster: Cluster,
    events: [Events; 2],
    holder: usize,
    stalls: &'a Stalls,
    loaded: Loaded,
    span: Duration,
}

/// Floods a cluster.
///
/// # Errors
/// It does not come up, or a flood did not arrive.
pub fn measure(lane: Lane, span: Duration, stalls: &Stalls, progress: &mut Progress) -> Result<Vec<Row>> {
    let loaded = Loaded::before();
    let mut cluster = Cluster::new(lane.spec())?;
    let holder = cluster.start()?;
    let events = [cluster.events(0)?, cluster.events(1)?];
    let from_ns = clock::now_ns();
    clock::pause(WARM)?;
    let heard = [captured(&cluster, 1, from_ns)?, captured(&cluster, 0, from_ns)?];
    cluster.stop_captures();
    let subject = lane.subject();
    let mut bench = Bench { subject, cluster, events, holder, stalls, loaded, span };
    let mut rows = Vec::new();
    for target in lane.targets() {
        for kind in Kind::ALL {
            progress.at(format!("{subject}, {}: {}", target.label(), kind.label()));
            // A flood may have moved the service: that is counted, and the next one goes on from there.
            bench.holder = bench.cluster.wait_whole()?;
            let node = bench.node(*target);
            let heard = heard.get(node).context("two nodes")?;
            let load = frames::load(kind, heard, bench.cluster.keys())?;
            rows.push(bench.flood(*target, kind, load).inspect_err(|_| bench.cluster.print_logs())?);
            progress.step();
        }
    }
    Ok(rows)
}

/// True heartbeats of `from` to the other node.
fn captured(cluster: &Cluster, from: usize, from_ns: u64) -> Result<Vec<Vec<u8>>> {
    let node = u8::try_from(from)?;
    let beats = cluster
        .capture(from)?
        .frames(from_ns, |frame| frame.direction == Direction::FromHost && frame.kind.is_heartbeat_of(node));
    ensure!(beats.len() >= 10, "only {} heartbeats were captured", beats.len());
    Ok(beats.into_iter().map(|beat| beat.bytes).collect())
}

impl Bench<'_> {
    fn node(&self, target: Target) -> usize {
        match target {
            Target::Holder => self.holder,
            Target::Backup => self.cluster.other(self.holder),
        }
    }

    fn flood(&self, target: Target, kind: Kind, load: Load) -> Result<Row> {
        let node = self.node(target);
        let port = Port { host: node, bridge: 0 };
        let before = self.counts(node)?;
        let late_before = Lateness::ask(&self.cluster, node)?;
        let from_ns = clock::now_ns();
        let taken = Taken::until_now(self.cluster.network(), port)?;
        let (sent, runs) = self.send(port, load.frames)?;
        let to_ns = clock::now_ns();
        clock::pause(CALM)?;
        let taken_after = Taken::until_now(self.cluster.network(), port)?;
        let after = self.counts(node)?;
        let deaths = self.deaths(from_ns);
        let stall = |at_ns: u64| self.stalls.worst_ms(at_ns.saturating_sub(clock::ns(DEADTIME)), at_ns);
        let half_ms = DEADTIME.as_secs_f64() * 1e3 / 2.0;
        let reasons = kind.counted_as().iter().map(|reason| {
            let index = reason.index();
            after.rejected.get(index).unwrap_or(&0.0) - before.rejected.get(index).unwrap_or(&0.0)
        });
        let counted = if kind.counted_as().is_empty() { f64::NAN } else { reasons.sum() };
        if sent.frames > 0 && !kind.counted_as().is_empty() {
            ensure!(counted > 0.0, "{}: none of {} frames was counted", kind.label(), sent.frames);
        }
        let client = self.cluster.client();
        Ok(Row {
            subject: self.subject,
            target,
            label: load.label,
            kind: Some(kind),
            sent,
            counted,
            dropped: taken_after.dropped - taken.dropped,
            heartbeats_lost: ((after.peer_sent - before.peer_sent) - (after.received - before.received))
                .max(0.0),
            runs,
            deaths: deaths.len(),
            deaths_unexcused: deaths.iter().filter(|at_ns| stall(**at_ns) < half_ms).count(),
            late_ms: Lateness::ask(&self.cluster, node)?.worst_since_ms(&late_before),
            probes_lost: client.lost(from_ns, to_ns).1,
            gap_ms: client.longest_gap(from_ns).map_or(f64::NAN, |gap| gap.ms()),
            softirq_seconds: taken_after.softirq_seconds - taken.softirq_seconds,
            stall_ms: self.stalls.worst_ms(from_ns, to_ns),
        })
    }

    /// The flood, and meanwhile the runs of the programs. Without frames it is only time.
    fn send(&self, port: Port, frames: Vec<Vec<u8>>) -> Result<(Sent, Runs)> {
        if frames.is_empty() {
            return Ok((Sent::default(), self.loaded.runs(self.span)?));
        }
        // A little longer than the runs are counted, so that there are only runs under the flood.
        let generator = Generator::start(self.cluster.network(), port, frames, self.span + CALM)?;
        let runs = self.loaded.runs(self.span)?;
        Ok((generator.finish()?, runs))
    }

    fn deaths(&self, from_ns: u64) -> Vec<u64> {
        let dead = [("event", "peer"), ("to", "dead")];
        let all = self.events.iter().flat_map(|events| events.since(from_ns));
        all.filter(|event| event.has(&dead)).map(|event| event.at_ns).collect()
    }

    fn counts(&self, node: usize) -> Result<Counts> {
        let metrics = self.cluster.metrics(node)?;
        let rejected = agent_common::Reject::ALL.iter().map(|reason| {
            let label = format!("reason=\"{}\"", reason.label());
            metrics.sum("xbeat_heartbeats_rejected_total", &[&label])
        });
        let received = metrics.sum("xbeat_heartbeats_received_total", &[])
            + metrics.sum("xbeat_heartbeats_copies_total", &[]);
        let peer = self.cluster.metrics(self.cluster.other(node))?;
        Ok(Counts {
            rejected: rejected.collect(),
            received,
            peer_sent: peer.sum("xbeat_heartbeats_sent_total", &[]),
        })
    }
}

struct Counts {
    /// By [`agent_common::Reject::index`].
    rejected: Vec<f64>,
    /// Heartbeats that counted or refreshed their link.
    received: f64,
    /// Heartbeats that the other node sent.
    peer_sent: f64,
}
