//! bfdd of FRRouting (RFC 5880), under SCHED_FIFO by chrt, since it asks for no priority itself. It moves no addresses: this
//! program does when a session goes down.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result};
use nix::unistd::User;

use super::daemon::{Daemon, Said};
use super::{LINKS_MAX, Place, Setting, Software};

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

    fn start(&self, place: &Place<'_>) -> Result<Daemon> {
        let directory = place.directory.join(format!("frr-{}", place.node));
        prepare(&directory, place)?;
        let script = format!(
            "cd {}\n{ZEBRA} --vty_socket $PWD -z $PWD/zserv.api -u frr -g frr --log stdout -i zebra.pid -f zebra.conf &\n\
             until [ -S zserv.api ]; do sleep 0.01; done\n\
             chrt -f {PRIORITY} {PROGRAM} -u frr -g frr --log stdout --vty_socket $PWD -z $PWD/zserv.api \
             --bfdctl $PWD/bfdd.sock -i bfdd.pid -f bfdd.conf &\nwait\n",
            directory.display()
        );
        let mut sessions = Sessions { up: [false; LINKS_MAX] };
        place.run(&script, Box::new(move |line| sessions.read(line)))
    }

    fn moves_address(&self) -> bool {
        false
    }

    fn is_installed(&self) -> bool {
        Path::new(PROGRAM).is_file()
    }
}

fn prepare(directory: &Path, place: &Place<'_>) -> Result<()> {
    let user = User::from_name("frr")?.context("there is no user frr")?;
    fs::create_dir_all(directory).context("cannot make bfdd's directory")?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for left in ["zserv.api", "bfdd.sock", "zebra.pid", "bfdd.pid", "zebra.vty", "bfdd.vty"] {
        // Left by the one that was killed.
        let _ = fs::remove_file(directory.join(left));
    }
    let milliseconds = place.setting.interval.as_millis();
    let peers: String = (0..place.links)
        .map(|bridge| {
            let peer = Port { host: usize::from(place.node == 0), bridge };
            format!(
                " peer {} interface {}\n  detect-multiplier {}\n  receive-interval {milliseconds}\n  \
                 transmit-interval {milliseconds}\n  no shutdown\n exit\n",
                peer.ipv4(),
                peer.interface(),
                place.setting.count
            )
        })
        .collect();
    let bfdd = format!("log timestamp precision 6\ndebug bfd peer\nbfd\n{peers}exit\n");
    for (name, text) in [("bfdd.conf", bfdd), ("zebra.conf", String::new())] {
        let path = directory.join(name);
        fs::write(&path, text).context("cannot write FRR's configuration")?;
        chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    chown(directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .context("cannot hand bfdd its directory")
}

/// A session for each link: the other node is dead when the last of them goes down.
struct Sessions {
    up: [bool; LINKS_MAX],
}

impl Sessions {
    fn read(&mut self, line: &str) -> Option<Said> {
        let (_, changed) = line.split_once("state-change")?;
        let link = (0..LINKS_MAX).find(|link| changed.contains(&format!(" ifname:eth{link}"))).unwrap_or(0);
        let was_alive = self.up.contains(&true);
        *self.up.get_mut(link)? = if changed.contains("-> up") {
            true
        } else if changed.contains("-> down") {
            false
        } else {
            return None;
        };
        match (was_alive, self.up.contains(&true)) {
            (true, false) => Some(Said::Dead),
            (false, true) => Some(Said::Alive),
            (true, true) | (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LINKS_MAX, Said, Sessions};

    #[test]
    fn the_other_node_is_dead_when_the_last_session_goes_down() {
        let mut sessions = Sessions { up: [false; LINKS_MAX] };
        let mut say = |link: usize, change: &str| {
            sessions.read(&format!(
                "BFD: [SEY1D-NT8EQ] state-change: [mhop:no peer:10.77.{link}.2 local:10.77.{link}.1 vrf:default \
                 ifname:eth{link}] {change}"
            ))
        };
        assert_eq!(say(0, "down -> up"), Some(Said::Alive));
        assert_eq!(say(1, "init -> up"), None);
        assert_eq!(say(0, "up -> down reason:control-expired"), None);
        assert_eq!(say(0, "down -> init"), None);
        assert_eq!(say(1, "up -> down reason:control-expired"), Some(Said::Dead));
    }
}
