//! ha.cf by its own rules: `#` ends a line anywhere, blanks and commas part values, and most directives take one value at a
//! time. Each value is kept with its line.

use std::net::IpAddr;
use std::time::Duration;

use super::directive::{Advice, advice, boolean, time};
use super::{ImportError, Remarks};

/// Between heartbeats unless ha.cf says otherwise.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// Silence that is death unless ha.cf says otherwise.
const DEADTIME: Duration = Duration::from_secs(30);
/// `ha-cluster`.
const PORT: u16 = 694;
/// Directives that get the rest of their line.
const WHOLE_LINE: [&str; 12] = [
    "apiauth",
    "respawn",
    "failfast",
    "stonith",
    "stonith_host",
    "ucast",
    "ucast6",
    "mcast",
    "mcast6",
    "ping_group",
    "tipc",
    "rds",
];

/// What ha.cf says that has an equivalent.
#[derive(Clone, Debug, PartialEq)]
pub struct HaCf {
    /// The cluster's name.
    pub cluster: String,
    /// In lower case, in their order.
    pub nodes: Vec<String>,
    /// Between heartbeats.
    pub keepalive: Duration,
    /// Silence that is death.
    pub deadtime: Duration,
    /// Silence that is late, if said.
    pub warntime: Option<Duration>,
    /// The first deadtime, if said.
    pub initdead: Option<Duration>,
    /// Silence of a ping node that is death, if said.
    pub deadping: Option<Duration>,
    /// The ways of heartbeats, in their order.
    pub media: Vec<Medium>,
    /// Ping groups: name and hosts; a `ping` is a group of one.
    pub pings: Vec<(String, Vec<String>)>,
    /// Bits a second of serial lines.
    pub baud: u32,
    /// More hops than nodes, on serial lines.
    pub hopfudge: Option<u8>,
    /// `on` and `off`; `None` is legacy.
    pub auto_failback: Option<bool>,
    /// The watchdog device.
    pub watchdog: Option<String>,
    /// `none`, `other` or `any`.
    pub autojoin: String,
    /// Whether realtime scheduling is asked for.
    pub realtime: bool,
    /// Whether generations come from the time.
    pub generation_time: bool,
    port: u16,
}

/// A way of heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// To one peer.
    Ucast {
        /// Interface.
        device: String,
        /// The peer: an address or a name.
        peer: String,
        /// UDP port.
        port: u16,
    },
    /// To the network.
    Bcast {
        /// Interface.
        device: String,
        /// UDP port.
        port: u16,
    },
    /// To a group.
    Mcast {
        /// Interface.
        device: String,
        /// The group's address.
        group: IpAddr,
        /// UDP port.
        port: u16,
        /// Hop limit.
        ttl: u8,
    },
    /// A serial line.
    Serial {
        /// Its device.
        device: String,
    },
}

impl Default for HaCf {
    fn default() -> Self {
        Self {
            cluster: "linux-ha".to_owned(),
            nodes: Vec::new(),
            keepalive: KEEPALIVE,
            deadtime: DEADTIME,
            warntime: None,
            initdead: None,
            deadping: None,
            media: Vec::new(),
            pings: Vec::new(),
            baud: 19_200,
            hopfudge: None,
            auto_failback: None,
            watchdog: None,
            autojoin: "none".to_owned(),
            realtime: true,
            generation_time: false,
            port: PORT,
        }
    }
}

impl HaCf {
    /// Reads a file's text; what is not taken over is remarked.
    ///
    /// # Errors
    /// It is Pacemaker's cluster, or has no nodes.
    pub fn read(text: &str, remarks: &mut Remarks) -> Result<Self, ImportError> {
        let mut config = Self::default();
        for (line, number) in text.lines().zip(1..) {
            let line = line.split(['#', '\r']).next().unwrap_or_default().trim();
            let Some((directive, rest)) =
                line.split_once(char::is_whitespace).or((!line.is_empty()).then_some((line, "")))
            else {
                continue;
            };
            if WHOLE_LINE.contains(&directive) {
                config.whole(directive, rest, number, remarks);
                continue;
            }
            let mut values = rest.split([' ', '\t', ',']).filter(|value| !value.is_empty()).peekable();
            if values.peek().is_none() {
                remarks.add(number, format!("`{directive}` has no value, and was not taken over"));
            }
            for value in values {
                if matches!(directive, "crm" | "pacemaker") && boolean(value) != Some(false) {
                    let (file, directive) = (remarks.file.clone(), format!("{directive} {value}"));
                    return Err(ImportError::Pacemaker { file, line: number, directive });
                }
                config.value(directive, value, number, remarks);
            }
        }
        if config.nodes.is_empty() {
            return Err(ImportError::NoNode(remarks.file.clone()));
        }
        config.compare(remarks);
        Ok(config)
    }

    /// A directive that is called for each of its values.
    fn value(&mut self, directive: &str, value: &str, line: usize, remarks: &mut Remarks) {
        match directive {
            "cluster" => value.clone_into(&mut self.cluster),
            "node" => {
                let name = value.to_lowercase();
                if !self.nodes.contains(&name) {
                    self.nodes.push(name);
                }
            }
            "keepalive" | "deadtime" | "warntime" | "initdead" | "deadping" => {
                self.interval(directive, value, line, remarks);
            }
            "udpport" => match value.parse() {
                Ok(port) if port > 0 => {
                    if self
                        .media
                        .iter()
                        .any(|medium| matches!(medium, Medium::Ucast { .. } | Medium::Bcast { .. }))
                    {
                        remarks.add(line, "`udpport` stands behind the first bcast or ucast, for which it came too late; so it is here");
                    }
                    self.port = port;
                }
                Ok(_) | Err(_) => not_taken("udpport", value, "a port from 1 to 65535", line, remarks),
            },
            "baud" => match value.parse() {
                Ok(baud) => self.baud = baud,
                Err(_) => not_taken("baud", value, "a rate as 19200", line, remarks),
            },
            "hopfudge" => self.hopfudge = value.parse().ok(),
            "bcast" | "udp" => self.media.push(Medium::Bcast { device: value.to_owned(), port: self.port }),
            "serial" => self.media.push(Medium::Serial { device: value.to_owned() }),
            "ping" | "ping6" => self.pings.push((value.to_owned(), vec![value.to_owned()])),
            "auto_failback" => self.failback(value, line, remarks),
            "watchdog" => self.watchdog = Some(value.to_owned()),
            "autojoin" => match value.to_ascii_lowercase().as_str() {
                word @ ("none" | "other" | "any") => word.clone_into(&mut self.autojoin),
                _ => not_taken("autojoin", value, "none, other or any", line, remarks),
            },
            "realtime" => match boolean(value) {
                Some(realtime) => self.realtime = realtime,
                None => not_taken("realtime", value, "on or off", line, remarks),
            },
            "hbgenmethod" => self.generation_time = value == "time",
            "crm" | "pacemaker" => {}
            _ => unconverted(directive, value, line, remarks),
        }
    }

    /// A directive that gets the rest of its line.
    fn whole(&mut self, directive: &str, rest: &str, line: usize, remarks: &mut Remarks) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (directive, words.as_slice()) {
            ("ucast" | "ucast6", [device, peer]) => {
                let peer = peer.split('%').next().unwrap_or(peer).to_lowercase();
                self.media.push(Medium::Ucast { device: (*device).to_owned(), peer, port: self.port });
            }
            ("mcast" | "mcast6", [device, group, port, ttl, _loop]) => {
                match (group.parse(), port.parse(), ttl.parse::<u8>()) {
                    (Ok(group), Ok(port), Ok(ttl)) => self.media.push(Medium::Mcast {
                        device: (*device).to_owned(),
                        group,
                        port,
                        ttl: ttl.max(1),
                    }),
                    (_, _, _) => {
                        not_taken(directive, rest, "device, group, port, ttl and loop", line, remarks)
                    }
                }
            }
            ("ping_group", [name, hosts @ ..]) if !hosts.is_empty() => {
                self.pings.push(((*name).to_owned(), hosts.iter().map(|host| (*host).to_owned()).collect()));
            }
            ("ucast" | "ucast6", _) => not_taken(directive, rest, "a device and a peer", line, remarks),
            ("mcast" | "mcast6", _) => {
                not_taken(directive, rest, "device, group, port, ttl and loop", line, remarks)
            }
            ("ping_group", _) => not_taken(directive, rest, "a name and addresses", line, remarks),
            ("respawn", _) if rest.contains("ipfail") => remarks
                .add(line, "ipfail is not needed: with [[ping]] a group moves to the node that reaches more"),
            (_, _) => unconverted(directive, rest, line, remarks),
        }
    }

    fn interval(&mut self, directive: &str, value: &str, line: usize, remarks: &mut Remarks) {
        let Some(span) = time(value).filter(|span| !span.is_zero()) else {
            not_taken(
                directive,
                value,
                "seconds as 2 or 0.5, or as 500ms: heartbeat has no other unit",
                line,
                remarks,
            );
            return;
        };
        match directive {
            "keepalive" => self.keepalive = span,
            "deadtime" => self.deadtime = span,
            "warntime" => self.warntime = Some(span),
            "initdead" => self.initdead = Some(span),
            _ => self.deadping = Some(span),
        }
    }

    fn failback(&mut self, value: &str, line: usize, remarks: &mut Remarks) {
        match (value.to_ascii_lowercase().as_str(), boolean(value)) {
            (_, Some(back)) => self.auto_failback = Some(back),
            ("legacy", None) => self.auto_failback = None,
            (_, None) => not_taken("auto_failback", value, "on, off or legacy", line, remarks),
        }
    }

    /// What xbeat wants of the values together.
    fn compare(&mut self, remarks: &mut Remarks) {
        if let Some(warntime) = self.warntime.filter(|warntime| *warntime >= self.deadtime) {
            remarks.add(
                0,
                format!(
                    "warntime {warntime:?} is not below deadtime: left out, it is half the deadtime then"
                ),
            );
            self.warntime = None;
        }
        if self.keepalive == KEEPALIVE && self.deadtime == DEADTIME {
            remarks.add(
                0,
                "keepalive 1 s and deadtime 30 s are heartbeat's defaults; xbeat's are 10 ms and 50 ms",
            );
        }
        if self.auto_failback.is_none() {
            remarks.add(0, "auto_failback is legacy, each node taking its own groups: auto_failback = true comes closest");
        }
    }
}

fn not_taken(directive: &str, value: &str, wanted: &str, line: usize, remarks: &mut Remarks) {
    remarks.add(line, format!("`{directive} {value}` was not taken over: heartbeat wants {wanted}"));
}

fn unconverted(directive: &str, value: &str, line: usize, remarks: &mut Remarks) {
    // Without the value: there are passwords among them.
    let said = match advice(directive) {
        Some(Advice::NotNeeded(why)) => format!("`{directive}` is not needed: {why}"),
        Some(Advice::Instead(what)) => format!("`{directive}` has no equivalent: {what}"),
        None => format!("`{directive}` is no directive of heartbeat"),
    };
    if value.is_empty() || !remarks.has(line, &said) {
        remarks.add(line, said);
    }
}
