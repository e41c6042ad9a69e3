//! `xbeat doctor` on nodes of the laboratory: before an agent runs, beside one, with somebody else's program on the interface,
//! and with things wrong. It changes nothing of what it looks at.

use agent_tests::lab::agent::xbeat_binary;
use agent_tests::lab::cluster::{Cluster, scenario};
use agent_tests::lab::config::{PingSpec, Spec};
use agent_tests::lab::foreign::ForeignXdp;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// The report of a node, and whether the command was content.
struct Report {
    content: bool,
    findings: Vec<Value>,
}

impl Report {
    fn of(cluster: &Cluster, node: usize) -> Result<Self> {
        let mut command = cluster.host(node)?.command(xbeat_binary()?);
        let command = command.args(["doctor", "--json", "--config"]);
        let output = command.arg(cluster.agent(node)?.config_path()).output()?;
        let text = String::from_utf8(output.stdout)?;
        let report: Value = serde_json::from_str(&text).with_context(|| format!("no report: {text}"))?;
        let findings = report["findings"].as_array().context("no findings")?.clone();
        let worst = report["status"].as_str().context("no status")?.to_owned();
        ensure!(output.status.success() == (worst != "fail"), "{worst} and {}", output.status);
        Ok(Self { content: output.status.success(), findings })
    }

    /// Whether there is such a line.
    fn has(&self, check: &str, status: &str, words: &str) -> bool {
        self.findings.iter().any(|finding| {
            finding["check"] == check
                && finding["status"] == status
                && finding["what"].as_str().is_some_and(|what| what.contains(words))
        })
    }
}

fn spec() -> Spec {
    let ping = PingSpec { bridge: 0, ipv6: false, deadtime: Duration::from_secs(2) };
    Spec { pings: vec![ping], ..Spec::default() }
}

/// Prints what people see.
fn show(cluster: &Cluster, node: usize) -> Result<()> {
    let mut command = cluster.host(node)?.command(xbeat_binary()?);
    let output = command.args(["doctor", "--config"]).arg(cluster.agent(node)?.config_path()).output()?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[test]
fn a_node_is_looked_at_before_and_while_its_agent_runs() -> Result<()> {
    scenario(spec(), |cluster| {
        let before = cluster.host(0)?.ip_output(&["link", "show", "eth0"])?;
        let report = Report::of(cluster, 0)?;
        show(cluster, 0)?;
        ensure!(report.content, "{:#?}", report.findings);
        for (check, words) in [
            ("agent", "no agent runs"),
            ("interface", "eth0 is up (veth, MTU 1500)"),
            ("programs", "takes the agent's programs"),
            ("bpffs", "is in a bpffs"),
            ("xdp", "native XDP is expected"),
            ("keys", "one key"),
            ("state_dir", "can be written"),
            ("privileges", "may do all"),
            ("ping", "IPv4 targets are asked through a raw socket"),
        ] {
            ensure!(report.has(check, "ok", words), "{check}: {:#?}", report.findings);
        }
        ensure!(cluster.host(0)?.ip_output(&["link", "show", "eth0"])? == before, "it changed the interface");

        cluster.start()?;
        let while_it_runs = cluster.host(0)?.ip_output(&["link", "show", "eth0"])?;
        let report = Report::of(cluster, 0)?;
        ensure!(report.has("agent", "ok", "runs here"), "{:#?}", report.findings);
        ensure!(report.has("xdp", "ok", "eth0: the agent receives by native"), "{:#?}", report.findings);
        ensure!(cluster.host(0)?.ip_output(&["link", "show", "eth0"])? == while_it_runs);
        cluster.wait_whole().map(drop)
    })
}

#[test]
fn what_is_wrong_is_named() -> Result<()> {
    scenario(spec(), |cluster| {
        let foreign = ForeignXdp::attach(cluster.host(1)?, "eth0", "someone_else")?;
        cluster.host(1)?.sysctl("ipv4/ping_group_range", "0 2147483647")?;
        let report = Report::of(cluster, 1)?;
        ensure!(report.has("xdp", "warn", "someone_else"), "{:#?}", report.findings);
        ensure!(report.has("ping", "ok", "without privilege"), "{:#?}", report.findings);
        let shown = cluster.host(1)?.ip_output(&["link", "show", "eth0"])?;
        ensure!(shown.contains(&format!("id {}", foreign.id())), "{shown}");

        cluster.host(0)?.ip("addr del 10.77.0.1/24 dev eth0\nlink set eth0 mtu 1300")?;
        let report = Report::of(cluster, 0)?;
        ensure!(!report.content);
        ensure!(report.has("interface", "fail", "does not have 10.77.0.1"), "{:#?}", report.findings);
        ensure!(report.has("mtu", "warn", "have 1443 bytes"), "{:#?}", report.findings);
        cluster.host(0)?.ip("link set eth0 down")?;
        ensure!(Report::of(cluster, 0)?.has("interface", "fail", "eth0 is down"));
        Ok(())
    })
}
