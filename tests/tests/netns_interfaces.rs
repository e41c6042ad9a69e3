//! The interfaces of a running agent: `status --json`, `events --follow --json` and `/metrics` as the design promises them,
//! and what the agent takes from its machine.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, STOP, scenario};
use agent_tests::lab::config::{GROUP, Spec};
use agent_tests::lab::failover::{Kill, fail_over};
use agent_tests::lab::process;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(15);

/// Whether a value is an object with at least these keys.
fn expect_keys(value: &Value, keys: &[&str]) -> Result<()> {
    let object = value.as_object().with_context(|| format!("not an object: {value}"))?;
    for key in keys {
        ensure!(object.contains_key(*key), "{key} is missing in {value}");
    }
    Ok(())
}

fn expect_one_of(value: &Value, allowed: &[&str]) -> Result<()> {
    ensure!(value.as_str().is_some_and(|text| allowed.contains(&text)), "{value} is none of {allowed:?}");
    Ok(())
}

#[test]
fn status_has_the_promised_form() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        // Loss and round trips are known after a few heartbeats.
        clock::pause(Duration::from_secs(1))?;
        let status = cluster.agent(holder)?.status()?;
        expect_keys(&status, &["node", "cluster", "quorum", "gate", "xdp", "nodes", "groups"])?;
        assert_eq!(status["node"], cluster.name(holder));
        assert_eq!(status["cluster"], cluster.spec().cluster.as_str());
        assert_eq!(status["quorum"], true);
        expect_one_of(&status["gate"], &["kernel", "userspace"])?;
        expect_one_of(&status["xdp"]["eth0"], &["native", "generic", "tcx", "socket"])?;
        let nodes = status["nodes"].as_array().context("nodes is no list")?;
        assert_eq!(nodes.len(), 2);
        for node in nodes {
            expect_keys(node, &["name", "state", "witness", "incarnation", "last_heard_ms", "links"])?;
            assert_eq!(node["state"], "up");
            assert_eq!(node["witness"], false);
        }
        let peer = &nodes[cluster.other(holder)];
        assert!(peer["last_heard_ms"].as_u64().context("never heard")? < 5_000, "{peer}");
        let link = &peer["links"][0];
        expect_keys(link, &["link", "state", "rtt_us", "loss"])?;
        assert_eq!(link["state"], "up");
        assert!(link["loss"].as_f64().context("loss is no number")? < 0.5, "{link}");
        let group = &status["groups"][0];
        expect_keys(group, &["name", "state", "owner", "epoch", "lease_ms"])?;
        assert_eq!(group["name"], GROUP);
        assert_eq!(group["state"], "serving");
        assert_eq!(group["owner"], cluster.name(holder));
        let other = cluster.agent(cluster.other(holder))?.status()?;
        assert_eq!(other["groups"][0]["state"], "stopped");
        Ok(())
    })
}

#[test]
fn status_has_a_table_for_people() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let text = cluster.agent(holder)?.ask(&["status"])?;
        for wanted in [cluster.name(0), cluster.name(1), GROUP, "10.77.0.100"] {
            assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
        }
        Ok(())
    })
}

/// One request on the control socket, and its answer.
fn request(cluster: &Cluster, node: usize, line: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(cluster.agent(node)?.directory().join("xbeat.sock"))?;
    writeln!(stream, "{line}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    serde_json::from_str(&answer).with_context(|| format!("{line} was answered {answer}"))
}

#[test]
fn who_has_an_answer_sees_its_effect() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        for on in [true, false].repeat(20) {
            let answer = request(cluster, holder, &format!("{{\"command\":\"maintenance\",\"on\":{on}}}"))?;
            ensure!(answer["answer"] == "done", "{answer}");
            let answer = request(cluster, holder, "{\"command\":\"status\"}")?;
            ensure!(answer["status"]["maintenance"] == on, "maintenance was set to {on}, and is not shown");
        }
        Ok(())
    })
}

#[test]
fn status_of_nobody_says_how_to_start() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let error = cluster.agent(0)?.ask(&["status"]).err().context("nobody runs")?.to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        Ok(())
    })
}

#[test]
fn events_have_the_promised_form() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let survivor = cluster.other(holder);
        let events = cluster.events(survivor)?;
        let from_ns = clock::now_ns();
        let stages = fail_over(cluster, holder, survivor, Kill::Both, &events, LIMIT)?;
        let serving = [("event", "group"), ("group", GROUP), ("to", "serving")];
        let group = events.wait(stages.fault_ns, &serving, LIMIT)?;
        assert_eq!(events.malformed(), Vec::<String>::new());

        let seen = events.since(from_ns);
        let until_ns = clock::now_ns();
        assert!(seen.iter().all(|event| event.at_ns <= until_ns), "events from the future: {seen:?}");
        let peer =
            seen.iter().find(|event| event.has(&[("event", "peer"), ("to", "dead")])).context("no peer")?;
        expect_keys(&peer.value, &["t_ns", "peer", "from", "to", "silent_ms"])?;
        let silent_ms = peer.value["silent_ms"].as_u64().context("silent_ms is no number")?;
        assert!(u128::from(silent_ms) >= cluster.spec().deadtime.as_millis(), "{peer:?}");
        expect_keys(&group.value, &["t_ns", "group", "from", "to", "owner", "epoch"])?;
        assert_eq!(group.text("owner"), Some(cluster.name(survivor)));
        for done in ["added", "announced"] {
            let address = [("event", "address"), ("address", "10.77.0.100"), ("to", done)];
            events.wait(stages.fault_ns, &address, LIMIT)?;
        }
        let link = [("event", "link"), ("peer", cluster.name(holder)), ("to", "dead")];
        expect_keys(&events.wait(from_ns, &link, LIMIT)?.value, &["t_ns", "peer", "link", "from", "to"])?;
        let known = [
            "peer",
            "link",
            "group",
            "lease",
            "gate",
            "vote",
            "address",
            "interface",
            "line",
            "node",
            "fence",
            "ping",
            "config",
            "self",
        ];
        let names = events
            .since(0)
            .iter()
            .filter_map(|event| event.text("event").map(str::to_owned))
            .collect::<BTreeSet<_>>();
        assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
        Ok(())
    })
}

#[test]
fn metrics_tell_of_heartbeats_peers_and_refusals() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let before = cluster.metrics(holder)?;
        assert!(before.text().trim_end().ends_with("# EOF"), "not OpenMetrics:\n{}", before.text());
        for name in [
            "xbeat_heartbeats_sent_total",
            "xbeat_heartbeats_received_total",
            "xbeat_peer_state",
            "xbeat_peer_last_heard_age_seconds",
            "xbeat_detection_overshoot_seconds_count",
            "xbeat_wakeup_lateness_seconds_count",
            "xbeat_takeover_duration_seconds_count",
            "xbeat_receive_mode",
            "xbeat_build_info",
        ] {
            assert!(before.has(name, &[]), "{name} is missing in:\n{}", before.text());
        }
        let count = |metrics: &agent_tests::lab::metrics::Metrics, name: &str| metrics.sum(name, &[]);
        clock::wait_for("heartbeats to be counted", LIMIT, || {
            let now = cluster.metrics(holder)?;
            let rose = |name: &str| count(&now, name) >= count(&before, name) + 5.0;
            Ok((rose("xbeat_heartbeats_sent_total") && rose("xbeat_heartbeats_received_total")).then_some(()))
        })
    })
}

#[test]
fn steady_heartbeats_wake_nobody() -> Result<()> {
    scenario(Spec { keepalive: Duration::from_millis(10), ..Spec::default() }, |cluster| {
        let holder = cluster.start()?;
        clock::pause(Duration::from_secs(1))?;
        let before = cluster.metrics(holder)?;
        clock::pause(Duration::from_secs(3))?;
        let after = cluster.metrics(holder)?;
        let rose = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
        // The witness: more than a hundred heartbeats came, and none of them woke the agent.
        assert!(rose("xbeat_heartbeats_received_total") > 100.0, "{}", after.text());
        assert!(rose("xbeat_receive_wakeups_total").abs() < 0.5, "{}", after.text());
        Ok(())
    })
}

#[test]
fn an_agent_is_small_and_idle() -> Result<()> {
    scenario(Spec { keepalive: Duration::from_millis(10), ..Spec::default() }, |cluster| {
        let holder = cluster.start()?;
        let pid = cluster.agent(holder)?.pid()?;
        let before_ns = process::run_time_ns(pid)?;
        let from_ns = clock::now_ns();
        clock::pause(Duration::from_secs(3))?;
        let span_ns = clock::now_ns() - from_ns;
        let used_ns = process::run_time_ns(pid)? - before_ns;
        // A sanity check, also of unoptimized builds on a busy machine; the benchmark has the figures.
        assert!(used_ns > 0, "it must have run");
        assert!(used_ns * 20 < span_ns, "{} % of a core", used_ns * 100 / span_ns);
        let resident = process::resident_kib(pid)?;
        assert!(resident < 64 * 1024, "{resident} KiB");
        Ok(())
    })
}

#[test]
fn a_second_agent_with_the_same_socket_is_refused() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let output = cluster
            .host(holder)?
            .command(agent_tests::lab::agent::xbeat_binary()?)
            .args(["run", "--config"])
            .arg(cluster.agent(holder)?.config_path())
            .output()?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(cluster.owner_if_whole()?, holder);
        cluster.agent_mut(holder)?.stop(STOP)
    })
}

#[test]
fn a_deleted_address_is_put_back() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let events = cluster.events(holder)?;
        let from_ns = clock::now_ns();
        cluster.host(holder)?.ip("addr del 10.77.0.100/24 dev eth0")?;
        events.wait(from_ns, &[("event", "address"), ("to", "added")], LIMIT)?;
        assert_eq!(cluster.holders()?, [holder]);
        cluster.wait_service_from(holder, LIMIT)
    })
}
