//! Which changes of the configuration a running node can take up by a restart without a gap, and which it cannot, with the
//! reason and what to do instead. The carried state knows nodes, links and groups by id, so ids keep their meaning.

use std::path::PathBuf;

use super::shape::{GroupShape, LinkShape, Shape};
use crate::settings::Settings;

/// A change that cannot be taken up while the node goes on. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The cluster's name.
    #[error(
        "[cluster] name cannot change from \"{0}\" to \"{1}\" while the node runs: stop every node, then start them"
    )]
    Cluster(String, String),
    /// This node's name.
    #[error("this node cannot become \"{1}\" while it runs as \"{0}\": stop the agent, then start it")]
    Node(String, String),
    /// A node's place in the file is its id.
    #[error(
        "[[node]] {place} cannot change from \"{was}\" to \"{now}\": keep the order, and add nodes at the end"
    )]
    Nodes {
        /// From 1.
        place: usize,
        /// Its name.
        was: String,
        /// Its name now.
        now: String,
    },
    /// Who votes changes one node at a time.
    #[error(
        "the voters change from {was} to {now} without the [quorum] number for it: raise `number` from {number} by one \
         and write the one vote that changes as `change`"
    )]
    Voters {
        /// Names.
        was: String,
        /// Names.
        now: String,
        /// The number in force.
        number: u16,
    },
    /// `number` goes up by one.
    #[error("[quorum] number cannot go from {0} to {1}: it goes up by one at a time, with its `change`")]
    Number(u16, u16),
    /// `policy` and `tie_break`.
    #[error(
        "[quorum] policy cannot change from \"{0}\" to \"{1}\" while nodes run: stop every node, then start them"
    )]
    Policy(String, String),
    /// Every node must have the same.
    #[error(
        "[timing] initdead cannot change from {} ms to {} ms while nodes run, since it bounds what they promise each \
         other: stop every node, then start them", .0 / 1000, .1 / 1000
    )]
    Initdead(u64, u64),
    /// A link's place in the file is its id.
    #[error(
        "link {0} is not at the end of the file: links before others can be changed in place, not removed"
    )]
    LinkRemoved(String),
    /// No link would be as it was.
    #[error(
        "no link would be as it was, and the peers might hear nothing: add the new link at the end, reload every node, \
         then change the old one"
    )]
    Links,
    /// A group's place in the file is its id.
    #[error(
        "[[group]] {place} cannot change from \"{was}\" to \"{now}\": keep the order, and add groups at the end"
    )]
    Groups {
        /// From 1.
        place: usize,
        /// Its name.
        was: String,
        /// Its name now.
        now: String,
    },
    /// A group went.
    #[error(
        "group \"{0}\" cannot be removed while the node runs, since its vote may bind it: stop the agent, then start it \
         (`xbeat standby --all` first moves what it serves)"
    )]
    GroupRemoved(String),
    /// An address of a served group.
    #[error(
        "{address} of group \"{group}\" is served here: `xbeat standby {group}` first, then remove or change it"
    )]
    Address {
        /// Its group.
        group: String,
        /// Which.
        address: String,
    },
    /// This node must give it away first.
    #[error(
        "group \"{0}\" is served here, and this node is no longer in its `prefer`: `xbeat standby {0}` first"
    )]
    Owner(String),
    /// A key of `[runtime]` or `[watchdog]`.
    #[error("`{key}` cannot change from {was} to {now} while the node runs: stop the agent, then start it")]
    Fixed {
        /// As in the file.
        key: &'static str,
        /// Its value.
        was: String,
        /// Its value now.
        now: String,
    },
}

/// All that keeps `now` from being taken up by a node that goes on from `was`. `serves` tells whether it serves the group
/// at this place.
pub fn refused(was: &Shape, now: &Shape, serves: impl Fn(usize) -> bool) -> Vec<Refused> {
    let mut out = Vec::new();
    if was.cluster != now.cluster {
        out.push(Refused::Cluster(was.cluster.clone(), now.cluster.clone()));
    }
    if was.node != now.node {
        out.push(Refused::Node(was.node.clone(), now.node.clone()));
    }
    nodes(was, now, &mut out);
    if was.policy != now.policy {
        out.push(Refused::Policy(was.policy.clone(), now.policy.clone()));
    }
    if was.initdead_us != now.initdead_us {
        out.push(Refused::Initdead(was.initdead_us, now.initdead_us));
    }
    links(&was.links, &now.links, &mut out);
    for (place, group) in was.groups.iter().enumerate() {
        compare_group(place, group, now.groups.get(place), serves(place), &mut out);
    }
    fixed(was, now, &mut out);
    out
}

fn nodes(was: &Shape, now: &Shape, out: &mut Vec<Refused>) {
    let both = was.nodes.iter().zip(&now.nodes).zip(1..);
    for ((was, now), place) in both.filter(|((was, now), _)| was.name != now.name) {
        out.push(Refused::Nodes { place, was: was.name.clone(), now: now.name.clone() });
    }
    let voters = |shape: &Shape| {
        let voters = shape.nodes.iter().filter(|node| node.votes).map(|node| node.name.as_str());
        voters.collect::<Vec<_>>().join(", ")
    };
    let is_next = was.number.checked_add(1) == Some(now.number) && now.change.is_some();
    if was.number != now.number && !is_next {
        out.push(Refused::Number(was.number, now.number));
    } else if was.number == now.number && voters(was) != voters(now) {
        out.push(Refused::Voters { was: voters(was), now: voters(now), number: was.number });
    }
}

fn links(was: &[LinkShape], now: &[LinkShape], out: &mut Vec<Refused>) {
    // One that is still there at another place had an earlier one taken away before it.
    let shifted = was.iter().enumerate().filter(|(place, link)| {
        now.get(*place).is_none_or(|now| now.path != link.path)
            && now.iter().take(*place).any(|other| other.path == link.path)
    });
    if let Some((place, _)) = shifted.into_iter().next() {
        let removed = was.iter().take(place).find(|link| now.iter().all(|other| other.path != link.path));
        out.extend(removed.map(|link| Refused::LinkRemoved(link.name.clone())));
    }
    let stays = was.iter().zip(now).any(|(was, now)| was.path == now.path);
    if !stays && !was.is_empty() {
        out.push(Refused::Links);
    }
}

fn compare_group(
    place: usize,
    was: &GroupShape,
    now: Option<&GroupShape>,
    serves: bool,
    out: &mut Vec<Refused>,
) {
    let Some(now) = now else {
        out.push(Refused::GroupRemoved(was.name.clone()));
        return;
    };
    if was.name != now.name {
        out.push(Refused::Groups { place: place + 1, was: was.name.clone(), now: now.name.clone() });
        return;
    }
    if !serves {
        return;
    }
    if was.owned && !now.owned {
        out.push(Refused::Owner(was.name.clone()));
    }
    for address in was.addresses.iter().filter(|address| !now.addresses.contains(address)) {
        let address = format!("{}/{} on {}", address.address, address.prefix, address.interface);
        out.push(Refused::Address { group: was.name.clone(), address });
    }
}

fn fixed(was: &Shape, now: &Shape, out: &mut Vec<Refused>) {
    let path = |path: &PathBuf| path.display().to_string();
    let keys = [
        ("generation", was.generation.clone(), now.generation.clone()),
        ("state_dir", path(&was.state_dir), path(&now.state_dir)),
        ("bpffs", path(&was.bpffs), path(&now.bpffs)),
        ("xdp", was.xdp.clone(), now.xdp.clone()),
    ];
    for (key, was, now) in keys.into_iter().filter(|(_, was, now)| was != now) {
        out.push(Refused::Fixed { key, was, now });
    }
    // A device that nobody pets any more would reset the machine.
    if let Some(device) = was.watchdog.as_ref().filter(|_| was.watchdog != now.watchdog) {
        let now = now.watchdog.as_ref().map_or_else(|| "none".to_owned(), path);
        out.push(Refused::Fixed { key: "device", was: path(device), now });
    }
}

/// All reasons in one line.
pub fn list(refused: &[Refused]) -> String {
    refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The parts of the file that differ, for people. Empty: nothing does.
pub fn parts(was: &Settings, now: &Settings) -> Vec<&'static str> {
    let parts = [
        ("timing", was.timing != now.timing),
        ("nodes", was.nodes != now.nodes),
        ("quorum", was.quorum != now.quorum || was.vote_change != now.vote_change),
        ("links", was.links != now.links),
        ("groups", was.groups != now.groups),
        ("pings", was.pings != now.pings || was.tie_break_ping != now.tie_break_ping),
        ("control", was.control_socket != now.control_socket),
        ("metrics", was.metrics_listen != now.metrics_listen),
        ("watchdog", was.watchdog != now.watchdog),
        ("runtime", was.runtime != now.runtime),
    ];
    let mut differ: Vec<&str> = parts.iter().filter(|(_, differs)| *differs).map(|(part, _)| *part).collect();
    if differ.is_empty() && was != now {
        differ.push("cluster");
    }
    differ
}
