//! `[[ping]]`: hosts outside of the cluster that show whether this node is connected, and which group of them breaks the
//! tie of two nodes. What a node reaches is told in its heartbeats; `reachtime` in `[timing]` says how long a difference lasts
//! before a group moves for it.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use agent_core::config::Timing;

use super::quorum::PingRule;
use super::report::Findings;
use super::section::{At, Section, advice};
use super::value::{self, show_duration as show};
use crate::settings::{
    Cast, GroupSettings, LinkSettings, PING_TARGETS_MAX, PINGS_MAX, PingSettings, PingTarget,
};

const KEYS: &[&str] = &["name", "targets", "interval", "deadtime"];
const INTERVAL_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const DEADTIME_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// Least deadtime that is chosen by default.
const DEADTIME_LEAST: Duration = Duration::from_secs(1);
/// Requests within a deadtime, unless the file says otherwise.
const TRIES: u32 = 4;
/// Requests in a second, over all targets, above which hosts begin to ration their answers.
const RATE_DOUBTFUL: f64 = 1000.0;
/// Least `reachtime` that is chosen by default.
const REACH_LEAST: Duration = Duration::from_secs(5);

/// What must be known to judge a target.
pub(super) struct Around<'a> {
    pub(super) links: &'a [At<LinkSettings>],
    pub(super) groups: &'a [GroupSettings],
    pub(super) timing: Timing,
}

/// The ping groups of the file, and which one breaks the tie.
pub(super) struct Pings {
    pub(super) settings: Vec<PingSettings>,
    pub(super) tie_break: Option<usize>,
}

/// One that was read, and where its interval stands if it was written.
struct Read {
    settings: PingSettings,
    interval: Option<Range<usize>>,
    span: Range<usize>,
}

pub(super) fn pings(
    root: &Section<'_>,
    around: &Around<'_>,
    rule: Option<PingRule>,
    findings: &mut Findings<'_>,
) -> Pings {
    let sections = root.tables("ping", "[[ping]]", KEYS, PINGS_MAX, findings);
    let mut read: Vec<Read> = Vec::new();
    for section in &sections {
        let ping = ping(section, &read, around, findings);
        read.extend(ping);
    }
    let whole = read.len() == sections.len();
    let tie_break = rule.and_then(|rule| tie_break(rule, &mut read, whole, around.timing, findings));
    rate(&read, findings);
    Pings { settings: read.into_iter().map(|read| read.settings).collect(), tie_break }
}

/// How long a difference in what nodes reach lasts before a group moves for it.
pub(super) fn reachtime(
    written: Option<At<Duration>>,
    pings: &[PingSettings],
    findings: &mut Findings<'_>,
) -> Duration {
    let slowest = pings.iter().map(|ping| ping.deadtime).max().unwrap_or_default();
    let Some(At { value, span }) = written else { return REACH_LEAST.max(slowest * 2) };
    if value < slowest {
        let message = format!(
            "reachtime {} is below the deadtime {} of a [[ping]]: when both nodes lose it, one may notice so much later \
             that a group moves",
            show(value),
            show(slowest)
        );
        findings.warn(span, message, format!("write reachtime = \"{}\" or more", show(slowest * 2)));
    }
    value
}

fn ping(
    section: &Section<'_>,
    earlier: &[Read],
    around: &Around<'_>,
    findings: &mut Findings<'_>,
) -> Option<Read> {
    let name = section.required("name", "gateway", findings);
    if let Some(name) = &name {
        if let Err(error) = value::name(name.value) {
            findings.error(name.span.clone(), format!("`name` in [[ping]] {error}"), "write a short word");
        }
        if earlier.iter().any(|other| other.settings.name == name.value) {
            let message = format!("ping group `{}` is there twice", name.value);
            findings.error(name.span.clone(), message, "give each its own name");
        }
    }
    let deadtime = section.duration("deadtime", DEADTIME_BOUNDS, findings);
    let interval = section.duration("interval", INTERVAL_BOUNDS, findings);
    let by_default = DEADTIME_LEAST.max(around.timing.deadtime * TRIES);
    let dead = deadtime.as_ref().map_or(by_default, |at| at.value);
    let usual = (dead / TRIES).clamp(*INTERVAL_BOUNDS.start(), *INTERVAL_BOUNDS.end());
    let every = interval.as_ref().map_or(usual, |at| at.value);
    if deadtime.is_some() == section.has("deadtime")
        && let Some(at) = &interval
    {
        misses(every, dead, at.span.clone(), findings);
    }
    let targets = targets(section, earlier, around, findings)?;
    let settings = PingSettings { name: name?.value.to_owned(), targets, interval: every, deadtime: dead };
    Some(Read { settings, interval: interval.map(|at| at.span), span: section.span() })
}

fn misses(interval: Duration, deadtime: Duration, span: Range<usize>, findings: &mut Findings<'_>) {
    let (every, dead) = (show(interval), show(deadtime));
    let help = format!("write interval = \"{}\", or leave it out", show(deadtime / TRIES));
    if interval * 2 > deadtime {
        let message = format!(
            "`interval` {every} of a [[ping]] is more than half of its deadtime {dead}: one lost answer is a death"
        );
        findings.error(span, message, help);
    } else if interval * 3 > deadtime {
        let message =
            format!("`interval` {every} and deadtime {dead} of a [[ping]] forgive one lost answer only");
        findings.warn(span, message, help);
    }
}

fn targets(
    section: &Section<'_>,
    earlier: &[Read],
    around: &Around<'_>,
    findings: &mut Findings<'_>,
) -> Option<Vec<PingTarget>> {
    let example = "[\"10.0.0.254\"]";
    let help =
        format!("add targets = {example}, the addresses of routers or other hosts that are always there");
    section.demand("targets", "[[ping]] lacks `targets`", help.clone(), findings);
    let written = section.strings("targets", example, findings)?;
    if written.value.is_empty() {
        findings.error(written.span, "`targets` in [[ping]] is empty", help);
        return None;
    }
    if written.value.len() > PING_TARGETS_MAX {
        let message = format!(
            "a [[ping]] has {} targets, and at most {PING_TARGETS_MAX} are possible",
            written.value.len()
        );
        findings.error(written.span, message, "leave those out that tell the least");
        return None;
    }
    let mut targets: Vec<PingTarget> = Vec::new();
    for item in written.value {
        let Some(target) = target(&item, around, findings) else { continue };
        if targets.contains(&target) {
            findings.error(item.span, format!("`targets` has {target} twice"), "leave it once");
            continue;
        }
        if let Some(other) = earlier.iter().find(|other| other.settings.targets.contains(&target)) {
            let message =
                format!("{target} is a target of `{}` already: it counts twice", other.settings.name);
            findings.warn(item.span, message, "leave it in one of them");
        }
        targets.push(target);
    }
    Some(targets)
}

fn target(item: &At<&str>, around: &Around<'_>, findings: &mut Findings<'_>) -> Option<PingTarget> {
    let (text, interface) = match item.value.split_once('%') {
        Some((text, interface)) => (text, Some(interface)),
        None => (item.value, None),
    };
    let mut refuse = |message: String, help: &str| findings.error(item.span.clone(), message, help);
    let Ok(address) = text.parse::<IpAddr>() else {
        let help = "write an IPv4 or IPv6 address, without a prefix length; names are not looked up";
        refuse(format!("`targets` has \"{}\", which is not an IP address", item.value), help);
        return None;
    };
    if address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        refuse(format!("{address} is not the address of one host"), "write the address of one host");
        return None;
    }
    if address.is_loopback() {
        refuse(
            format!("{address} is this host itself, which always answers"),
            "write a host outside of the cluster",
        );
        return None;
    }
    match (interface, is_link_local(address)) {
        (Some(interface), true) => {
            if let Err(error) = value::interface(interface) {
                refuse(
                    format!("the interface of \"{}\" {error}", item.value),
                    "write a name that `ip link` shows",
                );
                return None;
            }
        }
        (Some(_), false) => {
            refuse(
                format!("\"{}\" names an interface, and only link-local IPv6 addresses need one", item.value),
                "write the address without '%'",
            );
            return None;
        }
        (None, true) => {
            refuse(
                format!("{address} is link-local, and says nothing without its interface"),
                "write the interface behind the address, as \"fe80::1%eth0\"",
            );
            return None;
        }
        (None, false) => {}
    }
    if let Some(whose) = whose(address, around) {
        let message = format!("{address} is {whose}: it says nothing about the world outside of the cluster");
        refuse(message, "write the address of a router or of another host that is always there");
        return None;
    }
    Some(PingTarget { address, interface: interface.map(str::to_owned) })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Whose address it is, if it is of the cluster.
fn whose(address: IpAddr, around: &Around<'_>) -> Option<String> {
    let networks = around.links.iter().filter_map(|link| link.value.network());
    let of_node = networks.into_iter().any(|network| match &network.cast {
        Cast::Unicast { addresses } => addresses.contains(&Some(address)),
        Cast::Broadcast | Cast::Multicast { .. } => false,
    });
    if of_node {
        return Some("the address of a node".to_owned());
    }
    let serves = |group: &&GroupSettings| group.addresses.iter().any(|served| served.address == address);
    around.groups.iter().find(serves).map(|group| format!("an address of group `{}`", group.name))
}

fn tie_break(
    rule: PingRule,
    read: &mut [Read],
    whole: bool,
    timing: Timing,
    findings: &mut Findings<'_>,
) -> Option<usize> {
    let PingRule { name, span } = rule;
    if read.is_empty() {
        if whole {
            let help = "add a [[ping]] with name and targets = [\"10.0.0.254\"], the address of a router";
            findings.missing(span, "tie_break \"ping\" needs a [[ping]]", help);
        }
        return None;
    }
    let place = match name {
        None => 0,
        Some(At { value, span }) => {
            let found = read.iter().position(|ping| ping.settings.name == value);
            if found.is_none() && whole {
                let names: Vec<&str> = read.iter().map(|ping| ping.settings.name.as_str()).collect();
                let message =
                    format!("`ping` in [quorum] names `{value}`, which no [[ping]] has as its name");
                findings.error(span, message, advice(&value, &names));
            }
            found?
        }
    };
    let chosen = read.get_mut(place)?;
    // The lease ends a deadtime after the request that was answered last: several must fit into it.
    let most = (timing.deadtime / TRIES).max(*INTERVAL_BOUNDS.start());
    if most * TRIES > timing.deadtime {
        let message = format!(
            "deadtime {} leaves room for fewer than {TRIES} pings of at least {}: a lost answer ends the lease",
            show(timing.deadtime),
            show(*INTERVAL_BOUNDS.start())
        );
        let help = format!("write deadtime = \"{}\" or more in [timing]", show(most * TRIES));
        findings.warn(chosen.span.clone(), message, help);
    }
    if chosen.settings.interval > most {
        if let Some(span) = &chosen.interval {
            let message = format!(
                "`interval` {} is too long for the ping group that breaks the tie: its answers hold the lease, which \
                 lasts for the nodes' deadtime of {}",
                show(chosen.settings.interval),
                show(timing.deadtime)
            );
            findings.error(
                span.clone(),
                message,
                format!("write interval = \"{}\", or leave it out", show(most)),
            );
        }
        chosen.settings.interval = most;
    }
    Some(place)
}

fn rate(read: &[Read], findings: &mut Findings<'_>) {
    let of = |read: &Read| read.settings.targets.len() as f64 / read.settings.interval.as_secs_f64();
    let total: f64 = read.iter().map(of).sum();
    if let Some(last) = read.last().filter(|_| total > RATE_DOUBTFUL) {
        let message = format!("the [[ping]] send {total:.0} requests a second: routers ration their answers");
        findings.warn(last.span.clone(), message, "name fewer targets, or write a longer `interval`");
    }
}

#[cfg(test)]
#[path = "ping_tests.rs"]
mod tests;
