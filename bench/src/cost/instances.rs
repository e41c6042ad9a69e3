//! keepalived with many neighbours: two nodes with so many VRRP instances, one of them master of all, so that the other hears as
//! many streams of heartbeats as a node of a cluster of that size.

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::netns::Netns;
use agent_tests::lab::network::Network;
use agent_tests::lab::scratch::Scratch;
use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::meter::{Node, Span, measure};

/// Its fastest.
const INTERVAL_MS: u64 = 10;
const SPAN: Duration = Duration::from_secs(8);
/// Until one node is master of all, and the other has heard it.
const SETTLE: Duration = Duration::from_secs(3);
/// For an orderly end.
const PATIENCE: Duration = Duration::from_secs(3);
/// Priorities of backup and master.
const PRIORITIES: [u8; 2] = [100, 254];

/// Both nodes with `instances` each; the first is the backup, and hears what the second sends.
///
/// # Errors
/// It cannot be started, or does not send as it should.
pub fn sample(instances: usize) -> Result<Span> {
    let scratch = Scratch::new()?;
    let network = Network::new(&["n0", "n1"], 1)?;
    let hosts = [network.host(0)?, network.host(1)?];
    let daemons = [
        Keepalived::start(&scratch, hosts, 0, instances)?,
        Keepalived::start(&scratch, hosts, 1, instances)?,
    ];
    clock::pause(SETTLE)?;
    let nodes = [0, 1].map(|node| Node { pids: daemons[node].processes(), host: hosts[node] });
    let span = measure(&nodes, SPAN)?;
    let wanted = SPAN.as_secs_f64() * 1e3 / INTERVAL_MS as f64 * instances as f64;
    let sent = span.nodes.get(1).map_or(0.0, |node| node.frames);
    anyhow::ensure!(sent > wanted / 2.0, "keepalived sent {sent} of {wanted} advertisements");
    Ok(span)
}

struct Keepalived {
    child: Child,
}

impl Keepalived {
    fn start(scratch: &Scratch, hosts: [&Netns; 2], node: usize, instances: usize) -> Result<Self> {
        let config = scratch.root().join(format!("keepalived-{node}.conf"));
        fs::write(&config, configuration(node, instances))
            .context("cannot write keepalived's configuration")?;
        let file = |which: &str| config.with_extension(which);
        let mut command = hosts[node].command("keepalived");
        command.args(["-n", "-D", "-P", "-f"]).arg(&config);
        command.arg("-p").arg(file("pid")).arg("-r").arg(file("vrrp.pid"));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start keepalived")?;
        Ok(Self { child })
    }

    /// The parent and the child that speaks VRRP.
    fn processes(&self) -> Vec<u32> {
        let parent = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(parent).chain(children).collect()
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let all = self.processes();
        // In order, so that its child ends with it.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let ended = clock::wait_for("keepalived's end", PATIENCE, || Ok(self.child.try_wait()?));
        if ended.is_err() {
            for pid in all {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}

fn configuration(node: usize, instances: usize) -> String {
    let priority = PRIORITIES.get(node).copied().unwrap_or(1);
    let mut text = format!(
        "global_defs {{\n router_id n{node}\n vrrp_version 3\n vrrp_garp_master_delay 0\n vrrp_garp_master_repeat 1\n \
         vrrp_skip_check_adv_addr\n vrrp_rt_priority 50\n vrrp_no_swap\n}}\n"
    );
    for instance in 1..=instances {
        let _ = write!(
            text,
            "vrrp_instance V{instance} {{\n state BACKUP\n interface eth0\n virtual_router_id {instance}\n priority {priority}\n \
             advert_int {}\n down_timer_adverts 5\n virtual_ipaddress {{\n  10.77.9.{instance}/32 dev eth0\n }}\n}}\n",
            INTERVAL_MS as f64 / 1e3
        );
    }
    text
}
