//! The agent is replaced while it serves: restarted, upgraded, reloaded, stopped for maintenance. A client that asks a
//! thousand times a second loses nothing, and no peer calls anybody dead; what cannot be done so is refused beforehand.

use std::path::PathBuf;
use std::time::Duration;

use agent_tests::lab::bpf::{Attachment, attachment, maps_held_by};
use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, STOP, scenario};
use agent_tests::lab::config::{Policy, Spec, Xdp};
use agent_tests::lab::events::Events;
use agent_tests::lab::upgrade::{copy_binary, pinned_link, replace_binary, upgrade_binary};
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// How long an answer may take to come back before it counts as lost.
const ROUND_TRIP: Duration = Duration::from_millis(300);

/// Two owners and a witness, and time for a pause on a busy machine.
fn three() -> Spec {
    Spec {
        nodes: 3,
        witnesses: 1,
        deadtime: Duration::from_millis(600),
        initdead: Duration::from_secs(6),
        policy: Policy::Majority,
        ..Spec::default()
    }
}

/// A cluster that serves, and what must not happen to it from now on.
struct Calm<'a> {
    cluster: &'a mut Cluster,
    holder: usize,
    /// Of every node but the one that is replaced.
    events: Vec<Events>,
    from_ns: u64,
    incarnation: u64,
    epoch: u64,
}

impl<'a> Calm<'a> {
    fn begin(cluster: &'a mut Cluster, holder: usize, replaced: usize) -> Result<Self> {
        let mut events = Vec::new();
        for node in (0..cluster.spec().nodes).filter(|node| *node != replaced) {
            events.push(cluster.events(node)?);
        }
        let status = cluster.agent(replaced)?.status()?;
        let epoch = group(&cluster.agent(holder)?.status()?)["epoch"].as_u64().context("no epoch")?;
        let incarnation = status["incarnation"].as_u64().context("no incarnation")?;
        let from_ns = clock::now_ns();
        Ok(Self { cluster, holder, events, from_ns, incarnation, epoch })
    }

    /// Nothing was lost, nobody was called dead, nothing moved; and the client did ask all the time.
    fn expect(&mut self, replaced: usize) -> Result<()> {
        clock::pause(ROUND_TRIP)?;
        let to_ns = clock::now_ns() - clock::ns(ROUND_TRIP);
        let (sent, lost) = self.cluster.client().lost(self.from_ns, to_ns);
        let span_ms = (to_ns - self.from_ns) / 1_000_000;
        ensure!(sent as u64 > span_ms / 2, "the client sent {sent} probes only in {span_ms} ms");
        ensure!(lost == 0, "{lost} of {sent} probes were lost");
        for events in &self.events {
            for event in events.since(self.from_ns) {
                let dead = event.has(&[("event", "peer"), ("to", "dead")]);
                let moved = matches!(event.text("event"), Some("lease" | "group"));
                let reborn = event.value.get("incarnation").is_some_and(|value| !value.is_null());
                ensure!(!dead && !moved && !reborn, "{}", event.value);
            }
        }
        let status = self.cluster.agent(replaced)?.status()?;
        ensure!(status["incarnation"] == self.incarnation, "another life: {status}");
        let served = self.cluster.agent(self.holder)?.status()?;
        ensure!(group(&served)["epoch"] == self.epoch, "another epoch: {served}");
        ensure!(self.cluster.wait_whole()? == self.holder, "it moved");
        println!("{sent} probes in {span_ms} ms, none lost");
        Ok(())
    }
}

fn group(status: &Value) -> &Value {
    &status["groups"][0]
}

fn process(cluster: &Cluster, node: usize) -> Result<Value> {
    Ok(cluster.agent(node)?.status()?["process"].clone())
}

fn descriptors(cluster: &Cluster, node: usize) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", cluster.agent(node)?.pid()?))?.count())
}

/// The bpffs directory of a node.
fn pins(cluster: &Cluster, node: usize) -> Result<PathBuf> {
    Ok(cluster.scratch().bpffs().context("no bpffs")?.join(cluster.name(node)))
}

fn links(cluster: &Cluster, node: usize) -> Result<[Attachment; 2]> {
    let pins = pins(cluster, node)?;
    Ok([attachment(&pinned_link(&pins, "ingress-")?)?, attachment(&pinned_link(&pins, "egress-")?)?])
}

/// Restarts `replaced` again and again, and says how long the pauses were.
fn restart_often(cluster: &mut Cluster, holder: usize, replaced: usize, times: u64) -> Result<()> {
    let before = process(cluster, replaced)?;
    let mut calm = Calm::begin(cluster, holder, replaced)?;
    let (mut pauses, mut held) = (Vec::new(), 0);
    for round in 1..=times {
        let said = calm.cluster.agent(replaced)?.ask(&["restart"])?;
        ensure!(said.contains("restarted"), "{said}");
        let now = process(calm.cluster, replaced)?;
        pauses.push(now["pause_us"].as_u64().context("no pause")? / 1_000);
        if round == 1 {
            held = descriptors(calm.cluster, replaced)?;
        }
    }
    calm.expect(replaced)?;
    let after = process(calm.cluster, replaced)?;
    ensure!(after["pid"] == before["pid"], "another process id: {after}");
    let restarts = |process: &Value| process["restarts"].as_u64().unwrap_or(0);
    ensure!(restarts(&after) == restarts(&before) + times, "the witness: {after}");
    ensure!(after["begun"] == "carried" && after["failures"] == 0, "{after}");
    let left = descriptors(calm.cluster, replaced)?;
    ensure!(left <= held + 2, "descriptors are left open: {held}, then {left}");
    pauses.sort_unstable();
    println!("{times} restarts; pauses of {pauses:?} ms");
    Ok(())
}

#[test]
fn twenty_restarts_of_the_holder_lose_nothing() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = cluster.start()?;
        ensure!(cluster.agent(holder)?.status()?["gate"] == "kernel", "no gate");
        restart_often(cluster, holder, holder, 20)?;
        for line in cluster.agent(holder)?.log() {
            ensure!(!line.contains(": deleted") && !line.contains("lost"), "{line}");
        }
        Ok(())
    })
}

#[test]
fn restarts_of_another_node_and_of_the_witness_lose_nothing() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = cluster.start()?;
        let other = cluster.other(holder);
        restart_often(cluster, holder, other, 5)?;
        restart_often(cluster, holder, 2, 5)
    })
}

#[test]
fn restarts_of_either_of_two_nodes_lose_nothing() -> Result<()> {
    let spec =
        Spec { deadtime: Duration::from_millis(600), initdead: Duration::from_secs(6), ..Spec::default() };
    scenario(spec, |cluster| {
        let holder = cluster.start()?;
        restart_often(cluster, holder, holder, 3)?;
        let other = cluster.other(holder);
        restart_often(cluster, holder, other, 3)
    })
}

/// A process that goes on takes the programs as they are loaded: it has their maps, and makes no others.
#[test]
fn a_restart_makes_no_maps() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = cluster.start()?;
        let pid = cluster.agent(holder)?.pid()?;
        let before = maps_held_by(pid)?;
        for round in 1..=2 {
            cluster.agent(holder)?.ask(&["restart"])?;
            ensure!(process(cluster, holder)?["restarts"] == round, "the witness: it went on");
            let after = maps_held_by(pid)?;
            ensure!(!after.is_empty() && after.is_subset(&before), "{before:?}, then {after:?}");
        }
        Ok(())
    })
}

/// Without a gate in the kernel, too: the addresses stay, and the peers wait.
#[test]
fn restarts_without_xdp_lose_nothing() -> Result<()> {
    scenario(Spec { xdp: Xdp::Off, ..three() }, |cluster| {
        let holder = cluster.start()?;
        ensure!(cluster.agent(holder)?.status()?["gate"] == "userspace", "a gate");
        restart_often(cluster, holder, holder, 5)
    })
}

/// The program of the new version takes the place of the old one through the pinned link.
#[test]
fn an_upgrade_with_another_program_loses_nothing() -> Result<()> {
    scenario(three(), |cluster| {
        let binary = cluster.scratch().root().join("xbeat");
        copy_binary(&binary)?;
        for node in 0..cluster.spec().owners() {
            cluster.agent_mut(node)?.set_binary(&binary);
        }
        let holder = cluster.start()?;
        let before = links(cluster, holder)?;
        let mut calm = Calm::begin(cluster, holder, holder)?;
        calm.cluster.agent(holder)?.ask(&["restart"])?;
        let same = links(calm.cluster, holder)?;
        ensure!(
            before == same,
            "the same version goes on with the program that is loaded: {before:?}, {same:?}"
        );
        upgrade_binary(&binary)?;
        calm.cluster.agent(holder)?.ask(&["restart"])?;
        calm.expect(holder)?;
        let after = links(calm.cluster, holder)?;
        println!("ingress and egress before {before:?}, after {after:?}");
        ensure!(before.map(|at| at.link) == after.map(|at| at.link), "a link was detached");
        ensure!(before[0].program != after[0].program, "the program is still there");
        ensure!(before[0].tag != after[0].tag, "the program is the same");
        Ok(())
    })
}

/// Replaces text in the configuration of a node.
fn edit(cluster: &Cluster, node: usize, from: &str, to: &str) -> Result<String> {
    let path = cluster.agent(node)?.config_path();
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains(from), "{from} is not in the configuration");
    std::fs::write(&path, text.replace(from, to))?;
    Ok(text)
}

#[test]
fn a_reload_takes_up_new_intervals_and_loses_nothing() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = cluster.start()?;
        let mut calm = Calm::begin(cluster, holder, holder)?;
        edit(calm.cluster, holder, "keepalive = \"50000us\"", "keepalive = \"40ms\"")?;
        edit(calm.cluster, holder, "deadtime = \"600000us\"", "deadtime = \"500ms\"")?;
        let said = calm.cluster.agent(holder)?.ask(&["reload"])?;
        ensure!(said.contains("timing"), "{said}");
        calm.expect(holder)?;
        ensure!(process(calm.cluster, holder)?["restarts"] == 1, "one restart took it up");
        // The peers judge it by the new deadtime.
        let (other, from_ns) = (calm.cluster.other(holder), clock::now_ns());
        let events = calm.cluster.events(other)?;
        calm.cluster.agent(holder)?.kill()?;
        let name = calm.cluster.name(holder);
        let dead = events.wait(from_ns, &[("event", "peer"), ("peer", name), ("to", "dead")], LIMIT)?;
        ensure!(dead.value["deadtime_ms"] == 500, "{}", dead.value);
        Ok(())
    })
}

#[test]
fn a_reload_with_new_keys_alone_changes_keys_live() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = cluster.start()?;
        let mut calm = Calm::begin(cluster, holder, holder)?;
        let said = calm.cluster.agent(holder)?.ask(&["reload"])?;
        ensure!(said.contains("keys"), "{said}");
        calm.expect(holder)?;
        ensure!(process(calm.cluster, holder)?["restarts"] == 0, "no restart was needed");
        Ok(())
    })
}

#[test]
fn what_cannot_be_taken_up_is_refused_with_every_reason_and_nothing_changes() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = cluster.start()?;
        let mut calm = Calm::begin(cluster, holder, holder)?;
        let text = edit(calm.cluster, holder, "initdead = \"6000000us\"", "initdead = \"7s\"")?;
        edit(calm.cluster, holder, "10.77.0.100/24", "10.77.0.101/24")?;
        let refused = calm.cluster.agent(holder)?.ask(&["reload"]).expect_err("refused").to_string();
        ensure!(refused.contains("initdead") && refused.contains("10.77.0.100"), "{refused}");
        ensure!(refused.contains("standby"), "it says what to do instead: {refused}");
        let restart = calm.cluster.agent(holder)?.ask(&["restart"]).expect_err("refused").to_string();
        ensure!(restart.contains("initdead"), "a restart would read the same file: {restart}");
        // SIGHUP asks for the same, and only the log can answer.
        calm.cluster.agent(holder)?.signal(Signal::SIGHUP)?;
        clock::wait_for("the refusal in the log", LIMIT, || {
            let log = calm.cluster.agent(holder)?.log();
            Ok((log.iter().filter(|line| line.contains("configuration: refused")).count() >= 3).then_some(()))
        })?;
        calm.expect(holder)?;
        ensure!(process(calm.cluster, holder)?["restarts"] == 0, "nothing was restarted");
        std::fs::write(calm.cluster.agent(holder)?.config_path(), text)?;
        calm.cluster.agent(holder)?.signal(Signal::SIGUSR2)?;
        clock::wait_for("the restart by SIGUSR2", LIMIT, || {
            Ok(process(calm.cluster, holder).is_ok_and(|process| process["restarts"] == 1).then_some(()))
        })?;
        calm.expect(holder)
    })
}

/// Whatever is wrong with the new binary before it runs: the old one goes on.
#[test]
fn a_binary_that_cannot_take_over_is_refused_or_given_up() -> Result<()> {
    scenario(three(), |cluster| {
        let binary = cluster.scratch().root().join("xbeat");
        copy_binary(&binary)?;
        for node in 0..cluster.spec().owners() {
            cluster.agent_mut(node)?.set_binary(&binary);
        }
        let holder = cluster.start()?;
        let mut calm = Calm::begin(cluster, holder, holder)?;
        let started = process(calm.cluster, holder)?["started_ns"].clone();
        replace_binary(&binary, b"#!/bin/sh\necho this one is broken >&2\nexit 1\n")?;
        let refused = calm.cluster.agent(holder)?.ask(&["restart"]).expect_err("refused").to_string();
        ensure!(refused.contains("this one is broken"), "{refused}");
        // It judges well and is gone when it is to be run: the pause has begun by then.
        replace_binary(&binary, b"#!/bin/sh\nrm -- \"$0\"\nexit 0\n")?;
        let given_up = calm.cluster.agent(holder)?.ask(&["restart"]).expect_err("given up").to_string();
        ensure!(given_up.contains("cannot be run"), "{given_up}");
        calm.expect(holder)?;
        let now = process(calm.cluster, holder)?;
        ensure!(now["failures"] == 1 && now["started_ns"] == started, "the same process: {now}");
        copy_binary(&binary)?;
        calm.cluster.agent(holder)?.ask(&["restart"])?;
        calm.expect(holder)
    })
}

#[test]
fn an_agent_may_be_stopped_for_maintenance_and_started_again() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = cluster.start()?;
        cluster.agent(holder)?.ask(&["maintenance", "on"])?;
        let mut calm = Calm::begin(cluster, holder, holder)?;
        calm.cluster.agent_mut(holder)?.stop(STOP)?;
        let stopped = clock::now_ns();
        clock::pause(Duration::from_secs(1))?;
        ensure!(calm.cluster.holders()? == [holder], "the address is there");
        calm.cluster.start_agent(holder)?;
        calm.cluster.wait_whole()?;
        calm.cluster.agent(holder)?.ask(&["maintenance", "off"])?;
        calm.expect(holder)?;
        ensure!(process(calm.cluster, holder)?["begun"] == "carried", "it goes on");
        println!("stopped for {:.0} ms", clock::ms_between(stopped, clock::now_ns()));

        // It does not come back: the others wait for `initdead`, and then no longer.
        let Calm { cluster, .. } = calm;
        cluster.agent(holder)?.ask(&["maintenance", "on"])?;
        let other = cluster.other(holder);
        let events = cluster.events(other)?;
        let from_ns = clock::now_ns();
        cluster.agent_mut(holder)?.stop(STOP)?;
        let lease = events.wait(from_ns, &[("event", "lease"), ("to", "held")], LIMIT)?;
        let waited = clock::ms_between(from_ns, lease.at_ns);
        ensure!(waited > 4_000.0, "taken over after {waited} ms already");
        cluster.wait_service_from(other, LIMIT)?;
        // Whatever it remembers, its lease is over.
        cluster.start_agent(holder)?;
        cluster.agent(holder).and_then(|_| cluster.wait_state(other, holder, "up", LIMIT))?;
        ensure!(cluster.wait_whole()? == other, "it stays where it is");
        ensure!(cluster.holders()? == [other], "the old address is gone");
        Ok(())
    })
}

/// A killed agent has handed nothing over: the next starts without, and may neither serve nor vote at once.
#[test]
fn a_killed_agent_hands_nothing_over() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = cluster.start()?;
        cluster.agent(holder)?.ask(&["restart"])?;
        let before = cluster.agent(holder)?.status()?;
        cluster.agent(holder)?.kill()?;
        cluster.agent_mut(holder)?.reap(STOP)?;
        cluster.start_agent(holder)?;
        cluster.wait_whole()?;
        let after = cluster.agent(holder)?.status()?;
        ensure!(after["process"]["begun"] == "fresh", "{after}");
        ensure!(after["process"]["reason"].is_null(), "nothing was handed over: {after}");
        ensure!(after["incarnation"].as_u64() > before["incarnation"].as_u64(), "a later life: {after}");
        Ok(())
    })
}

/// State of another boot, half of it, of a stop before the last: each start says why it is of no use.
#[test]
fn state_that_is_stale_or_damaged_is_not_taken() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = cluster.start()?;
        // Handed over is what has settled: right after the start this was seen to leave instead.
        clock::pause(Duration::from_secs(1))?;
        cluster.agent(holder)?.ask(&["maintenance", "on"])?;
        let path = cluster.agent(holder)?.directory().join("state/carried");
        cluster.agent_mut(holder)?.stop(STOP)?;
        let good = std::fs::read_to_string(&path).context("nothing was handed over")?;
        cluster.start_agent(holder)?;
        cluster.wait_whole()?;
        ensure!(process(cluster, holder)?["begun"] == "carried", "the witness: it is good");
        ensure!(!path.exists(), "taken once");

        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let spoiled = [
            ("sent since", good.clone()),
            ("damaged", good.chars().take(good.len() / 2).collect()),
            ("damaged", good.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")),
            ("damaged", String::new()),
        ];
        for (reason, content) in spoiled {
            cluster.agent_mut(holder)?.signal(Signal::SIGKILL)?;
            cluster.agent_mut(holder)?.reap(STOP)?;
            std::fs::write(&path, content)?;
            cluster.start_agent(holder)?;
            cluster.wait_whole()?;
            let now = process(cluster, holder)?;
            let said = now["reason"].as_str().unwrap_or_default();
            ensure!(now["begun"] == "fresh", "{now}");
            if !said.contains(reason) {
                bail!("{said} does not say {reason}");
            }
            ensure!(!path.exists(), "it is gone");
        }
        Ok(())
    })
}
