//! `[[group]]` and its resources: addresses that move together, and the nodes that they may move to.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use agent_common::NodeId;
use agent_common::ids::MAX_GROUPS;

use super::cluster::Nodes;
use super::report::Findings;
use super::section::{At, Section, advice};
use super::value;
use crate::settings::{AddressSettings, Cast, GroupSettings, LinkSettings};

/// Most resources of one group.
const RESOURCES_MAX: usize = 64;

/// What was read so far, for what must be unique over all groups.
struct Earlier<'l> {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    links: &'l [At<LinkSettings>],
}

pub(super) fn groups(
    root: &Section<'_>,
    nodes: &Nodes,
    links: &[At<LinkSettings>],
    findings: &mut Findings<'_>,
) -> Vec<GroupSettings> {
    let keys = ["name", "prefer", "auto_failback", "resource"];
    let sections = root.tables("group", "[[group]]", &keys, MAX_GROUPS, findings);
    if sections.is_empty() && findings.is_sound() {
        findings.warn(
            0..0,
            "there is no [[group]]: the nodes watch each other and serve nothing",
            "add a [[group]]",
        );
    }
    let mut earlier = Earlier { names: Vec::new(), addresses: Vec::new(), links };
    sections.iter().filter_map(|section| group(section, nodes, &mut earlier, findings)).collect()
}

fn group(
    section: &Section<'_>,
    nodes: &Nodes,
    earlier: &mut Earlier<'_>,
    findings: &mut Findings<'_>,
) -> Option<GroupSettings> {
    let name = section.required("name", "web", findings);
    if let Some(name) = &name {
        if let Err(error) = value::name(name.value) {
            let message = format!("`name` in [[group]] {error}");
            findings.error(name.span.clone(), message, "write a short word");
        }
        if earlier.names.iter().any(|other| other == name.value) {
            let message = format!("group `{}` is there twice", name.value);
            findings.error(name.span.clone(), message, "give each group its own name");
        }
        earlier.names.push(name.value.to_owned());
    }
    let prefer = prefer(section, nodes, findings);
    let auto_failback = section.boolean("auto_failback", findings).is_some_and(|at| at.value);
    let keys = ["type", "address", "interface"];
    let resources = section.tables("resource", "[[group.resource]]", &keys, RESOURCES_MAX, findings);
    if resources.is_empty() && !section.has("resource") {
        findings.warn(
            section.span(),
            "the group has no resource: it has an owner, and nothing is served",
            "add a [[group.resource]] with type = \"ip\", address and interface",
        );
    }
    let addresses = resources.iter().filter_map(|resource| address(resource, earlier, findings)).collect();
    Some(GroupSettings { name: name?.value.to_owned(), prefer, auto_failback, addresses })
}

fn prefer(section: &Section<'_>, nodes: &Nodes, findings: &mut Findings<'_>) -> Vec<NodeId> {
    let owners = nodes.owners();
    let names = nodes.names();
    let owner_names: Vec<&str> = owners.iter().filter_map(|node| names.get(node.index()).copied()).collect();
    let example = format!("{owner_names:?}");
    let Some(written) = section.strings("prefer", &example, findings) else {
        if owners.is_empty() && nodes.count() > 0 && !section.has("prefer") {
            let help = "leave out `witness` at a node that can serve";
            findings.error(section.span(), "every node is a witness: none can own the group", help);
        }
        return owners;
    };
    if written.value.is_empty() {
        findings.error(
            written.span,
            "`prefer` is empty: no node may own the group",
            format!("write prefer = {example}, or leave it out for all nodes in their order"),
        );
    }
    let mut prefer = Vec::new();
    for name in written.value {
        let Some(node) = nodes.find(name.value) else {
            if nodes.are_named() {
                let message = format!("`prefer` names `{}`, which no [[node]] has as its name", name.value);
                findings.error(name.span, message, advice(name.value, &owner_names));
            }
            continue;
        };
        if nodes.is_witness(node) {
            let message = format!("`prefer` names `{}`, a witness, which never serves", name.value);
            findings.error(name.span, message, "remove it here, or `witness` at its [[node]]");
        } else if prefer.contains(&node) {
            let message = format!("`prefer` names `{}` twice", name.value);
            findings.error(name.span, message, "leave it once");
        } else {
            prefer.push(node);
        }
    }
    prefer
}

fn address(
    section: &Section<'_>,
    earlier: &mut Earlier<'_>,
    findings: &mut Findings<'_>,
) -> Option<AddressSettings> {
    if section.has("type") {
        section.choice("type", &[("ip", ())], findings)?;
    }
    let interface = section.required("interface", "eth0", findings);
    if let Some(At { value: text, span }) = &interface
        && let Err(error) = value::interface(text)
    {
        let message = format!("`interface` in [[group.resource]] {error}");
        findings.error(span.clone(), message, "write a name that `ip link` shows");
    }
    let written = section.required("address", "10.0.0.100/24", findings)?;
    let (address, prefix) = match value::prefixed(written.value) {
        Ok(read) => read,
        Err(error) => {
            let message = format!("`address` in [[group.resource]]: \"{}\" {error}", written.value);
            findings.error(
                written.span,
                message,
                "write an address as \"10.0.0.100/24\" or \"fd00::100/64\"",
            );
            return None;
        }
    };
    usable(address, written.span, earlier, findings);
    earlier.addresses.push(address);
    Some(AddressSettings { address, prefix, interface: interface?.value.to_owned() })
}

fn usable(address: IpAddr, span: Range<usize>, earlier: &Earlier<'_>, findings: &mut Findings<'_>) {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let peer = |link: &At<LinkSettings>| match link.value.network().map(|network| &network.cast) {
        Some(Cast::Unicast { addresses }) => addresses.contains(&Some(address)),
        Some(Cast::Broadcast | Cast::Multicast { .. }) | None => false,
    };
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast {
        let message = format!("{address} cannot be the address of a service");
        findings.error(span, message, "write a unicast address of the clients' network");
    } else if earlier.addresses.contains(&address) {
        let message = format!("address {address} is there twice");
        findings.error(span, message, "an address belongs to one group only");
    } else if earlier.links.iter().any(peer) {
        let message = format!("{address} is a node's own address in `peers`: it cannot move");
        findings.error(span, message, "write an address that no node has for itself");
    }
}
