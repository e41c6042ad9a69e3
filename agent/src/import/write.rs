//! Writes `xbeat.toml`: every value that heartbeat's files have, and a mark where they have none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use agent_common::ids::{MAX_GROUPS, MAX_LINKS, MAX_NODES};

use super::hacf::{HaCf, Medium};
use super::haresources::Line;
use super::{FILL_IN, ImportError, Remarks};
use crate::config::show_duration;
use crate::settings::PINGS_MAX;

/// The configuration of `main`, which is the ha.cf of node `me` if that is known. `others`: those of other nodes, which name
/// their peers' addresses.
///
/// # Errors
/// There is more of something than xbeat has room for.
pub fn toml(
    main: &HaCf,
    me: Option<&str>,
    others: &[(String, HaCf)],
    lines: &[Line],
    remarks: &mut Remarks,
) -> Result<String, ImportError> {
    let file = remarks.file.clone();
    let bounded = |count: usize, most: usize, what: &'static str| {
        let file = file.clone();
        if count > most { Err(ImportError::TooMany { file, count, what, most }) } else { Ok(()) }
    };
    bounded(main.nodes.len(), MAX_NODES, "nodes")?;
    bounded(lines.len(), MAX_GROUPS, "groups")?;
    bounded(main.pings.len(), PINGS_MAX, "ping groups")?;
    let mut text = head(main, remarks);
    quorum(main, &mut text, remarks);
    let sources = Sources { main, me, others };
    let links = sources.links(&mut text, remarks);
    bounded(links, MAX_LINKS, "links")?;
    groups(main, lines, &mut text, remarks);
    pings(main, &mut text, remarks);
    if let Some(device) = &main.watchdog {
        // Writing to a String does not fail, here and below.
        let _ = write!(text, "\n[watchdog]\ndevice = {}\n", quoted(device));
    }
    let generation = if main.generation_time { "generation = \"time\"\n" } else { "" };
    let realtime = if main.realtime { "" } else { "realtime = false\n" };
    if !generation.is_empty() || !realtime.is_empty() {
        let _ = write!(text, "\n[runtime]\n{realtime}{generation}");
    }
    Ok(text)
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn head(main: &HaCf, remarks: &mut Remarks) -> String {
    let mut text = format!(
        "# Converted from the files of a Linux-HA heartbeat cluster by `xbeat import`; the same on every node.\n\n\
         [cluster]\nname = {}\n",
        quoted(&main.cluster)
    );
    if main.autojoin != "none" {
        let _ = writeln!(text, "autojoin = {}", quoted(&main.autojoin));
        remarks
            .add(0, "who joins by autojoin has no vote and serves nothing: list every node that is to serve");
    }
    let _ = write!(
        text,
        "\n[timing]\nkeepalive = \"{}\"\ndeadtime = \"{}\"\n",
        show_duration(main.keepalive),
        show_duration(main.deadtime)
    );
    for (key, span) in [("warntime", main.warntime), ("initdead", main.initdead)] {
        if let Some(span) = span {
            let _ = writeln!(text, "{key} = \"{}\"", show_duration(span));
        }
    }
    for node in &main.nodes {
        let _ = write!(text, "\n[[node]]\nname = {}\n", quoted(node));
    }
    text
}

fn quorum(main: &HaCf, text: &mut String, remarks: &mut Remarks) {
    if main.nodes.len() != 2 {
        text.push_str("\n[quorum]\npolicy = \"majority\"\n");
        return;
    }
    // What heartbeat does without stonith.
    text.push_str("\n[quorum]\npolicy = \"two-node\"\ntie_break = \"always\"\n");
    remarks.add(
        0,
        "two nodes: tie_break = \"always\" does what heartbeat did without stonith: both serve while they do not hear each other; \
         a third [[node]] with witness = true and policy = \"majority\" excludes that",
    );
}

/// The ha.cf files that there are.
struct Sources<'a> {
    main: &'a HaCf,
    me: Option<&'a str>,
    others: &'a [(String, HaCf)],
}

impl Sources<'_> {
    /// Writes the links and says how many.
    fn links(&self, text: &mut String, remarks: &mut Remarks) -> usize {
        let mut count = 0;
        let mut done: Vec<&str> = Vec::new();
        let mut lines: Vec<&str> = Vec::new();
        for medium in &self.main.media {
            match medium {
                Medium::Ucast { device, .. } if done.contains(&device.as_str()) => continue,
                Medium::Ucast { device, port, .. } => {
                    done.push(device);
                    self.ucast(device, *port, text, remarks);
                }
                Medium::Bcast { device, port } => {
                    let _ = write!(text, "\n[[link]]\ntype = \"bcast\"\ninterface = {}\n", quoted(device));
                    port_line(*port, text);
                }
                Medium::Mcast { device, group, port, ttl } => {
                    let device = quoted(device);
                    let _ = write!(
                        text,
                        "\n[[link]]\ntype = \"mcast\"\ninterface = {device}\ngroup = \"{group}\"\nttl = {ttl}\n"
                    );
                    port_line(*port, text);
                }
                Medium::Serial { device } => {
                    lines.push(device);
                    continue;
                }
            }
            count += 1;
        }
        count += self.serial(&lines, text, remarks);
        if count == 0 {
            remarks.add(0, "there is no way for heartbeats: add a [[link]]");
        }
        count
    }

    /// Of two nodes, each line is a link; of more, all lines together are one, in a chain or a ring.
    fn serial(&self, lines: &[&str], text: &mut String, remarks: &mut Remarks) -> usize {
        let mut link = |devices: &str| {
            let _ = write!(
                text,
                "\n[[link]]\ntype = \"serial\"\ndevice = {devices}\nbaud = {}\n",
                self.main.baud
            );
            if let Some(hopfudge) = self.main.hopfudge {
                let _ = writeln!(text, "hopfudge = {hopfudge}");
            }
        };
        if lines.is_empty() {
            return 0;
        }
        remarks.add(0, "serial lines: the devices are those of this ha.cf; where another node has others, write `devices`");
        if self.main.nodes.len() == 2 {
            lines.iter().for_each(|line| link(&quoted(line)));
            return lines.len();
        }
        let all: Vec<String> = lines.iter().map(|line| quoted(line)).collect();
        link(&format!("[{}]", all.join(", ")));
        1
    }

    fn ucast(&self, device: &str, port: u16, text: &mut String, remarks: &mut Remarks) {
        let known = self.addresses(device, remarks);
        let mut missing = Vec::new();
        let mut peers = Vec::new();
        for node in &self.main.nodes {
            let address = match known.get(node) {
                Some(address) => format!("\"{address}\""),
                None => {
                    missing.push(node.as_str());
                    format!("\"{FILL_IN}: the address of {node} on {device}\"")
                }
            };
            peers.push(format!("{} = {address}", key(node)));
        }
        if !missing.is_empty() {
            remarks.add(
                0,
                format!(
                    "ucast on {device}: ha.cf does not say which address {} has; fill it in, or give the other nodes' ha.cf with \
                     --node NAME and --also NAME=FILE",
                    missing.join(", ")
                ),
            );
        }
        let _ = write!(
            text,
            "\n[[link]]\ntype = \"ucast\"\ninterface = {}\npeers = {{ {} }}\n",
            quoted(device),
            peers.join(", ")
        );
        port_line(port, text);
    }

    /// Whose address on the device is known: by the names of peers, by exclusion, or because a file lists one for each node.
    fn addresses(&self, device: &str, remarks: &mut Remarks) -> BTreeMap<String, IpAddr> {
        let nodes = &self.main.nodes;
        let mut known: BTreeMap<String, IpAddr> = BTreeMap::new();
        let files = std::iter::once((self.me, self.main))
            .chain(self.others.iter().map(|(name, config)| (Some(name.as_str()), config)));
        for (owner, config) in files {
            let mut peers: Vec<IpAddr> = Vec::new();
            for medium in &config.media {
                let Medium::Ucast { device: on, peer, .. } = medium else { continue };
                if on == device
                    && let Ok(address) = peer.parse()
                    && !peers.contains(&address)
                {
                    peers.push(address);
                }
            }
            let of_others: Vec<&String> = nodes.iter().filter(|node| Some(node.as_str()) != owner).collect();
            match (peers.as_slice(), of_others.as_slice()) {
                ([peer], [other]) => {
                    known.insert((*other).clone(), *peer);
                }
                (peers, _) if peers.len() == nodes.len() && peers.len() > 1 => {
                    remarks.add(
                        0,
                        format!("ucast on {device}: one address for each node is there; they were given out in the nodes' order: check it"),
                    );
                    known.extend(nodes.iter().cloned().zip(peers.iter().copied()));
                }
                (_, _) => {}
            }
        }
        known
    }
}

/// Names with points need quotes.
fn key(node: &str) -> String {
    let bare = node.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare { node.to_owned() } else { quoted(node) }
}

fn port_line(port: u16, text: &mut String) {
    if port != 694 {
        let _ = writeln!(text, "port = {port}");
    }
}

fn groups(main: &HaCf, lines: &[Line], text: &mut String, remarks: &mut Remarks) {
    for (place, line) in lines.iter().enumerate() {
        let earlier = lines.iter().take(place).filter(|earlier| earlier.node == line.node).count();
        let name = if earlier == 0 { line.node.clone() } else { format!("{}-{}", line.node, earlier + 1) };
        if !main.nodes.contains(&line.node) {
            remarks.add(
                0,
                format!(
                    "haresources names {}, which ha.cf does not list: correct `prefer` of its group",
                    line.node
                ),
            );
        }
        let others = main.nodes.iter().filter(|node| **node != line.node);
        let prefer: Vec<String> =
            std::iter::once(&line.node).chain(others).map(|node| quoted(node)).collect();
        let _ = write!(
            text,
            "\n[[group]]\nname = {}\nprefer = [{}]\nauto_failback = {}\n",
            quoted(&name),
            prefer.join(", "),
            main.auto_failback.unwrap_or(true)
        );
        for address in &line.addresses {
            let prefix = address.prefix.map_or_else(String::new, |prefix| format!("/{prefix}"));
            if address.prefix.is_none() {
                remarks.add(0, format!("{}: heartbeat took the prefix length from the route; here it is /32 or /128 until you add it", address.address));
            }
            let interface = address.interface.clone().unwrap_or_else(|| {
                remarks.add(
                    0,
                    format!("{}: heartbeat took the interface from the route; fill it in", address.address),
                );
                format!("{FILL_IN}: the interface")
            });
            let _ = write!(
                text,
                "[[group.resource]]\ntype = \"ip\"\naddress = \"{}{prefix}\"\ninterface = {}\n",
                address.address,
                quoted(&interface)
            );
        }
    }
}

fn pings(main: &HaCf, text: &mut String, remarks: &mut Remarks) {
    for (name, hosts) in &main.pings {
        let targets: Vec<String> = hosts
            .iter()
            .map(|host| match host.parse::<IpAddr>() {
                Ok(address) => format!("\"{address}\""),
                Err(_) => {
                    remarks.add(0, format!("ping {host}: write its address, a name is not looked up"));
                    format!("\"{FILL_IN}: the address of {host}\"")
                }
            })
            .collect();
        let deadtime = main.deadping.unwrap_or(main.deadtime);
        let usable = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
        let name: String = name.chars().map(usable).take(63).collect();
        let _ = write!(
            text,
            "\n[[ping]]\nname = {}\ntargets = [{}]\ndeadtime = \"{}\"\n",
            quoted(&name),
            targets.join(", "),
            show_duration(deadtime)
        );
    }
}
