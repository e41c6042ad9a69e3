//! corosync: a token ring over kronosnet, realtime by itself. A lost token is the verdict that a node failed; the address moves,
//! by this program, once the new membership without it is formed.

use std::fs;
use std::time::Duration;

use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result};

use super::daemon::{Daemon, Said};
use super::{Place, Setting, Software, is_program};

/// Below, it flaps by itself.
const TOKEN_MIN: Duration = Duration::from_millis(36);

pub(super) struct Corosync;

impl Software for Corosync {
    fn fastest(&self) -> Setting {
        Setting::new(10, 4)
    }

    /// The token's timeout (corosync.conf(5)).
    fn deadtime(&self, setting: Setting, _node: usize) -> Duration {
        setting.deadtime()
    }

    fn takes(&self, setting: Setting) -> bool {
        setting.deadtime() >= TOKEN_MIN
    }

    fn start(&self, place: &Place<'_>) -> Result<Daemon> {
        let directory = place.directory.join(format!("corosync-{}", place.node));
        fs::create_dir_all(&directory).context("cannot make corosync's directory")?;
        fs::write(directory.join("corosync.conf"), configuration(place))
            .context("cannot write corosync's configuration")?;
        // Its own run directory, state and shared memory; its other sockets are abstract, and the namespace's.
        let script = format!(
            "set -e\nmount -t tmpfs none /dev/shm\nmount -t tmpfs none /var/lib/corosync\nhostname n{}\n\
             rm -f {1}/*.pid {1}/*.lock\nmount --bind {1} /run\ncorosync -f -c /run/corosync.conf &\nwait\n",
            place.node,
            directory.display()
        );
        place.run(&script, Box::new(read))
    }

    fn moves_address(&self) -> bool {
        false
    }

    /// Once the membership without the other is formed.
    fn moves_by(&self) -> Said {
        Said::Serves
    }

    fn is_installed(&self) -> bool {
        is_program("corosync")
    }
}

fn read(line: &str) -> Option<Said> {
    if line.contains("A processor failed") {
        Some(Said::Dead)
    } else if line.contains("Members left") || line.contains("Failed to receive the leave message") {
        Some(Said::Serves)
    } else if line.contains("[QUORUM] Members[2]") {
        // A ring of one's own is formed first, and nobody joins when the verdict was false.
        Some(Said::Alive)
    } else {
        None
    }
}

fn configuration(place: &Place<'_>) -> String {
    let token = place.setting.deadtime().as_millis();
    let consensus = token * 6 / 5;
    let nodes: String = (0..2)
        .map(|host| {
            let rings: String = (0..place.links)
                .map(|bridge| format!("  ring{bridge}_addr: {}\n", Port { host, bridge }.ipv4()))
                .collect();
            format!(" node {{\n  nodeid: {}\n  name: n{host}\n{rings} }}\n", host + 1)
        })
        .collect();
    let links: String = (0..place.links)
        .map(|bridge| {
            format!(
                " interface {{\n  linknumber: {bridge}\n  knet_ping_interval: 100\n  knet_ping_timeout: 500\n  \
                 knet_pong_count: 1\n }}\n"
            )
        })
        .collect();
    let retransmits = retransmits(token);
    format!(
        "totem {{\n version: 2\n cluster_name: bench\n transport: knet\n link_mode: active\n crypto_cipher: none\n \
         crypto_hash: none\n token: {token}\n consensus: {consensus}\n join: 30\n \
         token_retransmits_before_loss_const: {retransmits}\n{links}}}\n\
         nodelist {{\n{nodes}}}\nquorum {{\n provider: corosync_votequorum\n two_node: 1\n wait_for_all: 0\n}}\n\
         logging {{\n to_stderr: yes\n to_logfile: no\n to_syslog: no\n timestamp: off\n}}\n"
    )
}

/// As often as it can be: a retransmission takes no less than 30 ms (corosync.conf(5) has 4 by default).
fn retransmits(token_ms: u128) -> u128 {
    (token_ms / 36).clamp(1, 10)
}

#[cfg(test)]
mod tests {
    use super::{Said, read};

    #[test]
    fn the_other_is_there_once_it_is_a_member() {
        assert_eq!(read("notice  [TOTEM ] A new membership (1.5) was formed. Members joined: 1"), None);
        assert_eq!(read("notice  [QUORUM] Members[1]: 1"), None);
        assert_eq!(read("notice  [QUORUM] Members[2]: 1 2"), Some(Said::Alive));
        assert_eq!(read("notice  [TOTEM ] A processor failed, forming new configuration"), Some(Said::Dead));
        let left = "notice  [TOTEM ] A new membership (1.13) was formed. Members left: 2";
        assert_eq!(read(left), Some(Said::Serves));
    }
}
