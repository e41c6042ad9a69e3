//! What the agent puts on an interface, and beside whom: a classifier where it is wanted or where XDP is taken, a foreign
//! program that is named and left alone, and the change from one way to another between two starts.

use std::path::PathBuf;
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, scenario};
use agent_tests::lab::config::{Policy, Spec, Xdp};
use agent_tests::lab::failover::{Kill, fail_over};
use agent_tests::lab::foreign::{ForeignTcx, ForeignXdp, classifiers};
use anyhow::{Context as _, Result, ensure};

const LIMIT: Duration = Duration::from_secs(15);

fn mode(cluster: &Cluster, node: usize) -> Result<String> {
    let status = cluster.agent(node)?.status()?;
    Ok(status["xdp"]["eth0"].as_str().context("no mode of eth0")?.to_owned())
}

/// Whether a line of a node's log has all of `words`.
fn has_logged(cluster: &Cluster, node: usize, words: &[&str]) -> Result<bool> {
    let log = cluster.agent(node)?.log();
    Ok(log.iter().any(|line| words.iter().all(|word| line.contains(word))))
}

/// The pins of a node's eth0, as they begin.
fn pins(cluster: &Cluster, node: usize) -> Result<Vec<String>> {
    let mut ways = Vec::new();
    // Where nothing is pinned, the directory goes as well.
    let Ok(entries) = std::fs::read_dir(bpffs(cluster, node)) else { return Ok(ways) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ways.extend(name.ends_with("-eth0").then(|| name.split('-').next().unwrap_or_default().to_owned()));
    }
    ways.sort();
    Ok(ways)
}

fn bpffs(cluster: &Cluster, node: usize) -> PathBuf {
    let scratch = cluster.scratch();
    scratch.bpffs().unwrap_or(scratch.root()).join(cluster.name(node))
}

#[test]
fn heartbeats_and_gate_by_a_classifier() -> Result<()> {
    let spec = Spec { nodes: 3, witnesses: 1, policy: Policy::Majority, xdp: Xdp::Tcx, ..Spec::default() };
    scenario(spec, |cluster| {
        let holder = cluster.start()?;
        let survivor = cluster.other(holder);
        for node in 0..3 {
            assert_eq!(mode(cluster, node)?, "tcx");
            assert_eq!(cluster.agent(node)?.status()?["gate"], "kernel");
            let listed = cluster.host(node)?.ip_output(&["link", "show", "eth0"])?;
            ensure!(!listed.contains("prog/xdp"), "{listed}");
        }
        assert_eq!(pins(cluster, holder)?, ["egress", "tcx"]);
        assert_eq!(classifiers(cluster.host(holder)?, "eth0")?.len(), 1);

        // As with XDP, a steady heartbeat wakes nobody.
        clock::pause(Duration::from_secs(1))?;
        let before = cluster.metrics(survivor)?;
        clock::pause(Duration::from_secs(2))?;
        let after = cluster.metrics(survivor)?;
        let rose = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
        ensure!(rose("xbeat_heartbeats_received_total") > 20.0, "{}", after.text());
        ensure!(rose("xbeat_receive_wakeups_total").abs() < 0.5, "{}", after.text());
        ensure!(
            after.sum("xbeat_receive_mode", &["interface=\"eth0\"", "mode=\"tcx\""]) > 0.5,
            "{}",
            after.text()
        );

        // The gate's ingress half: nobody answers for the killed agent, although its address is still there.
        let observer = cluster.observer()?;
        let events = cluster.events(survivor)?;
        fail_over(cluster, holder, survivor, Kill::Agent, &events, LIMIT)?;
        ensure!(cluster.holders()?.contains(&holder), "the address is still there");
        clock::pause(cluster.spec().deadtime)?;
        let (from_ns, asked) = (clock::now_ns(), observer.asked(holder));
        clock::pause(Duration::from_secs(1))?;
        ensure!(observer.asked(holder) > asked + 100, "the witness: it was asked all the time");
        let answers = observer.answers_since(from_ns);
        ensure!(
            answers.len() > 100 && answers.iter().all(|answer| answer.node == survivor),
            "its gate is open"
        );
        Ok(())
    })
}

/// Somebody else's program is on node 1: it stays, is named, and a classifier receives and guards beside it.
fn beside_another(foreign: impl FnOnce(&Cluster) -> Result<ForeignXdp>, words: &[&str]) -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let foreign = foreign(cluster)?;
        cluster.start()?;
        assert_eq!((mode(cluster, 0)?.as_str(), mode(cluster, 1)?.as_str()), ("native", "tcx"));
        assert_eq!(cluster.agent(1)?.status()?["gate"], "kernel");
        let id = format!("id {}", foreign.id());
        let words: Vec<&str> = words.iter().copied().chain([id.as_str()]).collect();
        ensure!(has_logged(cluster, 1, &words)?, "no line has {words:?}: {:#?}", cluster.agent(1)?.log());
        ensure!(cluster.host(1)?.ip_output(&["link", "show", "eth0"])?.contains(&id));
        let received = |cluster: &Cluster| -> Result<f64> {
            Ok(cluster.metrics(1)?.sum("xbeat_heartbeats_received_total", &[]))
        };
        let before = received(cluster)?;
        clock::wait_for("heartbeats", LIMIT, || Ok((received(cluster)? > before + 10.0).then_some(())))
    })
}

#[test]
fn another_xdp_program_is_left_alone_and_named() -> Result<()> {
    let words = ["someone_else", "native", "attached by link", "left alone"];
    beside_another(|cluster| ForeignXdp::attach(cluster.host(1)?, "eth0", "someone_else"), &words)
}

#[test]
fn the_dispatcher_of_libxdp_is_left_alone_and_named() -> Result<()> {
    let words = ["xdp_dispatcher", "attached by netlink", "libxdp", "left alone"];
    let attach = |cluster: &Cluster| {
        let pin = bpffs(cluster, 1).with_file_name("foreign");
        ForeignXdp::attach_by_netlink(cluster.host(1)?, "eth0", "xdp_dispatcher", &pin)
    };
    beside_another(attach, &words)
}

#[test]
fn another_classifier_runs_after_ours() -> Result<()> {
    scenario(Spec { xdp: Xdp::Tcx, ..Spec::default() }, |cluster| {
        let foreign = ForeignTcx::attach(cluster.host(1)?, "eth0", "someone_else")?;
        cluster.start()?;
        assert_eq!(mode(cluster, 1)?, "tcx");
        let order = classifiers(cluster.host(1)?, "eth0")?;
        ensure!(order.len() == 2 && order[1] == foreign.id(), "{order:?}, foreign is {}", foreign.id());
        // What is not ours goes on to it; what is, does not.
        let received = |cluster: &Cluster| -> Result<f64> {
            Ok(cluster.metrics(1)?.sum("xbeat_heartbeats_received_total", &[]))
        };
        let (heard, runs) = (received(cluster)?, foreign.runs()?);
        cluster.host(0)?.ip("neigh flush dev eth0")?;
        let ping = cluster
            .host(0)?
            .command("ping")
            .args(["-c", "3", "-i", "0.2", "-W", "2", "10.77.0.2"])
            .output()?;
        ensure!(ping.status.success(), "what is not ours does not get through");
        clock::wait_for("heartbeats", LIMIT, || Ok((received(cluster)? > heard + 20.0).then_some(())))?;
        let ran = foreign.runs()? - runs;
        ensure!(ran > 0, "it does not run any more");
        Ok(())
    })
}

/// Rewrites the way of a node that does not run.
fn set_xdp(cluster: &Cluster, node: usize, xdp: &str) -> Result<()> {
    let path = cluster.agent(node)?.config_path();
    let text = std::fs::read_to_string(&path)?;
    let lines = text
        .lines()
        .map(|line| if line.starts_with("xdp = ") { format!("xdp = \"{xdp}\"") } else { line.to_owned() });
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).context("cannot write the configuration")
}

/// Also while the agent is not there yet.
fn wait_up(cluster: &Cluster, observer: usize, node: usize) -> Result<()> {
    clock::wait_for("a node to be up again", LIMIT, || {
        let seen = cluster.seen(observer, node);
        Ok(seen.ok().filter(|seen| seen["state"] == "up" && seen["links"][0]["state"] == "up").map(drop))
    })
}

#[test]
fn the_way_changes_between_two_starts() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        cluster.start()?;
        assert_eq!(
            (mode(cluster, 1)?.as_str(), pins(cluster, 1)?),
            ("native", vec!["egress".into(), "ingress".into()])
        );
        // Killed: all that is pinned is still there when the next one starts.
        for (xdp, expected, left) in [
            ("tcx", "tcx", vec!["egress", "tcx"]),
            ("tcx", "tcx", vec!["egress", "tcx"]),
            ("generic", "generic", vec!["egress", "ingress"]),
            ("native", "native", vec!["egress", "ingress"]),
            ("off", "socket", vec![]),
            ("tcx", "tcx", vec!["egress", "tcx"]),
        ] {
            cluster.agent(1)?.kill()?;
            cluster.agent_mut(1)?.reap(LIMIT)?;
            set_xdp(cluster, 1, xdp)?;
            cluster.start_agent(1)?;
            wait_up(cluster, 1, 0)?;
            wait_up(cluster, 0, 1)?;
            assert_eq!(mode(cluster, 1)?, expected);
            assert_eq!(pins(cluster, 1)?, left, "after {xdp}");
            let has_xdp = cluster.host(1)?.ip_output(&["link", "show", "eth0"])?.contains("prog/xdp");
            assert_eq!(has_xdp, ["native", "generic"].contains(&expected), "after {xdp}");
            let count = usize::from(expected == "tcx");
            assert_eq!(classifiers(cluster.host(1)?, "eth0")?.len(), count, "after {xdp}");
        }
        Ok(())
    })
}
