//! The interfaces of the configuration, who else works on them, and the packet filters.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use agent_core::Instant;
use aya::programs::{SchedClassifier, TcAttachType};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::link;
use super::{number, setting, text};
use crate::doctor::facts::{Device, Firewall, Found, Networkd, PingSocket, Program};
use crate::io::{foreign, interface};
use crate::ping::socket::{Family, Kind, Socket};
use crate::rt::clock;
use crate::settings::{Cast, NetworkLink, Settings};

/// Names of the agent's programs begin so.
const OURS: &str = "xbeat";
/// How long `nft` may take.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn devices(settings: &Settings) -> Vec<Device> {
    let mut devices: BTreeMap<&str, Device> = BTreeMap::new();
    for link in settings.links.iter().filter_map(|link| link.network()) {
        let device = devices.entry(&link.interface).or_default();
        device.carries = true;
        let own = own_address(link, settings);
        device.ipv6 |= own.is_some_and(|own| own.is_ipv6());
        device.missing.extend(own);
    }
    for address in settings.groups.iter().flat_map(|group| &group.addresses) {
        devices.entry(&address.interface).or_default().serves = true;
    }
    let mut found = Vec::new();
    for (name, mut device) in devices {
        device.name = name.to_owned();
        if let Ok(Some(interface)) = interface::look_up(name) {
            device.missing.retain(|address| !interface.has(*address));
            device.found = Some(self::found(name, interface.index));
        }
        found.push(device);
    }
    found
}

fn own_address(link: &NetworkLink, settings: &Settings) -> Option<IpAddr> {
    match &link.cast {
        Cast::Unicast { addresses } => *addresses.get(settings.me.index())?,
        Cast::Broadcast | Cast::Multicast { .. } => None,
    }
}

fn found(name: &str, index: u32) -> Found {
    let described = link::describe(index).unwrap_or_default();
    let conf = |key: &str| -> Option<u8> {
        // The stricter of the two counts (ip-sysctl).
        let of = |place: &str| number::<u8>(format!("/proc/sys/net/ipv4/conf/{place}/{key}"));
        of(name).max(of("all"))
    };
    Found {
        up: described.up,
        carrier: described.carrier,
        mtu: described.mtu,
        kind: described.kind,
        driver: link::driver(name),
        has_master: described.has_master,
        xdp: xdp(index),
        foreign_tcx: foreign_tcx(name),
        rp_filter: conf("rp_filter"),
        arp_ignore: conf("arp_ignore"),
        arp_announce: conf("arp_announce"),
        networkd: networkd(index),
        network_manager: network_manager(index),
    }
}

fn xdp(index: u32) -> Option<Program> {
    let program = foreign::program_on(index).ok()??;
    let ours = program.name.as_deref().is_some_and(|name| name.starts_with(OURS));
    Some(Program { name: program.name.unwrap_or_else(|| format!("id {}", program.id)), ours })
}

fn foreign_tcx(name: &str) -> Vec<String> {
    let mut foreign = Vec::new();
    for way in [TcAttachType::Ingress, TcAttachType::Egress] {
        // Before 6.6 there is none.
        let Ok((_, programs)) = SchedClassifier::query_tcx(name, way) else { continue };
        let names = programs.iter().map(|program| {
            program.name_as_str().map_or_else(|| format!("id {}", program.id()), str::to_owned)
        });
        foreign.extend(names.filter(|name| !name.starts_with(OURS)));
    }
    foreign
}

/// networkd writes down what it did with each interface.
fn networkd(index: u32) -> Option<Networkd> {
    let state = text(format!("/run/systemd/netif/links/{index}"))?;
    let value = |key: &str| super::last_value(&state, key);
    if value("ADMIN_STATE").as_deref() == Some("unmanaged") {
        return None;
    }
    let file = value("NETWORK_FILE")?;
    let keep = setting(Path::new(&file), "KeepConfiguration");
    Some(Networkd { file, keep })
}

fn network_manager(index: u32) -> Option<bool> {
    let state = text(format!("/run/NetworkManager/devices/{index}"))?;
    Some(super::last_value(&state, "managed").as_deref() == Some("true"))
}

pub(super) fn firewall(ports: &[u16]) -> Firewall {
    let mut firewall = Firewall { names_ports: true, ..Firewall::default() };
    match nft_rules() {
        Ok(rules) => judge_rules("nft", &rules, ports, &mut firewall),
        Err(why) => firewall.unknown = Some(why),
    }
    // Tables of the older interface exist once somebody used it.
    let older = text("/proc/net/ip_tables_names").unwrap_or_default();
    if older.lines().any(|table| table == "filter") {
        firewall.filters.push("iptables (legacy) table filter".to_owned());
        firewall.names_ports = false;
        firewall.unknown = None;
    }
    firewall
}

/// Whether a listing of rules drops incoming packets, and names the ports.
fn judge_rules(tool: &str, rules: &str, ports: &[u16], firewall: &mut Firewall) {
    let (mut table, mut at_input, mut drops) = (String::new(), false, Vec::new());
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches('{').trim().to_owned();
        }
        if line.starts_with("chain ") {
            at_input = false;
        }
        at_input |= line.contains("hook input") || line.contains("hook prerouting");
        let refuses = line.contains("policy drop") || line.ends_with("drop") || line.contains("reject");
        if at_input && refuses && !drops.contains(&table) {
            drops.push(table.clone());
        }
    }
    let named = |port: &u16| {
        let port = port.to_string();
        rules
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .any(|word| word == port || (word == "ha-cluster" && port == "694"))
    };
    firewall.names_ports &= ports.iter().all(named);
    firewall.filters.extend(drops.into_iter().map(|table| format!("{tool} table {table}")));
}

/// What `nft list ruleset` says. Without the tool nothing is known; without rules it says nothing.
fn nft_rules() -> Result<String, String> {
    let places = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].map(PathBuf::from);
    let tool = places.iter().find(|path| path.exists()).ok_or("there is no nft to ask")?;
    let mut child = Command::new(tool)
        .args(["-n", "list", "ruleset"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let listed = child.stdout.take().and_then(|stdout| read_within(stdout, clock::now().after(PATIENCE)));
    if listed.is_none() {
        // It may have ended just now.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match listed {
        Some(text) if status.success() => Ok(text),
        Some(_) => Err("nft may not list them as this user".to_owned()),
        None => Err("nft did not answer".to_owned()),
    }
}

/// All that a child writes until it closes its output, `None` if that takes too long or is too much.
fn read_within(mut output: ChildStdout, end: Instant) -> Option<String> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = PollTimeout::try_from(end.since(clock::now())).ok()?;
        if poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], left) != Ok(1) {
            return None;
        }
        match output.read(&mut part).ok()? {
            0 => return Some(String::from_utf8_lossy(&bytes).into_owned()),
            length => bytes.extend_from_slice(part.get(..length)?),
        }
        if bytes.len() as u64 > super::FILE_MAX {
            return None;
        }
    }
}

/// How the families of the targets can be asked. The sockets are closed again at once.
pub(super) fn pings(settings: &Settings) -> BTreeMap<&'static str, PingSocket> {
    let targets = settings.pings.iter().flat_map(|ping| &ping.targets);
    let mut sockets = BTreeMap::new();
    for target in targets {
        let family = Family::of(target.address);
        let label = match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        sockets.entry(label).or_insert_with(|| match Socket::open(family) {
            Ok(socket) => match socket.kind() {
                Kind::Unprivileged => PingSocket::Unprivileged,
                Kind::Raw => PingSocket::Raw,
            },
            Err(errno) => PingSocket::Refused(errno.to_string()),
        });
    }
    sockets
}

#[cfg(test)]
mod tests {
    use super::{Firewall, judge_rules};

    fn judged(rules: &str) -> Firewall {
        let mut firewall = Firewall { names_ports: true, ..Firewall::default() };
        judge_rules("nft", rules, &[694], &mut firewall);
        firewall
    }

    #[test]
    fn rules_that_drop_what_comes_in_are_found() {
        let firewall = judged(
            "table inet filter {\n chain input {\n  type filter hook input priority 0; policy drop;\n  tcp dport 22 accept\n }\n}\n",
        );
        assert_eq!(firewall.filters, ["nft table inet filter"]);
        assert!(!firewall.names_ports);
        let firewall = judged(
            "table inet f {\n chain i {\n  type filter hook input priority 0; policy accept;\n  udp dport 694 accept\n  counter drop\n }\n}\n",
        );
        assert_eq!(firewall.filters, ["nft table inet f"]);
        assert!(firewall.names_ports);
    }

    #[test]
    fn other_rules_do_not_matter() {
        let rules = "table ip nat {\n chain post {\n  type nat hook postrouting priority 100; policy accept;\n  masquerade\n }\n}\n\
                     table ip f {\n chain forward {\n  type filter hook forward priority 0; policy drop;\n }\n}\n";
        assert!(judged(rules).filters.is_empty());
        assert!(judged("").filters.is_empty());
    }
}
