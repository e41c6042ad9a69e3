//! Ping groups and their targets as `xbeat status --json` prints them.

use serde::{Deserialize, Serialize};

use super::status::Sources;
use crate::ping::counters::{GroupCounters, TargetCounters};
use crate::settings::PingSettings;

/// One ping group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Its name.
    pub name: String,
    /// `up`, `dead` or `unknown`.
    pub state: String,
    /// Since an answer of any target last arrived, `null` before the first.
    pub last_reply_ms: Option<u64>,
    /// Its targets.
    pub targets: Vec<Target>,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its address.
    pub address: String,
    /// `up`, `dead` or `unknown`.
    pub state: String,
    /// The newest round trip, `null` before the first answer.
    pub rtt_us: Option<u64>,
}

/// Every ping group with what was counted of it.
pub(super) fn groups<'a>(
    from: &Sources<'a>,
) -> impl Iterator<Item = (&'a PingSettings, &'a GroupCounters)> + use<'a> {
    let stats = from.stats;
    let groups = from.settings.pings.iter().enumerate();
    groups.filter_map(move |(place, ping)| Some((ping, stats.pings.group(place)?)))
}

/// Every target of a group, by its address.
pub(super) fn targets<'a>(
    ping: &'a PingSettings,
    counters: &'a GroupCounters,
) -> impl Iterator<Item = (String, &'a TargetCounters)> + use<'a> {
    let targets = ping.targets.iter().enumerate();
    targets.filter_map(move |(place, target)| Some((target.to_string(), counters.target(place)?)))
}

/// As `status` shows them.
pub(super) fn status(from: &Sources<'_>) -> Vec<Ping> {
    let whole = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
    let target = |(address, counters): (String, &TargetCounters)| Target {
        address,
        state: counters.state().label().to_owned(),
        rtt_us: counters.rtt().map(|rtt| whole(rtt.as_micros())),
    };
    let ping = |(ping, counters): (&PingSettings, &GroupCounters)| Ping {
        name: ping.name.clone(),
        state: counters.state().label().to_owned(),
        last_reply_ms: counters.last_reply().map(|at| whole(from.now.since(at).as_millis())),
        targets: targets(ping, counters).map(target).collect(),
    };
    groups(from).map(ping).collect()
}
