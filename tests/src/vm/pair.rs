//! Two machines of one kernel, joined by a network and a serial cable, and what a test asks of the cluster on them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::config::{GROUP, Node, Spec};
use super::initramfs;
use super::machine::{Machine, Plan, until};
use super::protocol::{INTERFACE, Order};
use super::wire::Wire;

/// The initramfs in the machines' directory.
const IMAGE: &str = "initramfs";
/// What a cluster may take to agree.
const AGREE_LIMIT: Duration = Duration::from_secs(45);

/// What the machines of one kernel are made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `qemu-system-x86_64`.
    pub qemu: &'a Path,
    /// `vmlinuz` and `modules/`.
    pub kernel: &'a Path,
    /// Static binaries.
    pub programs: &'a Path,
    /// eBPF objects.
    pub objects: &'a Path,
    /// The key file's content.
    pub keys: &'a str,
}

/// Two running machines.
#[derive(Debug)]
pub struct Pair {
    alpha: Machine,
    beta: Machine,
    _wire: Wire,
}

impl Pair {
    /// Boots both; sockets and logs go to `directory`.
    ///
    /// # Errors
    /// One does not boot.
    pub fn boot(parts: Parts<'_>, directory: &Path) -> Result<Self> {
        if directory.exists() {
            // What an earlier run left, its sockets above all.
            fs::remove_dir_all(directory).context("cannot remove what an earlier run left")?;
        }
        fs::create_dir_all(directory)?;
        let content = initramfs::build(initramfs::Parts {
            programs: parts.programs,
            objects: parts.objects,
            modules: &parts.kernel.join("modules"),
            keys: parts.keys,
        })?;
        fs::write(directory.join(IMAGE), content).context("cannot write the initramfs")?;
        let kernel = parts.kernel.join("vmlinuz");
        let plan = Plan { qemu: parts.qemu, kernel: &kernel, image: IMAGE, directory };
        let wire = Wire::start(directory)?;
        let alpha = Machine::start(plan, Node::Alpha)?;
        let beta = Machine::start(plan, Node::Beta)?;
        let mut pair = Self { alpha, beta, _wire: wire };
        pair.alpha.wait_for_boot()?;
        pair.beta.wait_for_boot()?;
        Ok(pair)
    }

    /// One of them.
    pub fn on(&mut self, node: Node) -> &mut Machine {
        match node {
            Node::Alpha => &mut self.alpha,
            Node::Beta => &mut self.beta,
        }
    }

    /// Starts an agent.
    ///
    /// # Errors
    /// It does not answer.
    pub fn start(&mut self, node: Node, spec: Spec) -> Result<()> {
        self.on(node).order(Order::Start { config: spec.toml(node) })
    }

    /// `xbeat status --json`.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn status(&mut self, node: Node) -> Result<Status> {
        self.on(node).ask(Order::Status).map(Status)
    }

    /// Waits until each sees the other up and exactly one serves: who.
    ///
    /// # Errors
    /// They do not agree in time.
    pub fn agreed(&mut self) -> Result<Node> {
        let mut last = String::new();
        let agreed = until("two nodes that see each other, one of which serves", AGREE_LIMIT, || {
            let (alpha, beta) = (self.status(Node::Alpha)?, self.status(Node::Beta)?);
            last = format!("alpha: {}; beta: {}", alpha.short(), beta.short());
            let all_up = alpha.sees_up(Node::Beta) && beta.sees_up(Node::Alpha);
            Ok(match (all_up, alpha.serves(), beta.serves()) {
                (true, true, false) => Some(Node::Alpha),
                (true, false, true) => Some(Node::Beta),
                (true | false, _, _) => None,
            })
        });
        agreed.with_context(|| last)
    }
}

/// An agent's status.
#[derive(Clone, Debug)]
pub struct Status(Value);

impl Status {
    /// Whether this node serves the group.
    pub fn serves(&self) -> bool {
        let groups = self.list("groups");
        groups.iter().any(|group| text(group, "name") == GROUP && text(group, "state") == "serving")
    }

    /// Whether it sees a node up.
    pub fn sees_up(&self, node: Node) -> bool {
        self.node(node).is_some_and(|node| text(node, "state") == "up")
    }

    /// The state of its link to a node whose name begins so, as `serial`; empty when there is none.
    pub fn link(&self, node: Node, kind: &str) -> String {
        let links = self.node(node).and_then(|node| node.get("links")?.as_array());
        let link = links.and_then(|links| links.iter().find(|link| text(link, "link").starts_with(kind)));
        link.map_or_else(String::new, |link| text(link, "state").to_owned())
    }

    /// How it receives.
    pub fn receives(&self) -> &str {
        self.0.get("xdp").map_or("", |modes| text(modes, INTERFACE))
    }

    /// Who shuts an address.
    pub fn gate(&self) -> &str {
        text(&self.0, "gate")
    }

    /// The latest wake-up of the agent's realtime thread, in microseconds.
    pub fn lateness_max_us(&self) -> u64 {
        self.0.pointer("/realtime/lateness_max_us").and_then(Value::as_u64).unwrap_or(0)
    }

    fn node(&self, node: Node) -> Option<&Value> {
        self.list("nodes").iter().find(|value| text(value, "name") == node.name())
    }

    fn list(&self, key: &str) -> &[Value] {
        self.0.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// For a failure.
    fn short(&self) -> String {
        let nodes: Vec<String> = self
            .list("nodes")
            .iter()
            .map(|node| format!("{} {}", text(node, "name"), text(node, "state")))
            .collect();
        let groups: Vec<&str> = self.list("groups").iter().map(|group| text(group, "state")).collect();
        format!("{}, group {}, received by {}", nodes.join(", "), groups.join(", "), self.receives())
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}
