//! haresources: one group a line, of the node that it belongs to. Addresses become resources; what is run by a script is
//! remarked.

use std::net::{IpAddr, Ipv4Addr};

use super::Remarks;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The node to which it belongs.
    pub node: String,
    /// Its addresses, in order of start.
    pub addresses: Vec<Address>,
}

/// A service address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Prefix length, if said.
    pub prefix: Option<u8>,
    /// Interface, if said.
    pub interface: Option<String>,
}

impl Line {
    /// Reads the file's text.
    pub fn read_all(text: &str, remarks: &mut Remarks) -> Vec<Self> {
        let mut lines = Vec::new();
        let mut logical = String::new();
        let mut begun = 1;
        for (line, number) in text.lines().zip(1..) {
            let line = line.split(['#', '\r']).next().unwrap_or_default().trim_end();
            if logical.trim().is_empty() {
                begun = number;
            }
            if let Some(more) = line.strip_suffix('\\') {
                logical = format!("{logical}{more} ");
                continue;
            }
            lines.extend(Self::read(&format!("{logical}{line}"), begun, remarks));
            logical.clear();
        }
        lines.extend(Self::read(&logical, begun, remarks));
        lines
    }

    fn read(text: &str, number: usize, remarks: &mut Remarks) -> Option<Self> {
        let mut words = text.split_whitespace();
        let node = words.next()?.to_lowercase();
        let mut addresses = Vec::new();
        for resource in words {
            let (script, arguments) = resource.split_once("::").unwrap_or((resource, ""));
            let argument = arguments.split("::").next().unwrap_or_default();
            let said = match script {
                "IPaddr" | "IPaddr2" => argument,
                // The address itself may have '::'.
                "IPv6addr" => arguments,
                bare if is_address(bare) => resource,
                _ => {
                    remarks.add(number, advice(script, resource));
                    continue;
                }
            };
            match Address::read(said) {
                Some(address) => addresses.push(address),
                None => remarks.add(number, format!("`{resource}` has no address, and was not taken over")),
            }
        }
        if addresses.is_empty() {
            remarks.add(number, format!("a group of {node} without an address was not taken over"));
            return None;
        }
        Some(Self { node, addresses })
    }
}

/// Heartbeat's own test: it begins with a digit and has three points.
fn is_address(resource: &str) -> bool {
    let head = resource.split('/').next().unwrap_or_default();
    head.starts_with(|c: char| c.is_ascii_digit()) && head.matches('.').count() == 3
}

fn advice(script: &str, resource: &str) -> String {
    let what = match script {
        "IPsrcaddr" => "set the source address by a route on every node",
        "SendArp" => "xbeat announces its addresses itself",
        "MailTo" | "AudibleAlarm" | "WinPopup" => "alert on metrics or events (configs/alerts.yaml)",
        "Filesystem" | "LVM" | "Raid1" | "drbddisk" => {
            "shared storage must not move without fencing: xbeat moves addresses only"
        }
        _ => {
            "let systemd run it on every node, or follow `xbeat events --follow --json` and start it where the group is served"
        }
    };
    format!("`{resource}` is not an address: {what}")
}

impl Address {
    /// Reads `ip[/mask[/nic[:label][/broadcast]]]`.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let address: IpAddr = parts.next()?.parse().ok()?;
        let prefix = parts.next().and_then(|mask| prefix(mask, address));
        // A third part that begins with a digit is a broadcast address.
        let interface = parts.next().filter(|part| !part.starts_with(|c: char| c.is_ascii_digit()));
        let interface = interface.map(|nic| nic.split(':').next().unwrap_or(nic).to_owned());
        Some(Self { address, prefix, interface: interface.filter(|nic| !nic.is_empty()) })
    }
}

/// Of a number of bits, or of a mask as `255.255.255.0`.
fn prefix(mask: &str, address: IpAddr) -> Option<u8> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    if let Ok(bits) = mask.parse::<u8>() {
        return (1..=most).contains(&bits).then_some(bits);
    }
    let mask = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    let ones = mask.leading_ones();
    (address.is_ipv4() && ones > 0 && ones == mask.count_ones()).then(|| u8::try_from(ones).ok()).flatten()
}
