//! Events for people: the line that the log has, and that `xbeat events` prints.

use std::fmt::Write as _;

use super::event::{Event, What};

impl Event {
    /// For people, without a newline and without the time.
    pub fn to_text(&self) -> String {
        match &self.what {
            What::Peer { peer, to, incarnation: Some(incarnation), .. } => {
                format!("node {peer}: started anew, incarnation {incarnation} ({to})")
            }
            What::Peer { peer, from, to, silent_us, deadtime_ms, incarnation: None, .. } => {
                let silent = decimal_ms(*silent_us);
                format!("node {peer}: {from} -> {to}, silent for {silent} ms (deadtime {deadtime_ms} ms)")
            }
            What::Link { peer, link, from, to } => format!("link {link} to {peer}: {from} -> {to}"),
            What::Group { group, from, to, owner, epoch } => {
                let owner = owner.as_deref().unwrap_or("nobody");
                let change = if from == to { to.clone() } else { format!("{from} -> {to}") };
                let epoch = if *epoch == 0 { String::new() } else { format!(", epoch {epoch}") };
                format!("group {group}: {change} here, owned by {owner}{epoch}")
            }
            What::Address { address, to, group, reason, attempts } => {
                let mut text = format!("address {address} of {group}: {to}");
                if let Some(reason) = reason {
                    // Writing to a String does not fail.
                    let _ = write!(text, ": {reason}");
                }
                if let Some(attempts) = attempts {
                    let _ = write!(text, " (attempt {attempts})");
                }
                text
            }
            What::Lease { group, to, reason } => format!("lease of {group}: {to}: {reason}"),
            What::Gate { address, to, by, group } => {
                format!("gate of {address} ({group}): {to} by the {by}")
            }
            What::Vote { group, candidate: None, .. } => format!("vote for {group}: free"),
            What::Vote { group, epoch, candidate: Some(candidate) } => {
                format!("vote for {group}: {candidate}, epoch {epoch}")
            }
            What::Interface { interface, to, index, receives, gate } => {
                let mut text = format!("interface {interface}: {to}");
                if *index != 0 {
                    // Writing to a String does not fail.
                    let _ = write!(text, ", index {index}");
                }
                if let Some(receives) = receives {
                    let _ = write!(text, ", receives by {receives}");
                }
                if let Some(gate) = gate.as_ref().filter(|_| *index != 0) {
                    let _ = write!(text, ", gate: {gate}");
                }
                text
            }
            What::Line { device, link, to, reason } => {
                let why = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                format!("line {device} of {link}: {to}{why}")
            }
            What::Node { node, id, to, reason } => {
                let why = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                format!("node {node} (id {id}): {to}{why}")
            }
            What::Fence { node, to, reason } => format!("fencing of {node}: {to}: {reason}"),
            What::Ping { group, from, to } => format!("ping group {group}: {from} -> {to}"),
            What::Config { what, to, reason: None } => format!("{what}: {to}"),
            What::Config { what, to, reason: Some(reason) } => format!("{what}: {to}: {reason}"),
            What::Own(own) => own.to_text(),
        }
    }
}

pub(super) fn decimal_ms(us: u64) -> String {
    format!("{}.{:03}", us / 1_000, us % 1_000)
}
