//! Clock, scheduling, memory, CPUs, and the agent's own files and devices.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{AccessFlags, access};

use super::{number, setting, text};
use crate::doctor::facts::{Clock, KeysWrong, Memory, Processors, Scheduling, Serial, Watchdog};
use crate::keys::{self, KeyError};
use crate::rt::sched::{self, Granted};
use crate::rt::slew;
use crate::serial;
use crate::settings::Settings;

/// CPUs whose governor is looked at.
const CPUS_MAX: usize = 1024;
/// Processes that are looked at for one that uses a serial line.
const PROCESSES_MAX: usize = 65_536;
/// Where distributions have chrony's configuration.
const CHRONY: [&str; 2] = ["/etc/chrony.conf", "/etc/chrony/chrony.conf"];
const CHRONY_RUNS: [&str; 2] = ["/run/chrony/chronyd.pid", "/run/chronyd.pid"];

pub(super) fn clock() -> Clock {
    let kernel = slew::look();
    let chrony = CHRONY_RUNS.iter().any(|path| Path::new(path).exists());
    let rate = || {
        let files = CHRONY.iter().filter_map(text);
        files.filter_map(|text| directive(&text, "maxslewrate")).next_back()?.parse().ok()
    };
    Clock {
        source: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        slew_ppm: kernel.map(|(ppm, _)| ppm),
        synchronised: kernel.map(|(_, synchronised)| synchronised),
        chrony: chrony.then(rate),
    }
}

/// The value of the last `KEY VALUE`.
fn directive(text: &str, key: &str) -> Option<String> {
    let words = text.lines().map(str::split_whitespace);
    let mut values = words.filter_map(|mut words| {
        let found = words.next()?.eq_ignore_ascii_case(key);
        found.then(|| words.next().map(str::to_owned)).flatten()
    });
    values.next_back()
}

/// A thread asks for what the rt thread will ask for, and ends.
pub(super) fn scheduling(settings: &Settings) -> Scheduling {
    let (runtime, keepalive) = (settings.runtime.clone(), settings.timing.keepalive);
    let tried = std::thread::spawn(move || sched::rt_thread(&runtime, keepalive)).join().ok();
    let label = |granted: Granted| match granted {
        Granted::Deadline => "deadline",
        Granted::Fifo => "fifo",
        Granted::Plain => "plain",
    };
    Scheduling {
        granted: tried.map(|outcome| label(outcome.granted).to_owned()),
        deadline_refused: tried.and_then(|outcome| outcome.deadline).map(|errno| errno.to_string()),
        deadline_taken: tried.is_some_and(|outcome| outcome.deadline == Some(Errno::EBUSY)),
        fifo_refused: tried.and_then(|outcome| outcome.fifo).map(|errno| errno.to_string()),
        rt_runtime_us: number("/proc/sys/kernel/sched_rt_runtime_us"),
        rt_period_us: number("/proc/sys/kernel/sched_rt_period_us"),
        rt_groups: ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"]
            .iter()
            .any(|place| Path::new(place).join("cpu.rt_runtime_us").exists()),
        cpu_max: cpu_max(),
    }
}

fn cpu_max() -> Option<String> {
    let groups = text("/proc/self/cgroup")?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    // A limit of any cgroup above holds here as well.
    let own = Path::new("/sys/fs/cgroup").join(path);
    let limits = own.ancestors().take_while(|path| path.starts_with("/sys/fs/cgroup"));
    limits.filter_map(|path| text(path.join("cpu.max"))).find(|limit| !limit.starts_with("max"))
}

pub(super) fn memory() -> Memory {
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).ok().map(|(soft, hard)| soft.max(hard));
    Memory { limit: limit.filter(|limit| *limit != RLIM_INFINITY) }
}

pub(super) fn processors() -> Processors {
    let cpus = Path::new("/sys/devices/system/cpu");
    let governor = |cpu: usize| text(cpus.join(format!("cpu{cpu}/cpufreq/scaling_governor")));
    let mut governors: Vec<String> = (0..CPUS_MAX).map_while(governor).collect();
    governors.sort();
    governors.dedup();
    let states = fs::read_dir(cpus.join("cpu0/cpuidle")).into_iter().flatten().filter_map(Result::ok);
    let enabled = states.filter(|state| text(state.path().join("disable")).as_deref() == Some("0"));
    Processors {
        governors,
        idle_latency_us: enabled.filter_map(|state| number(state.path().join("latency"))).max(),
        isolated: text(cpus.join("isolated")).unwrap_or_default(),
    }
}

pub(super) fn keys(settings: &Settings) -> Result<usize, KeysWrong> {
    match keys::load(&settings.key_file) {
        Ok(ring) => Ok(ring.states.iter().filter(|state| state.valid != 0).count()),
        Err(error @ KeyError::Unreadable { .. }) => {
            let denied = |source: &std::io::Error| source.kind() == std::io::ErrorKind::PermissionDenied;
            let source = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
            if source.is_some_and(denied) {
                Err(KeysWrong::Denied(error.to_string()))
            } else {
                Err(KeysWrong::Unusable(error.to_string()))
            }
        }
        Err(error) => Err(KeysWrong::Unusable(error.to_string().replace('\n', "; "))),
    }
}

/// Whether the directory, or the nearest one above that is there, can be written.
pub(super) fn state(directory: &Path) -> (PathBuf, Option<String>) {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let wrong = if existing.is_dir() {
        access(existing, AccessFlags::W_OK | AccessFlags::X_OK).err().map(|errno| errno.desc().to_owned())
    } else {
        Some(format!("{} is no directory", existing.display()))
    };
    (directory.to_owned(), wrong)
}

/// The device is not opened: it would begin to count.
pub(super) fn watchdog(device: &Path) -> Watchdog {
    let name = device.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    // `/dev/watchdog` is the first one.
    let name = if name == "watchdog" { "watchdog0".to_owned() } else { name };
    let place = Path::new("/sys/class/watchdog").join(name);
    let systemd = setting(Path::new("/etc/systemd/system.conf"), "RuntimeWatchdogSec");
    Watchdog {
        device: device.to_owned(),
        exists: fs::metadata(device).is_ok_and(|found| found.file_type().is_char_device()),
        identity: text(place.join("identity")),
        nowayout: text(place.join("nowayout")).as_deref() == Some("1"),
        active: text(place.join("state")).as_deref() == Some("active"),
        systemd: systemd.filter(|value| !matches!(value.as_str(), "" | "0" | "off" | "infinity")),
    }
}

pub(super) fn serial(settings: &Settings) -> Vec<Serial> {
    let consoles = text("/sys/class/tty/console/active").unwrap_or_default();
    let look = |line: serial::LineSettings| {
        let device = line.device;
        let real = fs::canonicalize(&device).unwrap_or_else(|_| device.clone());
        let name = real.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let found = fs::metadata(&real).ok().filter(|found| found.file_type().is_char_device());
        Serial {
            exists: found.is_some(),
            permitted: access(&real, AccessFlags::R_OK | AccessFlags::W_OK).is_ok(),
            console: consoles.split_whitespace().any(|console| console == name),
            user: found.and_then(|found| user_of(found.rdev(), &name)),
            device,
        }
    };
    serial::lines(settings).into_iter().map(look).collect()
}

/// A process whose terminal the device is, or a getty that was started for it.
fn user_of(device: u64, name: &str) -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok).take(PROCESSES_MAX);
    let uses = |directory: PathBuf| {
        let stat = text(directory.join("stat"))?;
        // Behind the name, which may have blanks: state, parent, group, session, terminal (proc(5)).
        let (command, rest) = stat.rsplit_once(')')?;
        let terminal: u64 = rest.split_whitespace().nth(4)?.parse().ok()?;
        let arguments = || text(directory.join("cmdline")).unwrap_or_default();
        let waits = || {
            let arguments = arguments();
            let mut words = arguments.split('\0');
            words.next().is_some_and(|program| program.contains("getty")) && words.any(|word| word == name)
        };
        (terminal == device || waits()).then(|| command.split('(').next_back().unwrap_or_default().to_owned())
    };
    processes.map(|entry| entry.path()).find_map(uses)
}

#[cfg(test)]
mod tests {
    use super::{directive, state};

    #[test]
    fn the_last_directive_counts() {
        let text = "# maxslewrate 1\nserver a\nmaxslewrate 400\n  MaxSlewRate   300 # x\n";
        assert_eq!(directive(text, "maxslewrate").as_deref(), Some("300"));
        assert_eq!(directive("server a\n", "maxslewrate"), None);
    }

    #[test]
    fn a_state_directory_is_made_below_what_is_there() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(state(&place.path().join("a/b")).1, None);
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(state(&file.join("b")).1.is_some());
    }
}
