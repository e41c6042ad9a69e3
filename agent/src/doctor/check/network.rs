//! The interfaces of the configuration and who else has a hand in them: foreign programs, network managers, packet filters.

use crate::doctor::Finding;
use crate::doctor::facts::{Agent, Configuration, Device, Facts, Found, PingSocket};
use crate::settings::XdpSetting;

/// Drivers that run XDP programs themselves. Others get the generic kind, which costs a copy.
const NATIVE: [&str; 30] = [
    "veth",
    "virtio_net",
    "tun",
    "bonding",
    "ixgbe",
    "ixgbevf",
    "i40e",
    "iavf",
    "ice",
    "igb",
    "igc",
    "mlx4_en",
    "mlx5_core",
    "bnxt_en",
    "ena",
    "gve",
    "hv_netvsc",
    "mana",
    "nfp",
    "qede",
    "sfc",
    "vmxnet3",
    "atlantic",
    "mvneta",
    "mvpp2",
    "stmmac",
    "dpaa2-eth",
    "fsl_enetc",
    "nicvf",
    "xen_netfront",
];
/// Drivers that take the link down for a moment when a program is attached.
const DISTURBED: [&str; 9] =
    ["ixgbe", "i40e", "ice", "igb", "igc", "bnxt_en", "mlx4_en", "mlx5_core", "qede"];
/// Largest packet of a buffer of one page, which native XDP needs with most drivers.
const MTU_NATIVE: u32 = 3498;
/// The largest heartbeat with its headers: IPv4 20, IPv6 40, UDP 8.
const HEARTBEAT_MAX: u32 = 1415 + 8;
/// What libxdp puts on an interface for several programs.
const DISPATCHER: &str = "xdp_dispatcher";

pub(in crate::doctor) fn interfaces(facts: &Facts, out: &mut Vec<Finding>) {
    for device in &facts.devices {
        let name = &device.name;
        let Some(found) = &device.found else {
            out.push(Finding::fail(
                "interface",
                format!("{name} is not there"),
                "correct `interface` in the configuration, or bring it up; the agent takes it when it appears",
            ));
            continue;
        };
        presence(device, found, out);
        attachment(&facts.configuration, &facts.agent, device, found, out);
        size(device, found, out);
        neighbours(device, found, out);
    }
}

fn presence(device: &Device, found: &Found, out: &mut Vec<Finding>) {
    let name = &device.name;
    out.push(if !found.up {
        Finding::fail("interface", format!("{name} is down"), format!("ip link set {name} up"))
    } else if !found.carrier {
        Finding::fail("interface", format!("{name} has no carrier"), "look at the cable and the switch")
    } else if device.missing.is_empty() {
        let kind = found.kind.as_deref().or(found.driver.as_deref()).unwrap_or("unknown driver");
        Finding::ok("interface", format!("{name} is up ({kind}, MTU {})", found.mtu))
    } else {
        let missing: Vec<String> = device.missing.iter().map(ToString::to_string).collect();
        Finding::fail(
            "interface",
            format!("{name} does not have {}, this node's address in `peers`", missing.join(", ")),
            "add the address, or correct `peers`; nothing is heard on the link until then",
        )
    });
    if found.has_master {
        out.push(Finding::warn(
            "interface",
            format!("{name} belongs to a bridge or bond, which takes its packets"),
            "name the bridge or bond itself as the `interface`",
        ));
    }
}

/// How heartbeats would be received, from what is known without attaching anything.
fn expected(setting: XdpSetting, found: &Found) -> (&'static str, &'static str) {
    let driver = found.kind.as_deref().filter(|kind| *kind == "veth").or(found.driver.as_deref());
    let native = driver.is_some_and(|driver| NATIVE.contains(&driver)) && found.mtu <= MTU_NATIVE;
    match setting {
        XdpSetting::Off => ("a socket", "as configured"),
        XdpSetting::Tcx => ("a classifier", "as configured"),
        XdpSetting::Generic => ("generic XDP", "as configured"),
        XdpSetting::Native if native => ("native XDP", "as configured"),
        XdpSetting::Native => ("a socket", "the driver is not known to run XDP programs"),
        XdpSetting::Auto if native => ("native XDP", "its driver runs XDP programs"),
        XdpSetting::Auto => {
            ("generic XDP", "its driver is not known to run XDP programs, or its MTU is too large for them")
        }
    }
}

fn attachment(
    configuration: &Configuration,
    agent: &Agent,
    device: &Device,
    found: &Found,
    out: &mut Vec<Finding>,
) {
    let name = &device.name;
    let mode = match agent {
        Agent::Running { modes, .. } => modes.get(name),
        Agent::NotRunning | Agent::Denied => None,
    };
    if let Some(program) = found.xdp.as_ref().filter(|program| !program.ours) {
        let what = if program.name == DISPATCHER {
            format!("{name} has libxdp's dispatcher, with programs of others")
        } else {
            format!("{name} has an XDP program of somebody else: {}", program.name)
        };
        let how = mode.map_or_else(String::new, |mode| format!("; the agent receives by {mode}"));
        let advice = "it is left alone, and a classifier or a socket is used; to have XDP here, move that program to another interface";
        out.push(Finding::warn("xdp", what + &how, advice));
        return;
    }
    if !found.foreign_tcx.is_empty() {
        let what = format!("{name} has classifiers of others on TCX: {}", found.foreign_tcx.join(", "));
        out.push(Finding::ok("xdp", format!("{what}; they stay where they are")));
    }
    if let Some(mode) = mode {
        out.push(match mode.as_str() {
            "socket" if configuration.xdp != Some(XdpSetting::Off) => Finding::warn(
                "xdp",
                format!("{name}: the agent receives through a socket"),
                "its log says at the start why no program could be attached",
            ),
            mode => Finding::ok("xdp", format!("{name}: the agent receives by {mode}")),
        });
        return;
    }
    let Some(setting) = configuration.xdp else { return };
    let (how, why) = expected(setting, found);
    let known = found.driver.as_deref().is_some_and(|driver| DISTURBED.contains(&driver));
    out.push(if known && how == "native XDP" {
        Finding::warn(
            "xdp",
            format!("{name}: native XDP, as its driver runs XDP programs; attaching takes the link down for a moment"),
            "start the agent before the node serves; it never detaches on a restart. Or write xdp = \"generic\" in [runtime]",
        )
    } else {
        Finding::ok("xdp", format!("{name}: {how} is expected ({why}); nothing was attached to try it"))
    });
}

fn size(device: &Device, found: &Found, out: &mut Vec<Finding>) {
    let needed = HEARTBEAT_MAX + if device.ipv6 { 40 } else { 20 };
    if device.carries && found.mtu < needed {
        out.push(Finding::warn(
            "mtu",
            format!("{}: the largest heartbeats have {needed} bytes, and its MTU is {}", device.name, found.mtu),
            "raise the MTU; heartbeats of many nodes or groups would be fragmented, which XDP leaves to the socket",
        ));
    } else if found.mtu > MTU_NATIVE {
        out.push(Finding::warn(
            "mtu",
            format!(
                "{}: most drivers refuse native XDP above an MTU of {MTU_NATIVE}, and this is {}",
                device.name, found.mtu
            ),
            "nothing, if generic XDP will do; or give heartbeats an interface with an MTU of 1500",
        ));
    } else {
        out.push(Finding::ok("mtu", format!("{}: heartbeats of every size fit", device.name)));
    }
}

/// What other hosts make of addresses that move.
fn neighbours(device: &Device, found: &Found, out: &mut Vec<Finding>) {
    if !device.serves {
        return;
    }
    let name = &device.name;
    if found.arp_ignore == Some(0) {
        out.push(Finding::warn(
            "arp",
            format!("{name}: this host answers ARP requests for addresses of its other interfaces too (arp_ignore 0)"),
            format!("where two interfaces share a network: sysctl -w net.ipv4.conf.{name}.arp_ignore=1, and arp_announce=2"),
        ));
    } else if found.arp_ignore.is_some() {
        out.push(Finding::ok("arp", format!("{name}: ARP is answered for its own addresses only")));
    }
    if found.rp_filter == Some(1) && device.carries {
        out.push(Finding::warn(
            "rp_filter",
            format!("{name}: packets that would be answered on another interface are dropped (rp_filter 1)"),
            format!("where links share a network: sysctl -w net.ipv4.conf.{name}.rp_filter=2; XDP comes before this filter"),
        ));
    }
}

pub(in crate::doctor) fn managers(facts: &Facts, out: &mut Vec<Finding>) {
    for device in facts.devices.iter().filter(|device| device.serves) {
        let (name, Some(found)) = (&device.name, &device.found) else { continue };
        if let Some(networkd) = &found.networkd {
            let keeps = networkd
                .keep
                .as_deref()
                .is_some_and(|keep| keep == "yes" || keep == "true" || keep == "static");
            out.push(if keeps {
                Finding::ok("networkd", format!("{name}: networkd keeps addresses that others added"))
            } else {
                Finding::warn(
                    "networkd",
                    format!("{name}: networkd ({}) may delete service addresses when it is restarted or configures the interface anew", networkd.file),
                    "write KeepConfiguration=static under [Network] in that file (or in a drop-in), and ManageForeignRoutes=no in networkd.conf; \
                     the agent puts back what is deleted",
                )
            });
        }
        match found.network_manager {
            Some(true) => out.push(Finding::warn(
                "networkmanager",
                format!("{name}: NetworkManager manages it, and deletes service addresses when it activates a connection anew"),
                format!("nmcli device set {name} managed no, or list it under unmanaged-devices; the agent puts back what is deleted"),
            )),
            Some(false) => out.push(Finding::ok("networkmanager", format!("{name}: NetworkManager leaves it alone"))),
            None => {}
        }
    }
}

pub(in crate::doctor) fn firewall(facts: &Facts, out: &mut Vec<Finding>) {
    let firewall = &facts.firewall;
    if let Some(why) = &firewall.unknown {
        out.push(Finding::ok("firewall", format!("the rules were not read: {why}")));
        return;
    }
    if firewall.filters.is_empty() {
        out.push(Finding::ok("firewall", "no rule drops incoming packets"));
        return;
    }
    let ports: Vec<String> = facts.configuration.ports.iter().map(|port| format!("UDP {port}")).collect();
    let (filters, ports) = (firewall.filters.join(", "), ports.join(", "));
    out.push(if firewall.names_ports {
        Finding::ok("firewall", format!("{filters}: incoming packets are filtered, and {ports} is named"))
    } else {
        Finding::warn(
            "firewall",
            format!("{filters}: incoming packets are dropped, and no rule names {ports}"),
            format!("accept {ports} from the other nodes; XDP receives before the filter, a socket and a classifier's gate do not"),
        )
    });
}

pub(in crate::doctor) fn pings(facts: &Facts, out: &mut Vec<Finding>) {
    for (family, socket) in &facts.pings {
        out.push(match socket {
            PingSocket::Unprivileged => {
                Finding::ok("ping", format!("{family} targets are asked without privilege"))
            }
            PingSocket::Raw => {
                Finding::ok("ping", format!("{family} targets are asked through a raw socket"))
            }
            PingSocket::Refused(why) => Finding::fail(
                "ping",
                format!("{family} targets cannot be asked: {why}"),
                "give the agent CAP_NET_RAW, or its group a place in net.ipv4.ping_group_range",
            ),
        });
    }
}
