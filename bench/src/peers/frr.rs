//! bfdd of FRRouting (RFC 5880), under SCHED_FIFO by chrt, since it asks for no priority itself. It moves no addresses: this
//! program does when a session goes down.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::network::{Network, Port};
use agent_tests::lab::scratch::Scratch;
use anyhow::{Context as _, Result};
use nix::unistd::User;

use super::daemon::{Daemon, Said};
use super::{Setting, Software};

const PROGRAM: &str = "/usr/lib/frr/bfdd";
const ZEBRA: &str = "/usr/lib/frr/zebra";
/// Below, it says "No such command" and falls back to 300 ms x 3.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const PRIORITY: &str = "50";

pub(super) struct Bfdd;

impl Software for Bfdd {
    fn fastest(&self) -> Setting {
        Setting::new(10, 3)
    }

    /// Detection time of RFC 5880 section 6.8.4.
    fn deadtime(&self, setting: Setting, _node: usize) -> Duration {
        setting.deadtime()
    }

    fn takes(&self, setting: Setting) -> bool {
        setting.interval >= INTERVAL_MIN && (2..=255).contains(&setting.count)
    }

    fn start(
        &self,
        network: &Network,
        scratch: &Scratch,
        node: usize,
        setting: Setting,
    ) -> Result<Vec<Daemon>> {
        let directory = scratch.root().join(format!("frr-{node}"));
        prepare(&directory, node, setting)?;
        let host = network.host(node)?;
        let api = directory.join("zserv.api");
        let mut zebra = host.command(ZEBRA);
        zebra
            .arg("--vty_socket")
            .arg(&directory)
            .arg("-z")
            .arg(&api)
            .args(["-u", "frr", "-g", "frr", "--log", "stdout"]);
        zebra.arg("-i").arg(directory.join("zebra.pid")).arg("-f").arg(directory.join("zebra.conf"));
        let zebra = Daemon::start(zebra, |_| None)?;
        clock::wait_for("zebra's socket", Duration::from_secs(5), || Ok(api.exists().then_some(())))?;
        let mut bfdd = host.command("chrt");
        bfdd.args(["-f", PRIORITY, PROGRAM, "-u", "frr", "-g", "frr", "--log", "stdout"]);
        bfdd.arg("--vty_socket").arg(&directory).arg("-z").arg(&api);
        bfdd.arg("--bfdctl").arg(directory.join("bfdd.sock")).arg("-i").arg(directory.join("bfdd.pid"));
        bfdd.arg("-f").arg(directory.join("bfdd.conf"));
        Ok(vec![Daemon::start(bfdd, read)?, zebra])
    }

    fn moves_address(&self) -> bool {
        false
    }

    fn is_installed(&self) -> bool {
        Path::new(PROGRAM).is_file()
    }

    /// A session begins at a second and takes up its own pace once both are up.
    fn settle(&self) -> Duration {
        Duration::from_secs(2)
    }
}

fn prepare(directory: &Path, node: usize, setting: Setting) -> Result<()> {
    let user = User::from_name("frr")?.context("there is no user frr")?;
    fs::create_dir_all(directory).context("cannot make bfdd's directory")?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for left in ["zserv.api", "bfdd.sock", "zebra.pid", "bfdd.pid", "zebra.vty", "bfdd.vty"] {
        // Left by the one that was killed.
        let _ = fs::remove_file(directory.join(left));
    }
    let peer = Port { host: usize::from(node == 0), bridge: 0 }.ipv4();
    let milliseconds = setting.interval.as_millis();
    let bfdd = format!(
        "log timestamp precision 6\ndebug bfd peer\nbfd\n peer {peer} interface eth0\n  detect-multiplier {}\n  \
         receive-interval {milliseconds}\n  transmit-interval {milliseconds}\n  no shutdown\n exit\nexit\n",
        setting.count
    );
    for (name, text) in [("bfdd.conf", bfdd), ("zebra.conf", String::new())] {
        let path = directory.join(name);
        fs::write(&path, text).context("cannot write FRR's configuration")?;
        chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    chown(directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .context("cannot hand bfdd its directory")
}

fn read(line: &str) -> Option<Said> {
    if !line.contains("state-change") {
        return None;
    }
    if line.contains("-> down") {
        Some(Said::Dead)
    } else if line.contains("-> up") {
        Some(Said::Alive)
    } else {
        None
    }
}
