//! keepalived with many neighbours: a backup of so many VRRP instances, each with a master of its own on a node of its own, so that it
//! hears as many streams of heartbeats, each in its own time, as a node of a cluster of that size.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::netns::Netns;
use agent_tests::lab::network::{Network, Port};
use agent_tests::lab::scratch::Scratch;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::meter::{Node, Span, measure};

const SPAN: Duration = Duration::from_secs(8);
/// Until one node is master of all, and the other has heard it.
const SETTLE: Duration = Duration::from_secs(3);
/// For an orderly end.
const PATIENCE: Duration = Duration::from_secs(3);
/// Priorities of backup and master.
const BACKUP: u8 = 100;
const MASTER: u8 = 254;

/// A backup, the first node, hears `masters` others, of which each sends it an advertisement `every` so often.
///
/// # Errors
/// It cannot be started, or does not send as it should.
pub fn sample(masters: usize, every: Duration) -> Result<Span> {
    let scratch = Scratch::new()?;
    let names: Vec<String> = (0..=masters).map(|node| format!("n{node}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let network = Network::new(&names, 1)?;
    let start = |node: usize| Keepalived::start(&scratch, network.host(node)?, node, masters, every);
    let daemons = (0..=masters).map(start).collect::<Result<Vec<_>>>()?;
    clock::pause(SETTLE)?;
    let nodes = daemons
        .iter()
        .enumerate()
        .map(|(node, daemon)| Ok(Node { pids: daemon.processes(), host: network.host(node)? }))
        .collect::<Result<Vec<_>>>()?;
    let span = measure(&nodes, SPAN)?;
    let wanted = SPAN.as_secs_f64() / every.as_secs_f64();
    for (master, taken) in span.nodes.iter().enumerate().skip(1) {
        let sent = taken.frames;
        ensure!(sent > wanted / 2.0, "keepalived's master {master} sent {sent} of {wanted} advertisements");
    }
    Ok(span)
}

struct Keepalived {
    child: Child,
}

impl Keepalived {
    fn start(scratch: &Scratch, host: &Netns, node: usize, masters: usize, every: Duration) -> Result<Self> {
        let config = scratch.root().join(format!("keepalived-{node}.conf"));
        fs::write(&config, configuration(node, masters, every))
            .context("cannot write keepalived's configuration")?;
        let file = |which: &str| config.with_extension(which);
        let mut command = host.command("keepalived");
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

/// Node 0 is in all instances, every other in its own. Unicast: a master hears nothing of the others.
fn configuration(node: usize, masters: usize, every: Duration) -> String {
    let mut text = format!(
        "global_defs {{\n router_id n{node}\n vrrp_version 3\n vrrp_garp_master_delay 0\n vrrp_garp_master_repeat 1\n \
         vrrp_skip_check_adv_addr\n vrrp_rt_priority 50\n vrrp_no_swap\n}}\n"
    );
    let (instances, priority) = if node == 0 { (1..=masters, BACKUP) } else { (node..=node, MASTER) };
    for instance in instances {
        let (own, other) = (address(node), address(if node == 0 { instance } else { 0 }));
        let _ = write!(
            text,
            "vrrp_instance V{instance} {{\n state BACKUP\n interface eth0\n virtual_router_id {instance}\n priority {priority}\n \
             advert_int {}\n down_timer_adverts 5\n unicast_src_ip {own}\n unicast_peer {{\n  {other}\n }}\n \
             virtual_ipaddress {{\n  10.77.9.{instance}/32 dev eth0\n }}\n}}\n",
            every.as_secs_f64()
        );
    }
    text
}

fn address(host: usize) -> Ipv4Addr {
    Port { host, bridge: 0 }.ipv4()
}
