//! Linux-HA heartbeat 3, in its own mode of `haresources`, realtime by itself. It moves the address by its scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result};

use super::daemon::{Daemon, Said};
use super::{Place, SERVICE, Setting, Software};

const INITDEAD: Duration = Duration::from_secs(2);
const PROGRAM: &str = "/usr/libexec/heartbeat/heartbeat";

pub(super) struct Heartbeat;

impl Software for Heartbeat {
    fn fastest(&self) -> Setting {
        Setting::new(10, 5)
    }

    fn deadtime(&self, setting: Setting, _node: usize) -> Duration {
        setting.deadtime()
    }

    /// It refuses a deadtime that is not more than twice its keepalive, and flaps at just above.
    fn takes(&self, setting: Setting) -> bool {
        setting.count >= 3 && setting.interval >= Duration::from_millis(10)
    }

    fn start(&self, place: &Place<'_>) -> Result<Daemon> {
        let directory = place.directory.join(format!("heartbeat-{}", place.node));
        let config = directory.join("ha.d");
        fs::create_dir_all(&config).context("cannot make heartbeat's directory")?;
        fs::write(config.join("ha.cf"), configuration(place))?;
        fs::write(config.join("haresources"), format!("n0 IPaddr2::{SERVICE}/24/eth0\n"))?;
        fs::write(config.join("authkeys"), "auth 1\n1 sha1 a-key-for-the-bench\n")?;
        fs::set_permissions(config.join("authkeys"), fs::Permissions::from_mode(0o600))?;
        place.run(&script(&directory.display().to_string(), place.node), Box::new(read))
    }

    fn moves_address(&self) -> bool {
        true
    }

    fn is_installed(&self) -> bool {
        std::path::Path::new(PROGRAM).is_file()
    }

    /// A newcomer takes part after about two seconds.
    fn settle(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// For five seconds after its start it tells the other to give it initdead more.
    fn matures(&self) -> Duration {
        Duration::from_secs(6)
    }
}

fn configuration(place: &Place<'_>) -> String {
    let (keepalive, deadtime) = (place.setting.interval.as_millis(), place.setting.deadtime().as_millis());
    let media: String = (0..place.links)
        .map(|bridge| {
            let peer = Port { host: usize::from(place.node == 0), bridge };
            format!("ucast {} {}\n", peer.interface(), peer.ipv4())
        })
        .collect();
    format!(
        "logfacility none\nlogfile /run/log\nkeepalive {keepalive}ms\nwarntime {}ms\ndeadtime {deadtime}ms\n\
         initdead {}ms\nudpport 694\n{media}auto_failback off\nnode n0\nnode n1\ncrm no\nrealtime on\n",
        deadtime / 2,
        INITDEAD.as_millis(),
    )
}

/// Its own configuration, state and run directories, and its log by a pipe, so that the reading has a time. The directory
/// itself is below `/run` and out of sight once that is its own.
fn script(directory: &str, node: usize) -> String {
    format!(
        "set -e\ncd {directory}\nmkdir -p etc run/heartbeat/{{rsctmp,ccm,crm,dopd}} run/lock/subsys run/resource-agents\n\
         cp -a /etc/ha.d/. etc/\ncp ha.d/* etc/\n[ -d state ] || cp -a /var/lib/heartbeat state\n\
         rm -f run/heartbeat.pid run/heartbeat/register run/log\nmkfifo run/log\n\
         chown -R hacluster:haclient run/heartbeat\nchmod 1755 run/heartbeat/rsctmp\n\
         mount --bind etc /etc/ha.d\nmount --bind state /var/lib/heartbeat\nhostname n{node}\n\
         mount --bind run /run\ncd /\nexport HA_RSCTMP=/run/heartbeat/rsctmp\n\
         exec 3<>/run/log\n{PROGRAM} >&2\nexec cat <&3\n"
    )
}

fn read(line: &str) -> Option<Said> {
    if line.contains("is dead") && line.contains("node n") {
        Some(Said::Dead)
    } else if line.contains("status active") || line.contains("now has status active") {
        Some(Said::Alive)
    } else {
        None
    }
}
