//! `/metrics` in OpenMetrics text. Every reason of a refusal and every state is always present, so that an alert
//! never waits for a series to appear. docs/commands.md lists the names; they only grow.

mod lines;
mod pings;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_common::maps::Counter;
use agent_common::{LinkId, NodeId};
use agent_core::config::GateKind;
use agent_core::{GroupView, LinkView};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::label;
use super::process::Process;
use super::status::{GateDrops, Sources};
use crate::settings::{LinkSettings, ReceiveMode};
use crate::stats::{BUCKETS_US, Histogram};

type Labels = Vec<(&'static str, String)>;

/// One metric with all its series.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    series: Series,
}

#[derive(Debug)]
enum Series {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, f64)>),
    Histogram(Vec<(Labels, Reading)>),
}

/// A histogram at one moment, in seconds.
#[derive(Debug)]
struct Reading {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

/// The present metrics.
pub fn render(from: &Sources<'_>) -> String {
    let mut families = Vec::new();
    heartbeats(from, &mut families);
    gates(from, &mut families);
    peers(from, &mut families);
    links(from, &mut families);
    lines::lines(from, &mut families);
    groups(from, &mut families);
    pings::pings(from, &mut families);
    agent(from, &mut families);
    process(from, &mut families);
    times(from, &mut families);
    let mut registry = Registry::with_prefix("xbeat");
    registry.register_collector(Box::new(Scrape(families)));
    let mut text = String::new();
    // Writing to a String does not fail; a label that could not be encoded ends the text early, which scrapers refuse.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

fn heartbeats(from: &Sources<'_>, out: &mut Vec<Family>) {
    let by_link = |counters: &[AtomicU64]| -> Vec<(Labels, u64)> {
        let value =
            |id: LinkId| counters.get(id.index()).map_or(0, |counter| counter.load(Ordering::Relaxed));
        let links = from.settings.links.iter();
        links.map(|link| (vec![("link", from.settings.link_name(link.id))], value(link.id))).collect()
    };
    out.push(Family {
        name: "heartbeats_sent",
        help: "Frames handed to the kernel, one for each destination",
        series: Series::Counter(by_link(&from.stats.sent)),
    });
    out.push(Family {
        name: "heartbeats_send_failed",
        help: "Frames that the kernel did not take",
        series: Series::Counter(by_link(&from.stats.send_failed)),
    });
    let kernel = from.kernel.counters();
    let total = |counter: Counter| {
        let index = counter.index();
        kernel.get(index).copied().unwrap_or(0).saturating_add(from.stats.socket_counter(index))
    };
    for (name, help, counter) in [
        ("heartbeats_received", "Heartbeats above everything heard before", Counter::Accepted),
        ("heartbeats_copies", "Copies on another link, or reordered", Counter::Copies),
        ("news", "Heartbeats that changed something and woke the agent", Counter::News),
        ("news_lost", "News that found the ring full, told with the next heartbeat", Counter::NewsLost),
    ] {
        out.push(Family { name, help, series: Series::Counter(vec![(Vec::new(), total(counter))]) });
    }
    let rejected = from.rejected().into_iter();
    out.push(Family {
        name: "heartbeats_rejected",
        help: "Frames to the cluster's port that did not count, by reason",
        series: Series::Counter(
            rejected.map(|(reason, count)| (vec![("reason", reason.label().to_owned())], count)).collect(),
        ),
    });
}

fn gates(from: &Sources<'_>, out: &mut Vec<Family>) {
    let drops = |drops: GateDrops| {
        let of = |direction: &str, count| {
            (vec![("address", drops.address.clone()), ("direction", direction.to_owned())], count)
        };
        [of("ingress", drops.ingress), of("egress", drops.egress)]
    };
    out.push(Family {
        name: "gate_dropped",
        help: "Packets that the kernel's gate dropped, to and from an address that this node may not serve",
        series: Series::Counter(from.gate_drops().flat_map(drops).collect()),
    });
}

fn peers(from: &Sources<'_>, out: &mut Vec<Family>) {
    let settings = from.settings;
    let ids = || settings.known_nodes().map(|(id, _)| id).filter(|id| *id != settings.me);
    let peer = |id: NodeId| ("peer", settings.node_name(id).to_owned());
    let state = |id: NodeId| {
        label::PEER_STATES.map(|state| {
            let labels = vec![peer(id), ("state", label::peer(state).to_owned())];
            (labels, flag(from.node(id).state == state))
        })
    };
    out.push(Family {
        name: "peer_state",
        help: "1 for the state that the peer is in",
        series: Series::Gauge(ids().flat_map(state).collect()),
    });
    let age = |id| from.age(id).map(|age| (vec![peer(id)], age.as_secs_f64()));
    out.push(Family {
        name: "peer_last_heard_age_seconds",
        help: "Since the newest heartbeat that counts; absent before the first",
        series: Series::Gauge(ids().filter_map(age).collect()),
    });
    out.push(Family {
        name: "peer_heartbeats",
        help: "Heartbeats of the peer above everything heard before",
        series: Series::Counter(ids().map(|id| (vec![peer(id)], from.node(id).accepted)).collect()),
    });
}

fn links(from: &Sources<'_>, out: &mut Vec<Family>) {
    let settings = from.settings;
    let all: Vec<(Labels, LinkView)> = settings
        .known_nodes()
        .flat_map(|(peer, _)| from.links(peer).map(move |(link, view)| (peer, link, view)))
        .map(|(peer, link, view)| {
            let labels =
                vec![("peer", settings.node_name(peer).to_owned()), ("link", settings.link_name(link))];
            (labels, view)
        })
        .collect();
    let state = |(labels, view): &(Labels, LinkView)| {
        label::LINK_STATES.map(|state| {
            let mut labels = labels.clone();
            labels.push(("state", label::link(state).to_owned()));
            (labels, flag(view.state == state))
        })
    };
    out.push(Family {
        name: "link_state",
        help: "1 for the state that the link to the peer is in",
        series: Series::Gauge(all.iter().flat_map(state).collect()),
    });
    let loss = all.iter().map(|(labels, view)| (labels.clone(), f64::from(view.loss_ppm) / 1e6));
    out.push(Family {
        name: "link_loss_ratio",
        help: "Heartbeats lost on the link, of those sent in the peer's present life",
        series: Series::Gauge(loss.collect()),
    });
    let usable = |link: &LinkSettings| {
        let usable = from.interfaces.iter().any(|view| view.usable & 1 << link.id.raw() != 0);
        (vec![("link", settings.link_name(link.id))], flag(usable))
    };
    out.push(Family {
        name: "link_usable",
        help: "1 when this node can send on the link, 0 when its interface is not there or it has no socket on it",
        series: Series::Gauge(settings.links.iter().filter(|link| link.network().is_some()).map(usable).collect()),
    });
    let rtt = all.iter().filter_map(|(labels, view)| view.rtt.map(|rtt| (labels.clone(), rtt.as_secs_f64())));
    out.push(Family {
        name: "link_rtt_seconds",
        help: "Round trip on the link; absent until measured",
        series: Series::Gauge(rtt.collect()),
    });
}

fn groups(from: &Sources<'_>, out: &mut Vec<Family>) {
    let settings = from.settings;
    let view = |place: usize| -> GroupView { from.snapshot.groups.get(place).copied().unwrap_or_default() };
    let named = || settings.groups.iter().enumerate().map(|(place, group)| (group.name.clone(), view(place)));
    let state = |(name, view): (String, GroupView)| {
        label::GROUP_STATES.map(|state| {
            let labels = vec![("group", name.clone()), ("state", label::group(state).to_owned())];
            (labels, flag(view.state == state))
        })
    };
    out.push(Family {
        name: "group_state",
        help: "1 for the state that the group is in on this node",
        series: Series::Gauge(named().flat_map(state).collect()),
    });
    let owner = |(name, view): (String, GroupView)| {
        settings.known_nodes().filter(|(_, node)| !node.joined).map(move |(id, node)| {
            let labels = vec![("group", name.clone()), ("owner", node.name.clone())];
            (labels, flag(view.owner == Some(id)))
        })
    };
    out.push(Family {
        name: "group_owner",
        help: "1 for the node that owns the group in this node's view",
        series: Series::Gauge(named().flat_map(owner).collect()),
    });
    let lease = |(name, view): (String, GroupView)| {
        view.lease.map(|lease| (vec![("group", name)], lease.as_secs_f64()))
    };
    out.push(Family {
        name: "group_lease_seconds",
        help: "How long this node's lease still runs; absent without one",
        series: Series::Gauge(named().filter_map(lease).collect()),
    });
}

fn agent(from: &Sources<'_>, out: &mut Vec<Family>) {
    let stats = from.stats;
    let mut gauge = |name, help, series| out.push(Family { name, help, series: Series::Gauge(series) });
    let version = ("version", env!("CARGO_PKG_VERSION").to_owned());
    gauge("build_info", "Always 1, with the version", vec![(vec![version], 1.0)]);
    gauge(
        "quorum",
        "1 when this node is with a majority (or the policy's equal)",
        vec![(Vec::new(), flag(from.snapshot.quorum))],
    );
    gauge(
        "maintenance",
        "1 when decisions are suspended",
        vec![(Vec::new(), flag(from.snapshot.maintenance))],
    );
    let joined = from.settings.known_nodes().filter(|(_, node)| node.joined).count();
    gauge(
        "joined_nodes",
        "Nodes that joined without being listed in the configuration file",
        vec![(Vec::new(), joined as f64)],
    );
    gauge(
        "gate_kernel",
        "1 when the kernel shuts addresses, 0 when only the agent does",
        vec![(Vec::new(), flag(from.gate == GateKind::Kernel))],
    );
    let modes = |(interface, mode): (&String, &ReceiveMode)| {
        [ReceiveMode::Native, ReceiveMode::Generic, ReceiveMode::Tcx, ReceiveMode::Socket].map(|other| {
            let labels = vec![("interface", interface.clone()), ("mode", other.label().to_owned())];
            (labels, flag(*mode == other))
        })
    };
    gauge(
        "receive_mode",
        "1 for the way in which the interface receives",
        from.modes.iter().flat_map(modes).collect(),
    );
    let class =
        |number| (vec![("class", label::scheduling(number).to_owned())], flag(stats.scheduling() == number));
    gauge("scheduling", "1 for the scheduling class of the realtime thread", [0, 1, 2].map(class).to_vec());
    gauge("memory_locked", "1 when memory is locked", vec![(Vec::new(), flag(stats.memory_locked()))]);
    for (name, help, counter) in [
        ("wakeups", "Wake-ups of the realtime thread", &stats.wakeups),
        (
            "heartbeats_undecodable",
            "Heartbeats that were authentic, but said what this version does not read",
            &stats.undecodable,
        ),
        ("receive_wakeups", "Wake-ups that news or a socket caused", &stats.receive_wakeups),
        ("dropped_messages", "Messages between threads that found their queue full", &stats.dropped),
        ("rival_heartbeats", "Heartbeats with this node's id that it has not sent", &stats.rival_heartbeats),
        ("announcements_failed", "Announcements that the kernel did not take", &stats.announce_failed),
    ] {
        let value = counter.load(Ordering::Relaxed);
        out.push(Family { name, help, series: Series::Counter(vec![(Vec::new(), value)]) });
    }
}

/// How this process began, and how often others were to take its place.
fn process(from: &Sources<'_>, out: &mut Vec<Family>) {
    let stats = from.stats;
    let mut gauge = |name, help, series| out.push(Family { name, help, series: Series::Gauge(series) });
    gauge(
        "restart_pause_seconds",
        "Between the last heartbeat of the process before and the first of this one, 0 without one before",
        vec![(Vec::new(), Process::of(from.process, stats).pause_us.unwrap_or(0) as f64 / 1e6)],
    );
    gauge(
        "restarts",
        "How often a process has gone on with the state of the one before since the last start without",
        vec![(Vec::new(), from.process.restarts as f64)],
    );
    gauge(
        "restarts_given_up",
        "Restarts that were given up after the pause had begun; the process went on",
        vec![(Vec::new(), from.process.failures as f64)],
    );
}

fn times(from: &Sources<'_>, out: &mut Vec<Family>) {
    let stats = from.stats;
    let stage = |stage: &str, histogram| (vec![("stage", stage.to_owned())], Reading::of(histogram));
    for (name, help, series) in [
        (
            "wakeup_lateness_seconds",
            "Wake-up of the realtime thread behind its timer",
            vec![(Vec::new(), Reading::of(&stats.lateness))],
        ),
        (
            "detection_overshoot_seconds",
            "Verdict about a silent peer behind its deadtime",
            vec![(Vec::new(), Reading::of(&stats.overshoot))],
        ),
        (
            "takeover_duration_seconds",
            "Stages of a takeover: address from the verdict to the address, announce from there to its first announcement",
            vec![stage("address", &stats.takeover_address), stage("announce", &stats.takeover_announce)],
        ),
    ] {
        out.push(Family { name, help, series: Series::Histogram(series) });
    }
}

impl Reading {
    fn of(histogram: &Histogram) -> Self {
        let (counts, sum_ns, _) = histogram.read();
        let bounds = BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        Self { sum: sum_ns as f64 / 1e9, count: counts.iter().sum(), buckets: bounds.zip(counts).collect() }
    }
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// What one request gets.
#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let kind = match family.series {
                Series::Counter(_) => MetricType::Counter,
                Series::Gauge(_) => MetricType::Gauge,
                Series::Histogram(_) => MetricType::Histogram,
            };
            let metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            match &family.series {
                Series::Counter(series) => each(metric, series, |mut to, value| {
                    to.encode_counter::<[(&str, &str); 0], u64, f64>(value, None)
                })?,
                Series::Gauge(series) => each(metric, series, |mut to, value| to.encode_gauge(value))?,
                Series::Histogram(series) => each(metric, series, |mut to, value| {
                    to.encode_histogram::<[(&str, &str); 0]>(value.sum, value.count, &value.buckets, None)
                })?,
            }
        }
        Ok(())
    }
}

/// Encodes every series, those without labels without braces.
fn each<T>(
    mut metric: MetricEncoder<'_>,
    series: &[(Labels, T)],
    mut encode: impl FnMut(MetricEncoder<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (labels, value) in series {
        if labels.is_empty() {
            encode(metric, value)?;
            return Ok(());
        }
        let labels = labels.as_slice();
        encode(metric.encode_family(&labels)?, value)?;
    }
    Ok(())
}
