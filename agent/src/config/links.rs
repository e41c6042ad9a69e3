//! `[[link]]`: the ways on which heartbeats travel. Every node is on at least one, and any two share one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::time::Duration;

use agent_common::LinkId;
use agent_common::ids::MAX_LINKS;

use super::cluster::Nodes;
use super::report::Findings;
use super::section::{At, Section, advice, near};
use super::{serial, value};
use crate::settings::{Cast, LinkSettings, Medium, NetworkLink};

/// `ha-cluster`, as IANA has it.
const PORT: u16 = 694;
/// How a node that is not on a link is written.
pub(super) const NOT_ON_LINK: &str = "none";
const KEYS: &[&str] = &[
    "type",
    "interface",
    "peers",
    "group",
    "ttl",
    "port",
    "device",
    "devices",
    "baud",
    "rtscts",
    "hopfudge",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ucast,
    Bcast,
    Mcast,
    Serial,
}

impl Kind {
    const ALL: [(&'static str, Self); 4] =
        [("ucast", Self::Ucast), ("bcast", Self::Bcast), ("mcast", Self::Mcast), ("serial", Self::Serial)];

    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Ucast => &["type", "interface", "port", "peers"],
            Self::Bcast => &["type", "interface", "port"],
            Self::Mcast => &["type", "interface", "port", "group", "ttl"],
            Self::Serial => &["type", "device", "devices", "baud", "rtscts", "hopfudge"],
        }
    }
}

/// `keepalive` is the node's.
pub(super) fn links(
    root: &Section<'_>,
    nodes: &Nodes,
    keepalive: Duration,
    findings: &mut Findings<'_>,
) -> Vec<At<LinkSettings>> {
    let sections = root.tables("link", "[[link]]", KEYS, MAX_LINKS, findings);
    root.demand("link", "there is no [[link]]", "add a [[link]] with type, interface and peers", findings);
    let mut links: Vec<At<LinkSettings>> = Vec::new();
    for (id, section) in LinkId::all().zip(&sections) {
        if let Some(link) = link(id, section, nodes, keepalive, findings) {
            same_as_earlier(&links, &link, section.span(), findings);
            links.push(At::new(link, section.span()));
        }
    }
    if links.len() == sections.len() {
        reachability(&links, nodes, findings);
    }
    links
}

fn link(
    id: LinkId,
    section: &Section<'_>,
    nodes: &Nodes,
    keepalive: Duration,
    findings: &mut Findings<'_>,
) -> Option<LinkSettings> {
    let help = "add type = \"ucast\", \"bcast\", \"mcast\" or \"serial\"";
    section.demand("type", "[[link]] lacks `type`", help, findings);
    let kind = section.choice("type", &Kind::ALL, findings)?;
    foreign_keys(section, kind.value, findings);
    if kind.value == Kind::Serial {
        return serial::serial(id, section, nodes, keepalive, findings);
    }
    let interface = section.required("interface", "eth0", findings);
    if let Some(At { value: text, span }) = &interface
        && let Err(error) = value::interface(text)
    {
        let message = format!("`interface` in [[link]] {error}");
        findings.error(span.clone(), message, "write a name that `ip link` shows");
    }
    let port = section.integer("port", 1..=65_535, findings);
    let port = port.and_then(|at| u16::try_from(at.value).ok()).unwrap_or(PORT);
    let cast = match kind.value {
        Kind::Ucast => Some(Cast::Unicast { addresses: peers(section, nodes, findings)? }),
        Kind::Bcast => Some(Cast::Broadcast),
        Kind::Mcast => multicast(section, findings),
        Kind::Serial => None,
    };
    let network = NetworkLink { interface: interface?.value.to_owned(), port, cast: cast? };
    Some(LinkSettings { id, keepalive, medium: Medium::Network(network) })
}

fn foreign_keys(section: &Section<'_>, kind: Kind, findings: &mut Findings<'_>) {
    let word = Kind::ALL.iter().find(|(_, other)| *other == kind).map_or("", |(word, _)| word);
    for key in section.keys() {
        if KEYS.contains(&key.value) && !kind.keys().contains(&key.value) {
            findings.error(
                key.span,
                format!("a link of type \"{word}\" has no `{}`", key.value),
                format!("remove it, or change `type`; \"{word}\" has {}", kind.keys().join(", ")),
            );
        }
    }
}

fn peers(section: &Section<'_>, nodes: &Nodes, findings: &mut Findings<'_>) -> Option<Vec<Option<IpAddr>>> {
    let example = "{ alpha = \"10.0.0.1\", beta = \"10.0.0.2\" }";
    let help = format!("add peers = {example} with the address of every node");
    section.demand("peers", "a link of type \"ucast\" lacks `peers`", help, findings);
    let map = section.map("peers", example, findings)?;
    let names = nodes.names();
    let mut addresses: Vec<Option<IpAddr>> = vec![None; nodes.count()];
    let mut first: Option<IpAddr> = None;
    let mut misspelt: Vec<&str> = Vec::new();
    for name in map.keys() {
        let Some(node) = nodes.find(name.value) else {
            misspelt.extend(near(name.value, &names));
            if !nodes.are_named() {
                continue;
            }
            let message = format!("`peers` names `{}`, which no [[node]] has as its name", name.value);
            findings.error(name.span, message, advice(name.value, &names));
            continue;
        };
        let Some(address) = peer(&map, name.value, findings) else { continue };
        if first.is_some_and(|first| first.is_ipv4() != address.value.is_ipv4()) {
            findings.error(
                address.span.clone(),
                "`peers` mixes IPv4 and IPv6",
                "write addresses of one family, and a second [[link]] for the other",
            );
        }
        first = first.or(Some(address.value));
        if addresses.contains(&Some(address.value)) {
            let message = format!("`peers` has {} twice", address.value);
            findings.error(address.span, message, "give each node its own address");
        }
        if let Some(place) = addresses.get_mut(node.index()) {
            *place = Some(address.value);
        }
    }
    let lacks = |name: &&&str| !name.is_empty() && !map.has(name) && !misspelt.contains(*name);
    for name in names.iter().filter(lacks) {
        findings.error(
            section.key_span("peers"),
            format!("`peers` lacks node `{name}`"),
            format!("add {name} = \"ADDRESS\", or {name} = \"{NOT_ON_LINK}\" if it is not on this network"),
        );
    }
    Some(addresses)
}

fn peer(map: &Section<'_>, name: &str, findings: &mut Findings<'_>) -> Option<At<IpAddr>> {
    let written = map.string(name, "10.0.0.1", findings)?;
    if written.value == NOT_ON_LINK {
        return None;
    }
    let Ok(address) = written.value.parse::<IpAddr>() else {
        let help = if written.value.contains('%') {
            "write the address without '%': the link's `interface` says where it is"
        } else if written.value.contains('/') {
            "write the address without a prefix length"
        } else {
            "write an IPv4 or IPv6 address; names are not looked up"
        };
        let message = format!("the address of `{name}`, \"{}\", is not an IP address", written.value);
        findings.error(written.span, message, help);
        return None;
    };
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || broadcast {
        let message = format!("{address} is not the address of one node");
        findings.error(
            written.span,
            message,
            "write the node's own address; type = \"mcast\" or \"bcast\" reach many",
        );
        return None;
    }
    if address.is_loopback() {
        let message = format!("{address} reaches only this host");
        findings.warn(written.span.clone(), message, "write an address of the network between the nodes");
    }
    Some(At::new(address, written.span))
}

fn multicast(section: &Section<'_>, findings: &mut Findings<'_>) -> Option<Cast> {
    let ttl = section.integer("ttl", 1..=255, findings);
    let ttl = ttl.and_then(|at| u8::try_from(at.value).ok()).unwrap_or(1);
    let written = section.required("group", "239.194.6.94", findings)?;
    let group = written.value.parse::<IpAddr>().ok().filter(IpAddr::is_multicast);
    let Some(group) = group else {
        let message = format!("`group` in [[link]], \"{}\", is not a multicast address", written.value);
        findings.error(written.span, message, "write one as 239.194.6.94 or ff02::6:94");
        return None;
    };
    let link_local = match group {
        IpAddr::V4(address) => address.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(address) => scope(address) <= 2,
    };
    if ttl > 1 && link_local {
        let message = format!("`ttl` is {ttl}, but {group} never leaves its network");
        findings.warn(section.key_span("ttl"), message, "write ttl = 1, or a group of a wider scope");
    }
    Some(Cast::Multicast { group, ttl })
}

/// Scope of an IPv6 multicast address (RFC 4291, section 2.7).
fn scope(address: Ipv6Addr) -> u8 {
    address.octets()[1] & 0x0f
}

/// Two links must differ in what their frames look like at the receiver.
fn same_as_earlier(
    earlier: &[At<LinkSettings>],
    link: &LinkSettings,
    span: Range<usize>,
    findings: &mut Findings<'_>,
) {
    let link = match &link.medium {
        Medium::Network(network) => network,
        Medium::Serial(serial) => return serial::same_as_earlier(earlier, serial, &span, findings),
    };
    for earlier in earlier {
        let Some(other) = earlier.value.network().filter(|other| other.port == link.port) else { continue };
        let same = match (&other.cast, &link.cast) {
            (Cast::Unicast { addresses: one }, Cast::Unicast { addresses: two }) => {
                one.iter().flatten().any(|address| two.contains(&Some(*address)))
            }
            (Cast::Broadcast, Cast::Broadcast) => other.interface == link.interface,
            (Cast::Multicast { group: one, .. }, Cast::Multicast { group: two, .. }) => {
                one == two && other.interface == link.interface
            }
            (Cast::Unicast { .. } | Cast::Broadcast | Cast::Multicast { .. }, _) => false,
        };
        if same {
            findings.error(
                span.clone(),
                format!("this link and link {} use the same addresses and port", earlier.value.id.raw() + 1),
                "give it another network, or another `port`",
            );
        }
    }
}

fn reachability(links: &[At<LinkSettings>], nodes: &Nodes, findings: &mut Findings<'_>) {
    // Where an address is wrong or lacking, that was said already.
    let Some(last) = links.last().filter(|_| findings.is_sound()) else { return };
    let named: Vec<_> = nodes.ids().zip(nodes.names()).collect();
    for (place, (one, name)) in named.iter().enumerate() {
        for (two, other) in named.iter().skip(place + 1) {
            if !links.iter().any(|link| link.value.reaches(*one) && link.value.reaches(*two)) {
                findings.error(
                    last.span.clone(),
                    format!("no [[link]] joins `{name}` and `{other}`"),
                    "any two nodes need a link that both are on",
                );
            }
        }
    }
}
