//! `[[link]]` of type `serial`: which devices each node has on it, and how often a line can carry the heartbeats of all
//! who are on it. That interval is the link's own, by which it is judged.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use agent_common::maps::KeyState;
use agent_common::wire::{FRAME_MAX, encode};
use agent_common::{Ack, Beat, Claim, Echo, GroupId, KeyId, LinkId, NodeId, NodeSet};
use agent_core::config::Timing;

use super::cluster::Nodes;
use super::links::NOT_ON_LINK;
use super::report::Findings;
use super::section::{At, Section, advice, near};
use super::value::show_duration as show;
use crate::serial::LINES_MAX;
use crate::serial::framing::line_length;
use crate::serial::output::BITS_PER_BYTE;
use crate::settings::{LinkSettings, Medium, SerialLink};

/// Rates that every serial port of this century has.
const BAUDS: [u32; 7] = [9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800];
const BAUD: u32 = 19_200;
const HOPFUDGE: u8 = 1;

pub(super) fn serial(
    id: LinkId,
    section: &Section<'_>,
    nodes: &Nodes,
    keepalive: Duration,
    findings: &mut Findings<'_>,
) -> Option<LinkSettings> {
    let baud = baud(section, findings);
    let rtscts = section.boolean("rtscts", findings).is_some_and(|at| at.value);
    let hopfudge = section.integer("hopfudge", 0..=255, findings);
    let hopfudge = hopfudge.and_then(|at| u8::try_from(at.value).ok()).unwrap_or(HOPFUDGE);
    let devices = devices(section, nodes, findings)?;
    cables(&devices, section, findings);
    Some(LinkSettings {
        id,
        keepalive,
        medium: Medium::Serial(SerialLink { devices, baud, rtscts, hopfudge }),
    })
}

fn baud(section: &Section<'_>, findings: &mut Findings<'_>) -> u32 {
    let Some(written) = section.integer("baud", 1..=u64::from(u32::MAX), findings) else { return BAUD };
    let known = BAUDS.iter().copied().find(|baud| u64::from(*baud) == written.value);
    known.unwrap_or_else(|| {
        let rates: Vec<String> = BAUDS.iter().map(u32::to_string).collect();
        let message = format!("`baud` in [[link]] is {}", written.value);
        findings.error(written.span, message, format!("write one of {}", rates.join(", ")));
        BAUD
    })
}

/// By node id.
fn devices(section: &Section<'_>, nodes: &Nodes, findings: &mut Findings<'_>) -> Option<Vec<Vec<PathBuf>>> {
    if section.has("device") && section.has("devices") {
        findings.error(
            section.key_span("devices"),
            "a link has `device` or `devices`, not both",
            "write `device` where all nodes have the same, `devices` where they differ",
        );
        return None;
    }
    if !section.has("device") {
        let help =
            "add device = \"/dev/ttyS0\", or devices = { alpha = \"/dev/ttyS0\", beta = \"/dev/ttyUSB0\" }";
        section.demand("devices", "a link of type \"serial\" lacks `device`", help, findings);
        return each(section, nodes, findings);
    }
    let same = list(section, "device", findings)?;
    Some(vec![same; nodes.count()])
}

fn each(section: &Section<'_>, nodes: &Nodes, findings: &mut Findings<'_>) -> Option<Vec<Vec<PathBuf>>> {
    let map = section.map(
        "devices",
        "{ alpha = \"/dev/ttyS0\", beta = [\"/dev/ttyS0\", \"/dev/ttyS1\"] }",
        findings,
    )?;
    let names = nodes.names();
    let mut devices: Vec<Vec<PathBuf>> = vec![Vec::new(); nodes.count()];
    let mut misspelt: Vec<&str> = Vec::new();
    for name in map.keys() {
        let Some(node) = nodes.find(name.value) else {
            misspelt.extend(near(name.value, &names));
            if nodes.are_named() {
                let message = format!("`devices` names `{}`, which no [[node]] has as its name", name.value);
                findings.error(name.span, message, advice(name.value, &names));
            }
            continue;
        };
        if let (Some(list), Some(place)) = (list(&map, name.value, findings), devices.get_mut(node.index())) {
            *place = list;
        }
    }
    let lacks = |name: &&&str| !name.is_empty() && !map.has(name) && !misspelt.contains(*name);
    for name in names.iter().filter(lacks) {
        findings.error(
            section.key_span("devices"),
            format!("`devices` lacks node `{name}`"),
            format!("add {name} = \"/dev/ttyS0\", or {name} = \"{NOT_ON_LINK}\" if it is not on this link"),
        );
    }
    Some(devices)
}

/// The devices of one node: a text or a list of texts, each an absolute path, none twice.
fn list(section: &Section<'_>, key: &str, findings: &mut Findings<'_>) -> Option<Vec<PathBuf>> {
    let written = section.texts(key, "\"/dev/ttyS0\"", findings)?;
    if let [At { value: NOT_ON_LINK, .. }] = written.value.as_slice() {
        return Some(Vec::new());
    }
    let mut devices: Vec<PathBuf> = Vec::new();
    for device in written.value {
        let path = PathBuf::from(device.value);
        if !path.is_absolute() {
            let message = format!("`{}` is not the absolute path of a device", device.value);
            findings.error(device.span, message, "write it as \"/dev/ttyS0\"; by-id links are fine");
        } else if devices.contains(&path) {
            let message = format!("{} is there twice", device.value);
            findings.error(device.span, message, "a line has a device of its own");
        } else {
            devices.push(path);
        }
    }
    if devices.len() > LINES_MAX {
        let message = format!("there are {} devices, and at most {LINES_MAX} are possible", devices.len());
        findings.error(written.span, message, format!("leave at most {LINES_MAX}"));
        devices.truncate(LINES_MAX);
    }
    Some(devices)
}

/// A cable joins two lines: so many nodes need at least those of a chain.
fn cables(devices: &[Vec<PathBuf>], section: &Section<'_>, findings: &mut Findings<'_>) {
    if !findings.is_sound() {
        return;
    }
    let span = section.key_span(if section.has("device") { "device" } else { "devices" });
    let on_link = devices.iter().filter(|lines| !lines.is_empty()).count();
    let lines: usize = devices.iter().map(Vec::len).sum();
    if on_link < 2 {
        findings.error(span, "this link joins nobody", "give two nodes a device, or remove the link");
    } else if lines < 2 * (on_link - 1) {
        let message = format!(
            "{on_link} nodes with {lines} lines cannot be joined: a cable joins two, and a chain of {on_link} takes {}",
            2 * (on_link - 1)
        );
        let help = "give each node two devices, as in device = [\"/dev/ttyS0\", \"/dev/ttyS1\"], for a ring; or one link for each cable";
        findings.error(span, message, help);
    }
}

/// Two links must not share a device, nor may a node have more lines than there can be.
pub(super) fn same_as_earlier(
    earlier: &[At<LinkSettings>],
    link: &SerialLink,
    span: &Range<usize>,
    findings: &mut Findings<'_>,
) {
    let others = || earlier.iter().filter_map(|link| Some((link.value.id, link.value.serial()?)));
    for (id, other) in others() {
        let both = link.devices.iter().zip(&other.devices);
        let mut shared = both.flat_map(|(here, there)| here.iter().filter(|device| there.contains(device)));
        if let Some(device) = shared.next() {
            let message = format!("this link and link {} both use {}", id.raw() + 1, device.display());
            findings.error(span.clone(), message, "give it another device");
        }
    }
    for (place, here) in link.devices.iter().enumerate() {
        let before = others().filter_map(|(_, other)| other.devices.get(place));
        let lines = here.len() + before.map(Vec::len).sum::<usize>();
        if lines > LINES_MAX && here.len() <= LINES_MAX {
            let message =
                format!("node {} has {lines} serial lines, and at most {LINES_MAX} are possible", place + 1);
            findings.error(span.clone(), message, "remove one");
        }
    }
}

/// What the intervals of the lines follow from.
#[derive(Clone, Copy)]
pub(super) struct Load {
    /// All nodes.
    pub(super) nodes: usize,
    /// All groups.
    pub(super) groups: usize,
    /// The node's intervals.
    pub(super) timing: Timing,
}

/// Gives each serial link the interval that its lines can carry, and says what follows from that.
pub(super) fn stretch(
    links: &mut [At<LinkSettings>],
    nodes: &Nodes,
    load: Load,
    findings: &mut Findings<'_>,
) {
    for link in links.iter_mut() {
        let Medium::Serial(serial) = &link.value.medium else { continue };
        link.value.keepalive = interval(load, serial, serial.baud);
        let Timing { deadtime, .. } = load.timing;
        if link.value.keepalive * 2 > deadtime {
            let message = format!(
                "at {} baud this link carries a heartbeat every {}: with a deadtime of {} it alone cannot keep a node alive",
                serial.baud,
                show(link.value.keepalive),
                show(deadtime)
            );
            let faster = BAUDS.iter().find(|baud| interval(load, serial, **baud) * 3 <= deadtime);
            let faster =
                faster.map_or_else(String::new, |baud| format!(", or baud = {baud} where the ports can"));
            let help = format!("write deadtime = \"{}\" or more{faster}", show(link.value.keepalive * 3));
            findings.warn(link.span.clone(), message, help);
        }
    }
    if findings.is_sound() {
        pairs(links, nodes, load.timing.deadtime, findings);
    }
}

/// Two nodes that only slow lines join would take each other for dead.
fn pairs(links: &[At<LinkSettings>], nodes: &Nodes, deadtime: Duration, findings: &mut Findings<'_>) {
    let named: Vec<_> = nodes.ids().zip(nodes.names()).collect();
    for (place, (one, name)) in named.iter().enumerate() {
        for (two, other) in named.iter().skip(place + 1) {
            let shared = links.iter().filter(|link| link.value.reaches(*one) && link.value.reaches(*two));
            let Some(fastest) = shared.min_by_key(|link| link.value.keepalive) else { continue };
            let every = fastest.value.keepalive;
            if fastest.value.serial().is_some() && deadtime <= every * 2 {
                let message = format!(
                    "`{name}` and `{other}` hear each other every {} at best, by this link: with a deadtime of {} one lost heartbeat would be a death",
                    show(every),
                    show(deadtime)
                );
                let help =
                    format!("write deadtime = \"{}\" or more, or give them a faster link", show(every * 3));
                findings.error(fastest.span.clone(), message, help);
                return;
            }
        }
    }
}

/// How often each node on the link can send on it: the heartbeats of all but the node at its end pass a line in one
/// direction, and a quarter of it stays free. Never more often than the node sends at all; whole milliseconds.
fn interval(load: Load, link: &SerialLink, baud: u32) -> Duration {
    let on_link = link.devices.iter().filter(|lines| !lines.is_empty()).count();
    let origins = on_link.saturating_sub(1).max(1) as u64;
    let bits = line_length(largest(load)) as u64 * BITS_PER_BYTE;
    // bits x origins x 5 / 4 / baud, in milliseconds.
    let ms = (bits * origins * 5 * 1_000).div_ceil(4 * u64::from(baud));
    Duration::from_millis(ms).max(load.timing.keepalive)
}

/// Bytes of the largest heartbeat that this cluster sends every day: it acknowledges all, says whom it holds dead, has a
/// row for each group, and what it measured of a link.
fn largest(load: Load) -> usize {
    let (Some(me), Some(link), Some(key)) = (NodeId::new(0), LinkId::new(0), KeyId::new(1)) else {
        return FRAME_MAX;
    };
    let mut beat = Beat { has_claims: load.groups > 0, view: Some(NodeSet::EMPTY), ..Beat::empty(me) };
    let peers = || NodeId::all().take(load.nodes).filter(|node| *node != me);
    for peer in peers() {
        beat.acked.insert(peer);
        if let Some(ack) = beat.acks.get_mut(peer.index()) {
            *ack = Ack { incarnation: 1, seq: 1, table: 1 };
        }
    }
    for (claim, _) in beat.claims.iter_mut().zip(GroupId::all()).take(load.groups) {
        *claim = Claim { epoch: 1, candidate: 0, flags: 0 };
    }
    beat.echo = Some(Echo { link, nodes: beat.acked, delay_ns: [0; agent_common::ids::MAX_NODES] });
    encode(&beat, link, 1, 1, key, &KeyState::default(), &mut [0; FRAME_MAX])
}

#[cfg(test)]
#[path = "serial_tests.rs"]
mod tests;
