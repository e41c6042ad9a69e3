//! What is known of a machine, as plain values. What could not be read is `None` or empty, and is judged as unknown.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::settings::XdpSetting;

/// Everything that the checks look at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The configuration.
    pub configuration: Configuration,
    /// What an agent that runs says of itself.
    pub agent: Agent,
    /// The kernel.
    pub kernel: Kernel,
    /// Effective capabilities, as `CAP_NET_ADMIN`.
    pub capabilities: Vec<String>,
    /// The directory of pins.
    pub bpffs: Bpffs,
    /// The interfaces that the configuration names.
    pub devices: Vec<Device>,
    /// Packet filters.
    pub firewall: Firewall,
    /// How ping groups can be asked, by family.
    pub pings: BTreeMap<&'static str, PingSocket>,
    /// The clock.
    pub clock: Clock,
    /// How the threads would run.
    pub scheduling: Scheduling,
    /// Locked memory.
    pub memory: Memory,
    /// CPUs.
    pub processors: Processors,
    /// The key file: what is wrong with it, or how many keys it has.
    pub keys: Option<Result<usize, KeysWrong>>,
    /// The state directory and what is wrong with it.
    pub state_dir: Option<(PathBuf, Option<String>)>,
    /// The watchdog, if one is configured.
    pub watchdog: Option<Watchdog>,
    /// Serial lines of this node.
    pub serial: Vec<Serial>,
}

/// The configuration file.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Its name.
    pub path: PathBuf,
    /// Errors, one line each. Empty when it is valid.
    pub errors: Vec<String>,
    /// How many warnings `xbeat check` has.
    pub warnings: usize,
    /// Whether it could not be read for want of permission.
    pub denied: bool,
    /// Which node this is.
    pub node: String,
    /// How XDP is to be attached.
    pub xdp: Option<XdpSetting>,
    /// UDP ports of the links.
    pub ports: Vec<u16>,
    /// Whether service addresses are configured.
    pub serves: bool,
    /// Whether realtime scheduling and locked memory are asked for.
    pub realtime: bool,
}

/// What answers on the control socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Agent {
    /// Nobody.
    #[default]
    NotRunning,
    /// Somebody may not be asked by this user.
    Denied,
    /// An agent.
    Running {
        /// Its version.
        version: String,
        /// How each interface receives.
        modes: BTreeMap<String, String>,
        /// Who shuts addresses: `kernel` or `userspace`.
        gate: String,
    },
}

/// The kernel and its eBPF.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// As `uname -r` has it.
    pub release: String,
    /// Major and minor number.
    pub version: Option<(u32, u32)>,
    /// `net.core.bpf_jit_enable`.
    pub jit: Option<u8>,
    /// Whether the kernel describes its types.
    pub btf: bool,
    /// What became of the agent's own programs, loaded and not attached.
    pub object: Object,
}

/// The agent's programs in this kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Object {
    /// Loaded; nothing was attached.
    Loaded,
    /// Built without them.
    #[default]
    NotBuiltIn,
    /// Not permitted to load.
    Denied,
    /// The kernel refused.
    Refused(String),
}

/// The directory of pins.
#[derive(Clone, Debug, Default)]
pub struct Bpffs {
    /// Where.
    pub path: PathBuf,
    /// Whether a bpffs is mounted there.
    pub mounted: bool,
    /// Whether this process has mounts of its own.
    pub private: bool,
}

/// An interface of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What it is, `None` when it is not there.
    pub found: Option<Found>,
    /// Whether heartbeats travel on it.
    pub carries: bool,
    /// Whether service addresses are put on it.
    pub serves: bool,
    /// Addresses that this node must have on it and has not.
    pub missing: Vec<IpAddr>,
    /// Whether heartbeats on it are IPv6.
    pub ipv6: bool,
}

/// An interface that is there.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Whether it is set up.
    pub up: bool,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Largest packet.
    pub mtu: u32,
    /// `bridge`, `bond`, `vlan`, `veth` and the like; `None` for hardware.
    pub kind: Option<String>,
    /// Driver.
    pub driver: Option<String>,
    /// Whether it belongs to a bridge or bond.
    pub has_master: bool,
    /// An XDP program that is on it, by name or id, and whether it is ours.
    pub xdp: Option<Program>,
    /// Classifiers on TCX that are not ours.
    pub foreign_tcx: Vec<String>,
    /// `net.ipv4.conf.*`: rp_filter, arp_ignore, arp_announce.
    pub rp_filter: Option<u8>,
    /// Whether it answers ARP for addresses of other interfaces.
    pub arp_ignore: Option<u8>,
    /// Which source address ARP requests have.
    pub arp_announce: Option<u8>,
    /// Whether networkd configures it, and with which `KeepConfiguration`.
    pub networkd: Option<Networkd>,
    /// Whether NetworkManager manages it.
    pub network_manager: Option<bool>,
}

/// An XDP program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// By name, or id.
    pub name: String,
    /// Whether it is the agent's.
    pub ours: bool,
}

/// networkd's file of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networkd {
    /// Which.
    pub file: String,
    /// `KeepConfiguration` in it, or in its drop-ins.
    pub keep: Option<String>,
}

/// Packet filters.
#[derive(Clone, Debug, Default)]
pub struct Firewall {
    /// What filters incoming packets, and drops some: names of tables.
    pub filters: Vec<String>,
    /// Whether the rules name all ports of the links.
    pub names_ports: bool,
    /// Why it could not be read.
    pub unknown: Option<String>,
}

/// How echo requests of a family can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PingSocket {
    /// Without privilege.
    Unprivileged,
    /// With CAP_NET_RAW.
    Raw,
    /// Not at all.
    Refused(String),
}

/// The clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Its source.
    pub source: Option<String>,
    /// How fast it is slewed now.
    pub slew_ppm: Option<u32>,
    /// Whether the kernel says that it follows a time server.
    pub synchronised: Option<bool>,
    /// chrony's configuration, if chrony runs: its `maxslewrate`, `None` for the default.
    pub chrony: Option<Option<f64>>,
}

/// What the rt thread would get.
#[derive(Clone, Debug, Default)]
pub struct Scheduling {
    /// `deadline`, `fifo` or `plain`; `None` when that was not tried.
    pub granted: Option<String>,
    /// Why not SCHED_DEADLINE.
    pub deadline_refused: Option<String>,
    /// Whether that is because others hold what the kernel grants of it.
    pub deadline_taken: bool,
    /// Why not SCHED_FIFO.
    pub fifo_refused: Option<String>,
    /// `kernel.sched_rt_runtime_us`.
    pub rt_runtime_us: Option<i64>,
    /// `kernel.sched_rt_period_us`.
    pub rt_period_us: Option<i64>,
    /// Whether realtime time is shared out by cgroup (CONFIG_RT_GROUP_SCHED).
    pub rt_groups: bool,
    /// `cpu.max` of the cgroup, unless it is without limit.
    pub cpu_max: Option<String>,
}

/// Locked memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// RLIMIT_MEMLOCK in bytes, `None` for no limit.
    pub limit: Option<u64>,
}

/// CPUs.
#[derive(Clone, Debug, Default)]
pub struct Processors {
    /// Distinct frequency governors.
    pub governors: Vec<String>,
    /// The longest time that the first CPU takes to wake, of the states that are enabled, microseconds.
    pub idle_latency_us: Option<u64>,
    /// `isolcpus`, as written.
    pub isolated: String,
}

/// What is wrong with the key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysWrong {
    /// This user may not read it.
    Denied(String),
    /// Anything else.
    Unusable(String),
}

/// The watchdog device.
#[derive(Clone, Debug, Default)]
pub struct Watchdog {
    /// Its device.
    pub device: PathBuf,
    /// Whether it is there.
    pub exists: bool,
    /// What it calls itself.
    pub identity: Option<String>,
    /// Whether it cannot be stopped again.
    pub nowayout: bool,
    /// Whether somebody has it already.
    pub active: bool,
    /// systemd's `RuntimeWatchdogSec`, if it is set.
    pub systemd: Option<String>,
}

/// A serial line of this node.
#[derive(Clone, Debug, Default)]
pub struct Serial {
    /// Its device.
    pub device: PathBuf,
    /// Whether it is there, and a character device.
    pub exists: bool,
    /// Whether it may be read and written.
    pub permitted: bool,
    /// Whether the kernel's console is on it.
    pub console: bool,
    /// A process that has it as its terminal, or a getty on it.
    pub user: Option<String>,
}
