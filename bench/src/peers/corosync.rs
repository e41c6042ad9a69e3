//! corosync: a token ring over kronosnet, realtime by itself. A lost token is the verdict that a node failed; the address moves,
//! by this program, once the new membership without it is formed.

use std::fs;
use std::time::Duration;

use agent_tests::lab::network::{Network, Port};
use agent_tests::lab::scratch::Scratch;
use anyhow::{Context as _, Result};

use super::daemon::{Daemon, Said};
use super::{Setting, Software, is_program};

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

    fn start(
        &self,
        network: &Network,
        scratch: &Scratch,
        node: usize,
        setting: Setting,
    ) -> Result<Vec<Daemon>> {
        let directory = scratch.root().join(format!("corosync-{node}"));
        fs::create_dir_all(&directory).context("cannot make corosync's directory")?;
        fs::write(directory.join("corosync.conf"), configuration(setting))
            .context("cannot write corosync's configuration")?;
        // Its own run directory, state and shared memory; its other sockets are abstract, and the namespace's.
        let script = format!(
            "set -e\nmount -t tmpfs none /dev/shm\nmount -t tmpfs none /var/lib/corosync\nhostname n{node}\n\
             rm -f {0}/*.pid {0}/*.lock\nmount --bind {0} /run\nexec corosync -f -c /run/corosync.conf\n",
            directory.display()
        );
        let mut command = network.host(node)?.command("unshare");
        command.args(["--mount", "--uts", "--propagation", "private", "sh", "-c", &script]);
        Ok(vec![Daemon::start(command, read)?])
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

    fn settle(&self) -> Duration {
        Duration::from_secs(2)
    }
}

fn read(line: &str) -> Option<Said> {
    if line.contains("A processor failed") {
        Some(Said::Dead)
    } else if line.contains("Members left") || line.contains("Failed to receive the leave message") {
        Some(Said::Serves)
    } else if line.contains("Members joined")
        || line.contains("Sync joined[1]: 1")
        || line.contains("joined: ")
    {
        Some(Said::Alive)
    } else {
        None
    }
}

fn configuration(setting: Setting) -> String {
    let token = setting.deadtime().as_millis();
    let consensus = token * 6 / 5;
    let nodes: String = (0..2)
        .map(|node| {
            let address = Port { host: node, bridge: 0 }.ipv4();
            format!(" node {{\n  nodeid: {}\n  name: n{node}\n  ring0_addr: {address}\n }}\n", node + 1)
        })
        .collect();
    format!(
        "totem {{\n version: 2\n cluster_name: bench\n transport: knet\n crypto_cipher: none\n crypto_hash: none\n \
         token: {token}\n consensus: {consensus}\n join: 30\n token_retransmits_before_loss_const: 1\n \
         interface {{\n  linknumber: 0\n  knet_ping_interval: 100\n  knet_ping_timeout: 500\n  knet_pong_count: 1\n }}\n}}\n\
         nodelist {{\n{nodes}}}\nquorum {{\n provider: corosync_votequorum\n two_node: 1\n wait_for_all: 0\n}}\n\
         logging {{\n to_stderr: yes\n to_logfile: no\n to_syslog: no\n timestamp: off\n}}\n"
    )
}
