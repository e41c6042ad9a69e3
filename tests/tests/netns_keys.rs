//! Keys on a living cluster: rolled over in the three steps of the documentation without a lost heartbeat, by signal and by
//! `xbeat reload`; and that no secret is to be found in anything that the agent says, however much it is asked to say.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use agent_common::wire::at;
use agent_tests::lab::agent::{new_keys, xbeat_binary};
use agent_tests::lab::capture::Direction;
use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, scenario};
use agent_tests::lab::config::Spec;
use agent_tests::lab::frame;
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(20);
/// Refusals that a rollover could cause.
const REASONS: [&str; 3] = ["reason=\"key\"", "reason=\"screen\"", "reason=\"digest\""];

/// How the agents are told.
#[derive(Clone, Copy)]
enum By {
    Signal,
    Command,
}

/// A key file with these secrets under ids from 1 on.
fn key_file(sign_with: u8, secrets: &[(u8, &str)]) -> String {
    let mut text = format!("sign_with = {sign_with}\n");
    for (id, secret) in secrets {
        text += &format!("[[key]]\nid = {id}\nsecret = \"{secret}\"\n");
    }
    text
}

fn secret_of(keys: &str) -> Result<String> {
    let line = keys.lines().find(|line| line.starts_with("secret")).context("no secret")?;
    Ok(line.split('"').nth(1).context("no quotes")?.to_owned())
}

/// Gives one node after the other the keys, and waits until the wire carries `id` from all.
fn roll(cluster: &Cluster, keys: &str, id: u8, by: By) -> Result<()> {
    let from_ns = clock::now_ns();
    for node in 0..2 {
        let events = cluster.events(node)?;
        let agent = cluster.agent(node)?;
        agent.write_keys(keys)?;
        let told_ns = clock::now_ns();
        match by {
            By::Signal => agent.signal(Signal::SIGHUP)?,
            By::Command => drop(agent.ask(&["reload"])?),
        }
        events.wait(told_ns, &[("event", "config"), ("what", "keys"), ("to", "reloaded")], LIMIT)?;
        // As an operator goes from machine to machine: the nodes have different files meanwhile.
        clock::pause(Duration::from_millis(300))?;
    }
    for node in 0..2_u8 {
        clock::wait_for(&format!("node {node} to sign with key {id}"), LIMIT, || {
            let beats = cluster.capture(usize::from(node))?.frames(from_ns, |frame| {
                frame.direction == Direction::FromHost && frame.kind.is_heartbeat_of(node)
            });
            let newest = beats.last().and_then(|beat| frame::payload(&beat.bytes)?.get(at::KEY).copied());
            Ok((newest == Some(id)).then_some(()))
        })?;
    }
    Ok(())
}

fn refused(cluster: &Cluster, node: usize) -> Result<f64> {
    let metrics = cluster.metrics(node)?;
    Ok(REASONS.iter().map(|reason| metrics.sum("xbeat_heartbeats_rejected_total", &[reason])).sum())
}

fn rollover(by: By) -> Result<()> {
    scenario(Spec { deadtime: Duration::from_secs(1), ..Spec::default() }, |cluster| {
        let old = secret_of(cluster.keys())?;
        let new = secret_of(&new_keys(cluster.scratch().root())?)?;
        let holder = cluster.start()?;
        let before = [refused(cluster, 0)?, refused(cluster, 1)?];
        let received =
            |node| -> Result<f64> { Ok(cluster.metrics(node)?.sum("xbeat_heartbeats_received_total", &[])) };
        let heard = [received(0)?, received(1)?];
        let events = [cluster.events(0)?, cluster.events(1)?];
        let from_ns = clock::now_ns();
        let both = [(1, old.as_str()), (2, new.as_str())];
        for (keys, signs) in
            [(key_file(1, &both), 1), (key_file(2, &both), 2), (key_file(2, &[(2, &new)]), 2)]
        {
            roll(cluster, &keys, signs, by)?;
            for (node, before) in before.iter().enumerate() {
                let loss = cluster.metrics(node)?.sum("xbeat_link_loss_ratio", &[]);
                ensure!(loss < 1e-9, "node {node} lost {loss} of the heartbeats");
                ensure!(refused(cluster, node)? <= *before, "node {node} refused a heartbeat of its peer");
            }
        }
        clock::pause(cluster.spec().deadtime)?;
        let took = Duration::from_nanos(clock::now_ns() - from_ns);
        for (node, events) in events.iter().enumerate() {
            // The witness: heartbeats came all the while, all but those of a stalled machine.
            let came = received(node)? - heard[node];
            let due = took.as_secs_f64() / cluster.spec().keepalive.as_secs_f64();
            ensure!(came > due * 0.5, "node {node} heard {came} of {due} heartbeats");
            let moved = events.since(from_ns).into_iter().find(|event| {
                ["peer", "link", "group", "lease"].contains(&event.text("event").unwrap_or_default())
                    && event.text("to") != Some("late")
                    && event.text("from") != Some("late")
            });
            ensure!(moved.is_none(), "something moved: {moved:?}");
        }
        ensure!(cluster.owner_if_whole()? == holder, "the address moved");
        // What the old key signs is refused from now on: the third step has been made.
        cluster.agent(0)?.write_keys(&key_file(1, &[(1, &old)]))?;
        cluster.agent(0)?.signal(Signal::SIGHUP)?;
        clock::wait_for("the old key to be refused", LIMIT, || {
            Ok((refused(cluster, 1)? > before[1]).then_some(()))
        })
    })
}

#[test]
fn a_rollover_by_signal_loses_no_heartbeat() -> Result<()> {
    rollover(By::Signal)
}

#[test]
fn a_rollover_by_reload_loses_no_heartbeat() -> Result<()> {
    rollover(By::Command)
}

/// An agent that says all that it can.
fn talkative(cluster: &mut Cluster) -> Result<()> {
    let script = cluster.scratch().root().join("talkative");
    let binary = xbeat_binary()?;
    std::fs::write(&script, format!("#!/bin/sh\nXBEAT_LOG=trace exec {} \"$@\"\n", binary.display()))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    (0..2).try_for_each(|node| {
        cluster.agent_mut(node)?.set_binary(&script);
        Ok(())
    })
}

#[test]
fn no_secret_is_said() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        talkative(cluster)?;
        let old = secret_of(cluster.keys())?;
        let new = secret_of(&new_keys(cluster.scratch().root())?)?;
        let holder = cluster.start()?;
        let agent = cluster.agent(holder)?;
        agent.write_keys(&key_file(1, &[(1, &old), (2, &new)]))?;
        agent.signal(Signal::SIGHUP)?;
        clock::wait_for("the keys to be read", LIMIT, || {
            Ok(agent.has_logged("keys: reloaded").then_some(()))
        })?;
        // A file that is wrong is quoted nowhere, and neither is a secret that is too short.
        for broken in
            [format!("sign_with = 1\nsecret = \"{new}\n"), key_file(1, &[(1, "c2hvcnQgYW5kIHNlY3JldA==")])]
        {
            agent.write_keys(&broken)?;
            agent.signal(Signal::SIGHUP)?;
            clock::wait_for("the file to be refused", LIMIT, || {
                Ok(agent.has_logged("keys: refused").then_some(()))
            })?;
        }
        let mut said = agent.log().join("\n");
        said += &agent.ask(&["status", "--json"])?;
        said += &agent.ask(&["events", "--json"])?;
        said += cluster.metrics(holder)?.text();
        // The witness: it was all that there is to say.
        ensure!(said.contains("refused") && said.contains("xbeat_") && said.len() > 5_000, "{}", said.len());
        for secret in [old.as_str(), new.as_str(), "c2hvcnQgYW5kIHNlY3JldA=="] {
            let bytes = STANDARD.decode(secret)?;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let debug = format!("{:?}", &bytes[..8]);
            // Half of it would be too much.
            for shown in [&secret[..secret.len() / 2], &hex[..16], debug.trim_matches(['[', ']'])] {
                ensure!(
                    !said.to_lowercase().contains(&shown.to_lowercase()),
                    "{shown} is in what the agent says"
                );
            }
        }
        Ok(())
    })
}
