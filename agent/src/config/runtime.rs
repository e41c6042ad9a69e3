//! `[control]`, `[metrics]`, `[watchdog]` and `[runtime]`: where people reach the agent and how it runs on its host.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cluster::path;
use super::report::Findings;
use super::section::{At, Section};
use crate::settings::{Generation, RuntimeSettings, Scheduling, XdpSetting};

/// Where the control socket is unless the file says otherwise.
const SOCKET: &str = "/run/xbeat/xbeat.sock";
/// Longest path of a Unix socket (sun_path less its NUL), less the ending of the one that is made first.
const SOCKET_MAX: usize = 105;
/// Where metrics are served when `[metrics]` does not say.
const METRICS: &str = "127.0.0.1:9694";
/// The first watchdog, when `[watchdog]` is there and does not say.
const WATCHDOG: &str = "/dev/watchdog";
const STATE_DIR: &str = "/var/lib/xbeat";
const BPFFS: &str = "/sys/fs/bpf/xbeat";
/// Above the kernel's threaded interrupts, which run at [`IRQ_PRIORITY`].
const PRIORITY: u8 = 60;
const IRQ_PRIORITY: u8 = 50;
/// Highest number of a CPU (CPU_SETSIZE - 1).
const CPU_MAX: u64 = 1023;
const ANNOUNCE_REFRESH: Duration = Duration::from_secs(60);
const KEYS: &[&str] = &[
    "realtime",
    "scheduling",
    "priority",
    "cpus",
    "state_dir",
    "bpffs",
    "xdp",
    "generation",
    "announce_refresh",
];

pub(super) fn control(root: &Section<'_>, base: &Path, findings: &mut Findings<'_>) -> PathBuf {
    let Some(section) = root.table("control", "[control]", &["socket"], findings) else {
        return PathBuf::from(SOCKET);
    };
    let socket = path(&section, "socket", SOCKET, base, findings);
    if socket.as_os_str().len() > SOCKET_MAX {
        let message = format!("the path of `socket` has more than {SOCKET_MAX} bytes");
        findings.error(section.key_span("socket"), message, "write a shorter path");
    }
    socket
}

pub(super) fn metrics(root: &Section<'_>, findings: &mut Findings<'_>) -> Option<SocketAddr> {
    let section = root.table("metrics", "[metrics]", &["listen"], findings)?;
    let written = section.string("listen", METRICS, findings);
    let Some(At { value, span }) = written else { return METRICS.parse().ok() };
    if value == "off" {
        return None;
    }
    let address = value.parse::<SocketAddr>().ok();
    match address {
        Some(address) if address.port() != 0 => Some(address),
        Some(_) | None => {
            let message = format!("`listen` in [metrics], \"{value}\", is not an address and a port");
            findings.error(span, message, format!("write listen = \"{METRICS}\", \"[::1]:9694\" or \"off\""));
            None
        }
    }
}

pub(super) fn watchdog(root: &Section<'_>, base: &Path, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let section = root.table("watchdog", "[watchdog]", &["device"], findings)?;
    Some(path(&section, "device", WATCHDOG, base, findings))
}

pub(super) fn runtime(root: &Section<'_>, base: &Path, findings: &mut Findings<'_>) -> RuntimeSettings {
    let mut settings = RuntimeSettings {
        realtime: true,
        scheduling: Scheduling::Auto,
        priority: PRIORITY,
        cpus: Vec::new(),
        state_dir: PathBuf::from(STATE_DIR),
        bpffs: PathBuf::from(BPFFS),
        xdp: XdpSetting::Auto,
        generation: Generation::File,
        announce_refresh: ANNOUNCE_REFRESH,
    };
    let Some(section) = root.table("runtime", "[runtime]", KEYS, findings) else { return settings };
    if let Some(realtime) = section.boolean("realtime", findings) {
        settings.realtime = realtime.value;
    }
    scheduling(&section, &mut settings, findings);
    settings.state_dir = path(&section, "state_dir", STATE_DIR, base, findings);
    settings.bpffs = path(&section, "bpffs", BPFFS, base, findings);
    let words = [
        ("auto", XdpSetting::Auto),
        ("native", XdpSetting::Native),
        ("generic", XdpSetting::Generic),
        ("tcx", XdpSetting::Tcx),
        ("off", XdpSetting::Off),
    ];
    if let Some(xdp) = section.choice("xdp", &words, findings) {
        settings.xdp = xdp.value;
    }
    let words = [("file", Generation::File), ("time", Generation::Time)];
    if let Some(generation) = section.choice("generation", &words, findings) {
        settings.generation = generation.value;
    }
    let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
    if let Some(refresh) = section.duration("announce_refresh", bounds, findings) {
        settings.announce_refresh = refresh.value;
    }
    settings
}

fn scheduling(section: &Section<'_>, settings: &mut RuntimeSettings, findings: &mut Findings<'_>) {
    let words = [("auto", Scheduling::Auto), ("deadline", Scheduling::Deadline), ("fifo", Scheduling::Fifo)];
    let written = section.choice("scheduling", &words, findings);
    settings.scheduling = written.as_ref().map_or(Scheduling::Auto, |at| at.value);
    if let Some(priority) = section.integer("priority", 1..=99, findings) {
        settings.priority = u8::try_from(priority.value).unwrap_or(PRIORITY);
        if settings.priority <= IRQ_PRIORITY {
            let message =
                format!("`priority` {} is not above that of threaded interrupts", settings.priority);
            findings.warn(priority.span, message, format!("write {} or more", IRQ_PRIORITY + 1));
        }
    }
    let Some(cpus) = section.integers("cpus", 0..=CPU_MAX, findings) else { return };
    for (place, cpu) in cpus.value.iter().enumerate() {
        if cpus.value.iter().take(place).any(|earlier| earlier.value == cpu.value) {
            findings.error(cpu.span.clone(), format!("`cpus` has {} twice", cpu.value), "leave it once");
        }
    }
    settings.cpus = cpus.value.iter().filter_map(|cpu| usize::try_from(cpu.value).ok()).collect();
    if settings.cpus.is_empty() {
        return;
    }
    match settings.scheduling {
        Scheduling::Deadline => findings.error(
            cpus.span,
            "SCHED_DEADLINE cannot be pinned to `cpus`",
            "remove `cpus`, or write scheduling = \"fifo\"",
        ),
        Scheduling::Auto => findings.warn(
            cpus.span,
            "SCHED_DEADLINE cannot be pinned: with `cpus` the agent uses SCHED_FIFO",
            "write scheduling = \"fifo\", or remove `cpus`",
        ),
        Scheduling::Fifo => (),
    }
}
