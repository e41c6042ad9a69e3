//! Other cluster software beside xbeat: two nodes of it in the same kind of network, with the same client and the same faults.
//! Each is run as its own package has it, at a setting that was found to be stable by probing; what is not installed is
//! skipped with a message.

mod address;
mod bed;
pub mod check;
mod corosync;
mod daemon;
mod frr;
mod heartbeat;
mod keepalived;
mod pair;

use std::process::Command;
use std::time::Duration;

use agent_tests::lab::network::Network;
use anyhow::Result;
use serde::Serialize;

pub use bed::Bed;
pub use daemon::{Daemon, Log, Reader, Said, Told};
pub use pair::Pair;

/// The software.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// VRRP, realtime.
    Keepalived,
    /// Linux-HA heartbeat 3.
    Heartbeat,
    /// Totem over kronosnet; addresses are moved by this program.
    Corosync,
    /// BFD of FRRouting, under SCHED_FIFO; addresses are moved by this program.
    Bfdd,
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Keepalived, Self::Heartbeat, Self::Corosync, Self::Bfdd];

    /// The version of its package, as dpkg has it.
    pub fn version(self) -> String {
        let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", self.package()]).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "of unknown version".to_owned())
    }

    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Keepalived => "keepalived",
            Self::Heartbeat => "heartbeat",
            Self::Corosync => "corosync",
            Self::Bfdd => "bfdd",
        }
    }

    /// The process that leads all others of a node.
    pub const fn leader(self) -> &'static str {
        match self {
            Self::Keepalived => "keepalived",
            Self::Heartbeat => "heartbeat",
            Self::Corosync => "corosync",
            Self::Bfdd => "bfdd",
        }
    }

    /// Debian's package.
    pub const fn package(self) -> &'static str {
        match self {
            Self::Keepalived => "keepalived",
            Self::Heartbeat => "heartbeat",
            Self::Corosync => "corosync",
            Self::Bfdd => "frr",
        }
    }

    /// How it is run.
    pub fn software(self) -> Box<dyn Software> {
        match self {
            Self::Keepalived => Box::new(keepalived::Keepalived),
            Self::Heartbeat => Box::new(heartbeat::Heartbeat),
            Self::Corosync => Box::new(corosync::Corosync),
            Self::Bfdd => Box::new(frr::Bfdd),
        }
    }
}

/// How fast a peer is set: what its own options make of it is its `software`'s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Setting {
    /// Between two heartbeats, as far as it has any.
    pub interval: Duration,
    /// How many of them must be missed.
    pub count: u32,
}

impl Setting {
    /// `interval` milliseconds, `count` times.
    pub const fn new(interval_ms: u64, count: u32) -> Self {
        Self { interval: Duration::from_millis(interval_ms), count }
    }

    /// Interval and product in milliseconds, as tables have it.
    pub fn label(self) -> String {
        format!("{}/{}", self.interval.as_millis(), self.deadtime().as_millis())
    }

    /// Their product: what the setting means to be.
    pub fn deadtime(self) -> Duration {
        self.interval * self.count
    }
}

/// One software: how it is configured, started and understood.
pub trait Software {
    /// Its fastest setting that is stable on an idle machine.
    fn fastest(&self) -> Setting;

    /// The deadtime that `setting` gives it at `node`, by its own rules.
    fn deadtime(&self, setting: Setting, node: usize) -> Duration;

    /// Whether it can be run with this setting.
    fn takes(&self, setting: Setting) -> bool;

    /// Writes the configuration of a node and starts its processes.
    ///
    /// # Errors
    /// A file cannot be written, or a process not started.
    fn start(&self, place: &Place<'_>) -> Result<Daemon>;

    /// Whether it can watch the other node over so many links at once.
    fn takes_links(&self, links: usize) -> bool {
        (1..=LINKS_MAX).contains(&links)
    }

    /// Whether it moves the address itself; if not, this program does as it is told by what the software says.
    fn moves_address(&self) -> bool;

    /// What it says when the address must move, where it does not move it itself.
    fn moves_by(&self) -> Said {
        Said::Dead
    }

    /// Whether it is installed.
    fn is_installed(&self) -> bool;

    /// How long a node must have been up before the pair can be whole.
    fn settle(&self) -> Duration {
        Duration::from_millis(600)
    }

    /// How long a node must have been up before its failure is found within the deadtime.
    fn matures(&self) -> Duration {
        self.settle()
    }
}

/// Most links of a pair.
pub const LINKS_MAX: usize = 2;

/// How a pair is run, besides its setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Options {
    /// Over how many links; the client is on the first.
    pub links: usize,
    /// On which CPU all processes of each node run; on any without it.
    pub cpus: Option<[usize; 2]>,
    /// How the service is used.
    pub client: Asks,
    /// Whether frames are captured: what was heard last and how many there were is known by them.
    pub captures: bool,
}

/// How often the client asks for the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asks {
    /// Every millisecond.
    Often,
    /// Every 20 ms.
    Seldom,
    /// Never.
    Never,
}

impl Default for Options {
    fn default() -> Self {
        Self { links: 1, cpus: None, client: Asks::Often, captures: true }
    }
}

/// Where and how a node is started.
pub struct Place<'a> {
    network: &'a Network,
    /// Of the pair; it stays over restarts.
    directory: &'a std::path::Path,
    node: usize,
    setting: Setting,
    links: usize,
    cpu: Option<usize>,
    told: Told,
}

impl Place<'_> {
    fn run(&self, script: &str, read: Reader) -> Result<Daemon> {
        Daemon::start(self.network.host(self.node)?, self.cpu, script, read, &self.told)
    }
}

/// The service address of every pair.
pub const SERVICE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 77, 0, 100);

/// Whether a program can be found.
pub(crate) fn is_program(path: &str) -> bool {
    if path.contains('/') {
        return std::path::Path::new(path).is_file();
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<std::path::PathBuf> = std::env::split_paths(&paths).collect();
    directories.extend(["/usr/sbin", "/sbin"].map(Into::into));
    directories.iter().any(|directory| directory.join(path).is_file())
}
