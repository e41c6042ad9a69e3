//! `xbeat status` for people: what is wrong is visible at a glance, and nothing that is fine takes a second look.

use std::fmt::Write as _;

use agent_common::Reject;

use crate::ctl::pings::{Ping, Target};
use crate::ctl::status::{GateDrops, Link, Node, Status};
use crate::links::Guard;

/// The whole table.
pub(super) fn table(status: &Status) -> String {
    let mut out = String::new();
    head(status, &mut out);
    out.push('\n');
    nodes(status, &mut out);
    out.push('\n');
    groups(status, &mut out);
    out.push('\n');
    pings(&status.pings, &mut out);
    facts(status, &mut out);
    out
}

fn head(status: &Status, out: &mut String) {
    let quorum = if status.quorum { "with quorum" } else { "WITHOUT QUORUM" };
    // Writing to a String does not fail, here and below.
    let _ = writeln!(out, "Cluster {}, node {}, {quorum}", status.cluster, status.node);
    if status.maintenance {
        let _ = writeln!(out, "Maintenance: decisions are suspended");
    }
    if status.leaving {
        let _ = writeln!(out, "This node is on its way out");
    }
}

fn nodes(status: &Status, out: &mut String) {
    let mut rows = vec![row(["NODE", "STATE", "LAST HEARD", "LINKS"])];
    let reaches = |node: &Node| match status.pings.len() {
        0 => node.state.clone(),
        of => format!("{}, reaches {} of {of}", node.state, node.score),
    };
    for node in &status.nodes {
        let mut name = node.name.clone();
        if node.joined {
            name.push_str(" (joined)");
        }
        if node.witness {
            name.push_str(" (witness)");
        }
        if node.name == status.node {
            rows.push(vec![name, reaches(node), "this node".to_owned(), String::new()]);
            continue;
        }
        let heard = node.last_heard_ms.map_or_else(|| "never".to_owned(), ago);
        let links: Vec<String> = node.links.iter().map(link).collect();
        rows.push(vec![name, reaches(node), heard, links.join(", ")]);
    }
    columns(&rows, out);
}

fn groups(status: &Status, out: &mut String) {
    if status.groups.is_empty() {
        out.push_str("No groups\n");
        return;
    }
    let mut rows = vec![row(["GROUP", "HERE", "OWNER", "EPOCH", "LEASE", "VOTES", "ADDRESSES"])];
    for group in &status.groups {
        let because = |reason: &String| format!("{}: {reason}", group.state);
        rows.push(vec![
            group.name.clone(),
            group.reason.as_ref().map_or_else(|| group.state.clone(), because),
            group.owner.clone().unwrap_or_else(|| "nobody".to_owned()),
            if group.epoch == 0 { "-".to_owned() } else { group.epoch.to_string() },
            group.lease_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
            if group.votes.is_empty() { "-".to_owned() } else { group.votes.join("+") },
            group.addresses.join(", "),
        ]);
    }
    columns(&rows, out);
}

fn pings(pings: &[Ping], out: &mut String) {
    if pings.is_empty() {
        return;
    }
    let mut rows = vec![row(["PING", "STATE", "LAST REPLY", "TARGETS"])];
    for ping in pings {
        let target = |target: &Target| {
            let rtt = target.rtt_us.map_or_else(String::new, |us| format!(" {us} us"));
            format!("{} {}{rtt}", target.address, target.state)
        };
        let targets: Vec<String> = ping.targets.iter().map(target).collect();
        let reply = ping.last_reply_ms.map_or_else(|| "never".to_owned(), ago);
        rows.push(vec![ping.name.clone(), ping.state.clone(), reply, targets.join(", ")]);
    }
    columns(&rows, out);
    out.push('\n');
}

fn facts(status: &Status, out: &mut String) {
    let receive: Vec<String> =
        status.xdp.iter().map(|(interface, mode)| format!("{interface} {mode}")).collect();
    let _ =
        writeln!(out, "Receive     {}", if receive.is_empty() { "-".to_owned() } else { receive.join(", ") });
    for interface in &status.interfaces {
        if interface.state != "up" {
            let _ = writeln!(out, "            {} is {}", interface.name, interface.state);
        }
        if interface.state != "gone" && interface.gate.as_deref() == Guard::Missing.label() {
            let _ = writeln!(out, "            {} carries no gate: nothing is served on it", interface.name);
        }
    }
    let gate = if status.gate == "kernel" { "kernel" } else { "userspace only" };
    let _ = writeln!(out, "Gate        {gate}");
    for GateDrops { address, ingress, egress } in &status.gate_drops {
        let _ = writeln!(out, "            {ingress} packets to {address} and {egress} from it were dropped");
    }
    for line in &status.lines {
        let _ = writeln!(out, "Line        {} of {} {}", line.device, line.link, line.state);
    }
    let scheduling = match status.realtime.scheduling.as_str() {
        "deadline" => "SCHED_DEADLINE",
        "fifo" => "SCHED_FIFO",
        _ => "not realtime",
    };
    let memory = if status.realtime.memory_locked { "memory locked" } else { "memory not locked" };
    let late = status.realtime.lateness_max_us;
    let _ = writeln!(out, "Scheduling  {scheduling}, {memory}, latest wake-up {late} us behind its timer");
    for (label, count) in &status.rejected {
        let text =
            Reject::ALL.iter().find(|reason| reason.label() == label).map_or("", |reason| reason.text());
        let _ = writeln!(out, "Rejected    {count} x {label}: {text}");
    }
}

fn link(link: &Link) -> String {
    let mut text = format!("{} {}", link.link, link.state);
    if link.loss > 0.0 {
        let _ = write!(text, " {:.1} % lost", link.loss * 100.0);
    }
    if let Some(rtt) = link.rtt_us {
        let _ = write!(text, " {rtt} us");
    }
    text
}

fn ago(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms ago"),
        10_000..600_000 => format!("{} s ago", ms / 1_000),
        _ => format!("{} min ago", ms / 60_000),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Columns as wide as their widest cell.
fn columns(rows: &[Vec<String>], out: &mut String) {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}
