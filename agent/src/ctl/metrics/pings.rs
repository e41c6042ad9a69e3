//! Metrics of ping groups: whether each is reached, and what each target answered.

use std::sync::atomic::{AtomicU64, Ordering};

use agent_common::NodeId;

use super::{Family, Labels, Series, flag};
use crate::ctl::pings;
use crate::ctl::status::Sources;
use crate::ping::PingState;
use crate::ping::counters::TargetCounters;

pub(super) fn pings(from: &Sources<'_>, out: &mut Vec<Family>) {
    let up = pings::groups(from)
        .map(|(ping, counters)| (vec![("ping", ping.name.clone())], flag(counters.state() == PingState::Up)));
    out.push(Family {
        name: "ping_up",
        help: "1 when the ping group is reached",
        series: Series::Gauge(up.collect()),
    });
    let targets: Vec<(Labels, &TargetCounters)> = pings::groups(from)
        .flat_map(|(ping, counters)| {
            let labelled =
                move |(address, counters)| (vec![("ping", ping.name.clone()), ("target", address)], counters);
            pings::targets(ping, counters).map(labelled)
        })
        .collect();
    let rtt = targets
        .iter()
        .filter_map(|(labels, target)| target.rtt().map(|rtt| (labels.clone(), rtt.as_secs_f64())));
    out.push(Family {
        name: "ping_rtt_seconds",
        help: "Newest round trip to the target; absent before its first answer",
        series: Series::Gauge(rtt.collect()),
    });
    let count = |of: fn(&TargetCounters) -> &AtomicU64| {
        let value = |(labels, target): &(Labels, &TargetCounters)| {
            (labels.clone(), of(target).load(Ordering::Relaxed))
        };
        Series::Counter(targets.iter().map(value).collect())
    };
    out.push(Family {
        name: "ping_sent",
        help: "Echo requests that the kernel took",
        series: count(|target| &target.sent),
    });
    out.push(Family {
        name: "ping_received",
        help: "Answers that counted",
        series: count(|target| &target.received),
    });
    out.push(Family {
        name: "ping_failed",
        help: "Echo requests that the kernel did not take",
        series: count(|target| &target.failed),
    });
    let score = NodeId::all()
        .zip(&from.settings.nodes)
        .map(|(id, node)| (vec![("node", node.name.clone())], f64::from(from.node(id).score)));
    out.push(Family {
        name: "node_score",
        help: "How many ping groups the node reaches, as it said last",
        series: Series::Gauge(score.collect()),
    });
    let ignored = from.stats.pings.ignored.load(Ordering::Relaxed);
    out.push(Family {
        name: "ping_ignored",
        help: "Echo replies that did not count: of others, repeated, or too late",
        series: Series::Counter(vec![(Vec::new(), ignored)]),
    });
}
