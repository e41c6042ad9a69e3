//! Nodes that the configuration file does not list: one joins a running cluster of three, has no vote, stays known over
//! restarts, is removed and kept out, and cannot take the id of another. The client notices nothing of it.

use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, STOP, scenario};
use agent_tests::lab::config::{Cast, LinkSpec, Policy, Spec};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// The one that is not listed.
const DELTA: usize = 3;

fn spec() -> Spec {
    Spec {
        nodes: 4,
        // Delta, which the edited files do not list: so it is in no group either.
        witnesses: 1,
        deadtime: Duration::from_secs(1),
        initdead: Duration::from_secs(2),
        links: vec![LinkSpec { bridge: 0, cast: Cast::Broadcast, ipv6: false }],
        policy: Policy::Majority,
        ..Spec::default()
    }
}

fn edit(cluster: &Cluster, node: usize, change: impl Fn(String) -> String) -> Result<()> {
    let path = cluster.agent(node)?.config_path();
    std::fs::write(&path, change(std::fs::read_to_string(&path)?))?;
    Ok(())
}

/// Three nodes are listed, and any may join.
fn unlist_delta(cluster: &Cluster) -> Result<()> {
    for node in 0..4 {
        edit(cluster, node, |text| {
            let listed = "[[node]]\nname = \"delta\"\nwitness = true\n\n";
            assert!(text.contains(listed), "{text}");
            text.replace(listed, "").replacen("[cluster]\n", "[cluster]\nautojoin = \"any\"\n", 1)
        })?;
    }
    Ok(())
}

/// What `observer` says of the node called `name`.
fn seen(cluster: &Cluster, observer: usize, name: &str) -> Result<Option<Value>> {
    let status = cluster.agent(observer)?.status()?;
    let nodes = status["nodes"].as_array().context("status lists no nodes")?;
    Ok(nodes.iter().find(|node| node["name"] == name).cloned())
}

fn wait_up(cluster: &Cluster, observer: usize, name: &str) -> Result<Value> {
    clock::wait_for(&format!("{name} to be up to {}", cluster.name(observer)), LIMIT, || {
        // The agent may not answer yet.
        let seen = seen(cluster, observer, name).unwrap_or(None);
        Ok(seen.filter(|node| node["state"] == "up"))
    })
}

fn wait_gone(cluster: &Cluster, observer: usize, name: &str) -> Result<()> {
    clock::wait_for(&format!("{name} to be down to {}", cluster.name(observer)), LIMIT, || {
        let seen = seen(cluster, observer, name)?;
        let down = seen.is_none_or(|node| node["state"] == "leaving" || node["state"] == "dead");
        Ok(down.then_some(()))
    })
}

/// The three listed nodes run and one of them serves.
fn start_three(cluster: &mut Cluster) -> Result<usize> {
    unlist_delta(cluster)?;
    for node in 0..3 {
        cluster.start_agent(node)?;
    }
    for observer in 0..3 {
        for node in 0..3 {
            wait_up(cluster, observer, cluster.name(node))?;
        }
    }
    clock::wait_for("an answer of the service", LIMIT, || {
        Ok(cluster.client().newest_answer(Duration::from_millis(500)).map(|answer| usize::from(answer.node)))
    })
}

/// Delta runs and everybody sees it; what of it all say is the same.
fn start_delta(cluster: &mut Cluster) -> Result<()> {
    cluster.start_agent(DELTA)?;
    for observer in 0..3 {
        let delta = wait_up(cluster, observer, "delta")?;
        ensure!(delta["joined"] == true && delta["witness"] == false, "{delta}");
    }
    for node in 0..3 {
        wait_up(cluster, DELTA, cluster.name(node))?;
    }
    Ok(())
}

#[test]
fn a_node_joins_without_a_vote_and_without_a_gap() -> Result<()> {
    scenario(spec(), |cluster| {
        let holder = start_three(cluster)?;
        assert_eq!(seen(cluster, 0, "delta")?, None);
        let events = cluster.events(0)?;
        let from_ns = clock::now_ns();
        start_delta(cluster)?;
        let joined =
            events.wait(from_ns, &[("event", "node"), ("node", "delta"), ("to", "joined")], LIMIT)?;
        assert!(joined.text("reason").is_none());
        assert!(cluster.metrics(0)?.sum("xbeat_joined_nodes", &[]) > 0.5);
        // A join changes nothing for the group: nobody is asked anew, no packet is lost.
        clock::pause(cluster.spec().deadtime * 2)?;
        let moved = events.since(from_ns).into_iter().find(|event| {
            ["group", "lease", "gate", "address"].contains(&event.text("event").unwrap_or_default())
        });
        assert_eq!(moved, None);
        let (sent, lost) = cluster.client().lost(from_ns, clock::now_ns() - 500_000_000);
        assert!(sent > 1000 && lost == 0, "{lost} of {sent} lost");
        let votes = cluster.agent(0)?.status()?["groups"][0]["votes"].clone();
        let votes = votes.as_array().context("no votes")?.clone();
        assert!(!votes.is_empty() && votes.iter().all(|voter| voter != "delta"), "{votes:?}");

        // Two votes of three are gone; delta, which is up, is no substitute.
        let rest = (0..3).filter(|node| *node != holder).collect::<Vec<usize>>();
        for node in rest {
            cluster.agent_mut(node)?.stop(STOP)?;
        }
        clock::wait_for("quorum to be lost", LIMIT, || {
            Ok((cluster.agent(holder)?.status()?["quorum"] == false).then_some(()))
        })?;
        wait_up(cluster, holder, "delta").map(drop)
    })
}

#[test]
fn who_joined_is_known_over_restarts_until_removed() -> Result<()> {
    scenario(spec(), |cluster| {
        start_three(cluster)?;
        start_delta(cluster)?;
        // Over a restart of either side. Beta's new process knows delta before it hears it again.
        cluster.agent_mut(DELTA)?.stop(STOP)?;
        wait_gone(cluster, 0, "delta")?;
        cluster.agent_mut(1)?.stop(STOP)?;
        cluster.start_agent(1)?;
        let known =
            clock::wait_for("beta to answer", LIMIT, || Ok(seen(cluster, 1, "delta").unwrap_or(None)))?;
        assert_eq!(known["joined"], true);
        start_delta(cluster)?;

        let alive = cluster.agent(0)?.ask(&["node", "remove", "delta"]).unwrap_err().to_string();
        assert!(alive.contains("is heard"), "{alive}");
        let listed = cluster.agent(0)?.ask(&["node", "remove", "beta"]).unwrap_err().to_string();
        assert!(listed.contains("listed in the configuration file"), "{listed}");
        let events = cluster.events(0)?;
        let from_ns = clock::now_ns();
        cluster.agent_mut(DELTA)?.stop(STOP)?;
        wait_gone(cluster, 0, "delta")?;
        cluster.agent(0)?.ask(&["node", "remove", "delta"])?;
        assert_eq!(seen(cluster, 0, "delta")?, None);
        // It comes back: where it was removed it is kept out, and that is told; elsewhere it is as before.
        cluster.start_agent(DELTA)?;
        wait_up(cluster, 1, "delta")?;
        let refused =
            events.wait(from_ns, &[("event", "node"), ("node", "delta"), ("to", "refused")], LIMIT)?;
        assert!(refused.text("reason").is_some_and(|reason| reason.contains("was removed")));
        assert_eq!(seen(cluster, 0, "delta")?, None);
        cluster.agent(0)?.ask(&["node", "add", "delta"])?;
        wait_up(cluster, 0, "delta").map(drop)
    })
}

#[test]
fn a_restart_without_a_gap_keeps_who_joined() -> Result<()> {
    scenario(spec(), |cluster| {
        let holder = start_three(cluster)?;
        start_delta(cluster)?;
        let witness = (holder + 1) % 3;
        let events = cluster.events(witness)?;
        let from_ns = clock::now_ns();
        for node in [holder, DELTA] {
            cluster.agent(node)?.ask(&["restart"])?;
            let delta = wait_up(cluster, holder, "delta")?;
            assert_eq!(delta["joined"], true);
        }
        clock::pause(cluster.spec().deadtime * 2)?;
        let dead = events.since(from_ns).into_iter().find(|event| event.text("to") == Some("dead"));
        assert_eq!(dead, None);
        let (sent, lost) = cluster.client().lost(from_ns, clock::now_ns() - 500_000_000);
        assert!(sent > 1000 && lost == 0, "{lost} of {sent} lost");
        cluster.expect_service_from(holder)
    })
}

#[test]
fn another_name_with_the_id_of_a_node_that_joined_is_refused() -> Result<()> {
    scenario(spec(), |cluster| {
        start_three(cluster)?;
        start_delta(cluster)?;
        cluster.agent_mut(DELTA)?.stop(STOP)?;
        wait_gone(cluster, 1, "delta")?;
        let events = cluster.events(1)?;
        let from_ns = clock::now_ns();
        // Its id stays in its state directory.
        edit(cluster, DELTA, |text| text.replacen("node = \"delta\"", "node = \"epsilon\"", 1))?;
        cluster.start_agent(DELTA)?;
        let refused =
            events.wait(from_ns, &[("event", "node"), ("node", "epsilon"), ("to", "refused")], LIMIT)?;
        let reason = refused.text("reason").context("no reason")?;
        assert!(reason.contains("belongs to delta"), "{reason}");
        assert_eq!(seen(cluster, 1, "epsilon")?, None);
        Ok(())
    })
}
