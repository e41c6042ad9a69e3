//! `xbeat check`: what the file means to this node, what is doubtful about it, and whether its keys can be used.

use std::fmt::Write as _;
use std::path::Path;

use agent_core::config::{Policy, TieBreak};

use super::{Exit, print};
use crate::carry;
use crate::config::{self, Look, show_duration};
use crate::gate::ready;
use crate::keys::{self, KeyError};
use crate::loss::Loss;
use crate::settings::{
    Autojoin, Cast, GroupSettings, LinkSettings, Medium, PingSettings, SerialLink, Settings,
};

mod expected;

pub(super) fn check(path: &Path, loss: Option<f64>, burst: Option<f64>) -> Exit {
    let (settings, warnings) = match config::load(path) {
        Ok(read) => read,
        Err(errors) => {
            print::err(&errors.render(print::look()));
            return Exit::Configuration;
        }
    };
    let file = path.display().to_string();
    let (keys, sound) = keys_line(&settings);
    let mut text = summary(&settings);
    let _ = writeln!(text, "keys      {keys}");
    text += &match (loss, burst) {
        (None, _) => expected::line(&settings),
        (Some(part), None) => expected::table(&settings, Loss::independent(part)),
        (Some(part), Some(length)) => expected::table(&settings, Loss::bursts(part, length)),
    };
    for warning in &warnings {
        let _ = writeln!(text, "{}", warning.one_line(&file, "warning"));
    }
    let verdict = match (sound, warnings.len()) {
        (false, _) => format!("{file}: the key file cannot be used"),
        (true, 0) => format!("{file}: valid"),
        (true, 1) => format!("{file}: valid, with 1 warning"),
        (true, count) => format!("{file}: valid, with {count} warnings"),
    };
    let _ = writeln!(text, "{verdict}");
    match print::out(&text) {
        Err(exit) => exit,
        Ok(()) if sound => Exit::Done,
        Ok(()) => Exit::Configuration,
    }
}

/// What a running agent asks the binary that is to take its place: whether the file is sound, and whether it can go on
/// from the state that the agent would hand over. Its programs are loaded already then: that must not take its time later.
pub(super) fn resumes(path: &Path, terms: &str) -> Exit {
    let settings = match config::load(path) {
        Ok((settings, _)) => settings,
        Err(errors) => {
            print::err(&errors.render(Look::Plain));
            return Exit::Configuration;
        }
    };
    let (exit, reason) = match (keys::load(&settings.key_file), carry::accept(terms)) {
        (Err(error), _) => (Exit::Configuration, error.to_string()),
        (Ok(_), Err(error)) => (Exit::No, error.to_string()),
        (Ok(_), Ok(())) => match ready::prepare(&settings) {
            Ok(()) => return Exit::Done,
            Err(error) => (Exit::No, error.to_string()),
        },
    };
    print::err(&format!("{reason}\n"));
    exit
}

/// A file that this user cannot see is no mistake of the configuration; one that is wrong is.
fn keys_line(settings: &Settings) -> (String, bool) {
    match keys::load(&settings.key_file) {
        Ok(ring) => {
            let count = ring.states.iter().filter(|state| state.valid != 0).count();
            let plural = if count == 1 { "key" } else { "keys" };
            let line = format!(
                "{}: {count} {plural}, key {} signs",
                settings.key_file.display(),
                ring.sign_with.raw()
            );
            (line, true)
        }
        Err(error @ KeyError::Unreadable { .. }) => (format!("not checked: {error}"), true),
        Err(error) => (error.to_string(), false),
    }
}

/// What the configuration means, for people.
fn summary(settings: &Settings) -> String {
    let mut text = String::new();
    let timing = &settings.timing;
    let _ = writeln!(
        text,
        "cluster   {} (id {:08x}); this node is {}",
        settings.cluster,
        settings.cluster_id,
        settings.node_name(settings.me)
    );
    let nodes: Vec<String> = settings
        .known_nodes()
        .map(|(id, node)| match (node.witness, node.joined) {
            (true, _) => format!("{} (witness)", node.name),
            (false, true) => format!("{} (joined, id {})", node.name, id.raw()),
            (false, false) => node.name.clone(),
        })
        .collect();
    let _ = writeln!(text, "nodes     {}", nodes.join(", "));
    match settings.autojoin {
        Autojoin::None => {}
        Autojoin::Other | Autojoin::Any => {
            let _ = writeln!(text, "autojoin  others may join with the key; they get no vote and no group");
        }
    }
    let _ = writeln!(
        text,
        "timing    keepalive {}, deadtime {}, warntime {}, initdead {}",
        show_duration(timing.keepalive),
        show_duration(timing.deadtime),
        show_duration(timing.warntime),
        show_duration(timing.initdead)
    );
    // The node died somewhere between its last heartbeat and the next.
    let _ = writeln!(
        text,
        "failover  {} to {} after a node died it is declared dead; moving an address takes a few ms more",
        show_duration(timing.deadtime.saturating_sub(timing.keepalive)),
        show_duration(timing.deadtime)
    );
    let _ = writeln!(text, "quorum    {}", quorum(settings));
    for link in &settings.links {
        let _ = writeln!(text, "link      {}", link_line(settings, link));
    }
    for group in &settings.groups {
        let _ = writeln!(text, "group     {}", group_line(settings, group));
    }
    for (place, ping) in settings.pings.iter().enumerate() {
        let _ = writeln!(text, "ping      {}", ping_line(settings, place, ping));
    }
    text
}

fn quorum(settings: &Settings) -> String {
    let votes = settings.listed();
    match settings.quorum.policy {
        Policy::Majority => format!("majority: {} of {votes} votes", votes / 2 + 1),
        Policy::TwoNode(TieBreak::Fence) => "two nodes; a successful fence lets one take over".to_owned(),
        Policy::TwoNode(TieBreak::Ping) => "two nodes; a reachable ping group lets one take over".to_owned(),
        Policy::TwoNode(TieBreak::Always) => "two nodes; the peer's silence lets one take over".to_owned(),
    }
}

fn link_line(settings: &Settings, link: &LinkSettings) -> String {
    let name = settings.link_name(link.id);
    let network = match &link.medium {
        Medium::Network(network) => network,
        Medium::Serial(serial) => {
            let every = show_duration(link.keepalive);
            return format!("{name}, {}; a heartbeat every {every}", serial_line(settings, serial));
        }
    };
    let to = match &network.cast {
        Cast::Unicast { addresses } => settings
            .nodes
            .iter()
            .zip(addresses)
            .filter_map(|(node, address)| address.map(|address| format!("{} {address}", node.name)))
            .collect::<Vec<String>>()
            .join(", "),
        Cast::Broadcast => "to all on the network".to_owned(),
        Cast::Multicast { group, ttl } => {
            format!("to {group}, {ttl} hop{}", if *ttl == 1 { "" } else { "s" })
        }
    };
    format!("{name}, port {}: {to}", network.port)
}

fn serial_line(settings: &Settings, serial: &SerialLink) -> String {
    let lines = settings.nodes.iter().zip(&serial.devices).filter(|(_, devices)| !devices.is_empty());
    let shown = lines.map(|(node, devices)| {
        let devices: Vec<String> = devices.iter().map(|device| device.display().to_string()).collect();
        format!("{} {}", node.name, devices.join(" and "))
    });
    format!("{} baud: {}", serial.baud, shown.collect::<Vec<String>>().join(", "))
}

fn ping_line(settings: &Settings, place: usize, ping: &PingSettings) -> String {
    let targets: Vec<String> = ping.targets.iter().map(ToString::to_string).collect();
    let what = if settings.tie_break_ping == Some(place) {
        "breaks the tie of two nodes".to_owned()
    } else {
        format!("groups move where more is reached, after {}", show_duration(settings.reachtime))
    };
    format!(
        "{}: {} every {}, dead after {}; {what}",
        ping.name,
        targets.join(", "),
        show_duration(ping.interval),
        show_duration(ping.deadtime)
    )
}

fn group_line(settings: &Settings, group: &GroupSettings) -> String {
    let addresses: Vec<String> = group
        .addresses
        .iter()
        .map(|address| format!("{}/{} on {}", address.address, address.prefix, address.interface))
        .collect();
    let prefer: Vec<&str> = group.prefer.iter().map(|node| settings.node_name(*node)).collect();
    let back = if group.auto_failback { "moves back by itself" } else { "stays where it is" };
    let addresses = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
    format!("{}: {addresses}; on {}; {back}", group.name, prefer.join(", then "))
}
