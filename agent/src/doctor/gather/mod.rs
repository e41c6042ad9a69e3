//! Reads the machine: files under /proc and /sys, netlink and socket options. It changes nothing, attaches nothing, and opens
//! no device.

mod host;
mod kernel;
mod link;
mod network;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::facts::{Agent, Configuration, Facts};
use crate::config::{self, ConfigErrors};
use crate::ctl::protocol::{Answer, Request};
use crate::settings::{Medium, Settings};

/// How long a running agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest file under /proc, /sys and /etc that is looked at.
const FILE_MAX: u64 = 1024 * 1024;

/// Everything, for the configuration in `path`. `socket` is the control socket if not the configuration's.
pub fn gather(path: &Path, socket: Option<&Path>) -> Facts {
    let mut facts = Facts {
        kernel: kernel::kernel(),
        capabilities: kernel::capabilities(),
        clock: host::clock(),
        memory: host::memory(),
        processors: host::processors(),
        ..Facts::default()
    };
    let settings = match config::load(path) {
        Ok((settings, warnings)) => {
            facts.configuration = configuration(path, &settings, warnings.len());
            settings
        }
        Err(errors) => {
            facts.configuration = invalid(path, &errors);
            return facts;
        }
    };
    facts.agent = agent(socket.unwrap_or(&settings.control_socket));
    facts.bpffs = kernel::bpffs(&settings.runtime.bpffs);
    facts.devices = network::devices(&settings);
    facts.firewall = network::firewall(&facts.configuration.ports);
    facts.pings = network::pings(&settings);
    facts.scheduling = host::scheduling(&settings);
    facts.keys = Some(host::keys(&settings));
    facts.state_dir = Some(host::state(&settings.runtime.state_dir));
    facts.watchdog = settings.watchdog.as_deref().map(host::watchdog);
    facts.serial = host::serial(&settings);
    facts
}

fn configuration(path: &Path, settings: &Settings, warnings: usize) -> Configuration {
    let port = |link: &crate::settings::LinkSettings| match &link.medium {
        Medium::Network(network) => Some(network.port),
        Medium::Serial(_) => None,
    };
    let mut ports: Vec<u16> = settings.links.iter().filter_map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    Configuration {
        path: path.to_owned(),
        errors: Vec::new(),
        warnings,
        denied: false,
        node: settings.node_name(settings.me).to_owned(),
        xdp: Some(settings.runtime.xdp),
        ports,
        serves: settings.groups.iter().any(|group| !group.addresses.is_empty()),
        realtime: settings.runtime.realtime,
    }
}

fn invalid(path: &Path, errors: &ConfigErrors) -> Configuration {
    let (lines, denied) = match errors {
        ConfigErrors::Unreadable { source, .. } => {
            (vec![errors.to_string()], source.kind() == std::io::ErrorKind::PermissionDenied)
        }
        ConfigErrors::Invalid(invalid) => {
            let one_line = |error: &config::Finding| error.one_line(&invalid.name, "error");
            (invalid.errors.iter().map(one_line).collect(), false)
        }
    };
    Configuration { path: path.to_owned(), errors: lines, denied, ..Configuration::default() }
}

/// Asks whoever answers for its status.
fn agent(socket: &Path) -> Agent {
    let asked = UnixStream::connect(socket).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = serde_json::to_string(&Request::Status).map_err(std::io::Error::other)?;
        stream.write_all((request + "\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        serde_json::from_str::<Answer>(&line).map_err(std::io::Error::other)
    });
    match asked {
        Ok(Answer::Status { status }) => {
            Agent::Running { version: status.version, modes: status.xdp, gate: status.gate }
        }
        Ok(_) => Agent::Denied,
        Err(error) => {
            let is = |kind| error.kind() == kind;
            let nobody = is(std::io::ErrorKind::NotFound) || is(std::io::ErrorKind::ConnectionRefused);
            if nobody { Agent::NotRunning } else { Agent::Denied }
        }
    }
}

/// A small file's text without blanks around it, `None` if it cannot be read.
fn text(path: impl AsRef<Path>) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

/// A number in a file.
fn number<T: std::str::FromStr>(path: impl AsRef<Path>) -> Option<T> {
    text(path)?.parse().ok()
}

/// The value of the last `KEY=VALUE` of an ini file and its drop-ins (`FILE.d/*.conf`).
fn setting(file: &Path, key: &str) -> Option<String> {
    let mut files = vec![file.to_owned()];
    let mut drop_ins = file.as_os_str().to_owned();
    drop_ins.push(".d");
    let mut more: Vec<PathBuf> = std::fs::read_dir(PathBuf::from(drop_ins))
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    more.sort();
    files.extend(more);
    let texts = files.iter().filter_map(text);
    texts.filter_map(|text| last_value(&text, key)).next_back()
}

fn last_value(text: &str, key: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let mut values = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned());
    values.next_back()
}

#[cfg(test)]
mod tests {
    use super::{last_value, setting};

    #[test]
    fn the_last_setting_counts_and_drop_ins_come_after() {
        assert_eq!(
            last_value("[Network]\n#Keep=no\nKeep = yes\nKeep=static\n", "Keep").as_deref(),
            Some("static")
        );
        assert_eq!(last_value("", "Keep"), None);
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("system.conf");
        std::fs::write(&file, "A=1\nB=2\n").unwrap();
        let drop_ins = place.path().join("system.conf.d");
        std::fs::create_dir(&drop_ins).unwrap();
        std::fs::write(drop_ins.join("10.conf"), "A=3\n").unwrap();
        std::fs::write(drop_ins.join("20.conf"), "A=4\n").unwrap();
        assert_eq!(setting(&file, "A").as_deref(), Some("4"));
        assert_eq!(setting(&file, "B").as_deref(), Some("2"));
        assert_eq!(setting(&file, "C"), None);
    }
}
