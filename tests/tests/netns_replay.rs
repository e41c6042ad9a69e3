//! A whole captured session, sent again: after the receiver started anew, after the sender did, and on another link. It moves
//! counters, which are the witness that it arrived, and nothing else.

use std::net::Ipv4Addr;
use std::time::Duration;

use agent_tests::lab::capture::Direction;
use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, STOP, scenario};
use agent_tests::lab::config::{Cast, LinkSpec, Spec, Xdp};
use agent_tests::lab::events::Events;
use agent_tests::lab::frame;
use agent_tests::lab::inject::Injector;
use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// Heartbeats of a session at least.
const SESSION_MIN: usize = 30;

fn spec(xdp: Xdp) -> Spec {
    Spec { deadtime: Duration::from_secs(1), initdead: Duration::from_secs(2), xdp, ..Spec::default() }
}

/// Every heartbeat that `sender` sent over its first port until now.
fn session(cluster: &Cluster, sender: usize) -> Result<Vec<Vec<u8>>> {
    let node = u8::try_from(sender)?;
    clock::wait_for("a session to replay", LIMIT, || {
        let beats = cluster
            .capture(sender)?
            .frames(0, |frame| frame.direction == Direction::FromHost && frame.kind.is_heartbeat_of(node));
        let bytes: Vec<Vec<u8>> = beats.into_iter().map(|beat| beat.bytes).collect();
        Ok((bytes.len() >= SESSION_MIN).then_some(bytes))
    })
}

/// Sends it to one port of a node, twice, in order.
fn replay(cluster: &Cluster, to: Port, session: &[Vec<u8>]) -> Result<()> {
    let injector = Injector::new(cluster.network(), to)?;
    for frame in session.iter().chain(session) {
        // The offloaded checksum of the original is written out.
        injector.send(&frame::edited(frame, |_| ()).context("not a UDP frame")?)?;
    }
    Ok(())
}

/// How many frames a node has refused or noted, for any of these reasons.
fn refused(cluster: &Cluster, node: usize, reasons: &[&str]) -> Result<u64> {
    let status = cluster.agent(node)?.status()?;
    let of = |reason: &&str| status["rejected"].get(*reason).and_then(Value::as_u64).unwrap_or(0);
    Ok(reasons.iter().map(of).sum())
}

fn wait_refused(cluster: &Cluster, node: usize, reasons: &[&str], least: u64) -> Result<()> {
    clock::wait_for(&format!("{least} refusals by {reasons:?}"), LIMIT, || {
        Ok((refused(cluster, node, reasons)? >= least).then_some(()))
    })
    .with_context(|| {
        format!("{:?}", cluster.agent(node).and_then(|agent| agent.status()).map(|s| s["rejected"].clone()))
    })
}

/// No peer, link, group or lease of the node has changed.
fn unmoved(events: &Events, from_ns: u64) -> Result<()> {
    let moved = events.since(from_ns).into_iter().find(|event| {
        ["peer", "link", "group", "lease", "gate"].contains(&event.text("event").unwrap_or_default())
    });
    ensure!(moved.is_none(), "something moved: {moved:?}");
    Ok(())
}

fn after_the_receiver_started_anew(xdp: Xdp) -> Result<()> {
    scenario(spec(xdp), |cluster| {
        let holder = cluster.start()?;
        let sender = cluster.other(holder);
        let session = session(cluster, sender)?;
        cluster.agent_mut(sender)?.stop(STOP)?;
        cluster.agent_mut(holder)?.stop(STOP)?;
        cluster.start_agent(holder)?;
        // Alone, and past its initdead: it knows that nobody else is there.
        clock::wait_for("the sender to be given up", LIMIT, || {
            // The agent may not answer yet.
            let state = cluster.seen(holder, sender).map(|seen| seen["state"].clone()).unwrap_or_default();
            Ok((state == "dead").then_some(()))
        })?;
        let events = cluster.events(holder)?;
        let received =
            || -> Result<f64> { Ok(cluster.metrics(holder)?.sum("xbeat_heartbeats_received_total", &[])) };
        let (from_ns, before) = (clock::now_ns(), received()?);
        replay(cluster, Port { host: holder, bridge: 0 }, &session)?;
        // The witness: its window is new, so they are authentic and new to it; the second round is refused.
        clock::wait_for("the session to arrive", LIMIT, || {
            Ok((received()? >= before + session.len() as f64 * 0.9).then_some(()))
        })?;
        wait_refused(cluster, holder, &["duplicate", "too_old"], session.len() as u64 / 2)?;
        clock::pause(Duration::from_millis(300))?;
        let seen = cluster.seen(holder, sender)?;
        ensure!(seen["state"] == "dead", "{seen}");
        ensure!(seen["last_heard_ms"] == Value::Null, "a stamp that counts moved: {seen}");
        let moved = events.since(from_ns).into_iter().find(|event| {
            ["peer", "group", "lease", "gate"].contains(&event.text("event").unwrap_or_default())
        });
        ensure!(moved.is_none(), "something moved: {moved:?}");
        cluster.expect_service_from(holder)
    })
}

#[test]
fn it_raises_nobody_after_the_receiver_started_anew() -> Result<()> {
    after_the_receiver_started_anew(Xdp::Auto)
}

#[test]
fn it_raises_nobody_on_the_socket_path_either() -> Result<()> {
    after_the_receiver_started_anew(Xdp::Off)
}

#[test]
fn it_changes_nothing_after_the_sender_started_anew() -> Result<()> {
    scenario(spec(Xdp::Auto), |cluster| {
        let holder = cluster.start()?;
        let sender = cluster.other(holder);
        let session = session(cluster, sender)?;
        cluster.agent_mut(sender)?.stop(STOP)?;
        cluster.start_agent(sender)?;
        cluster.wait_state(holder, sender, "up", LIMIT)?;
        clock::pause(Duration::from_millis(500))?;
        let incarnation = cluster.seen(holder, sender)?["incarnation"].clone();
        let events = cluster.events(holder)?;
        let (from_ns, before) = (clock::now_ns(), refused(cluster, holder, &["incarnation"])?);
        replay(cluster, Port { host: holder, bridge: 0 }, &session)?;
        wait_refused(cluster, holder, &["incarnation"], before + 2 * session.len() as u64)?;
        clock::pause(cluster.spec().deadtime)?;
        let seen = cluster.seen(holder, sender)?;
        ensure!(seen["incarnation"] == incarnation && seen["state"] == "up", "{seen}");
        unmoved(&events, from_ns)
    })
}

#[test]
fn it_changes_nothing_while_it_goes_on_nor_keeps_the_dead_alive() -> Result<()> {
    scenario(spec(Xdp::Auto), |cluster| {
        let holder = cluster.start()?;
        let sender = cluster.other(holder);
        let old = session(cluster, sender)?;
        let events = cluster.events(holder)?;
        let (from_ns, before) = (clock::now_ns(), refused(cluster, holder, &["duplicate", "too_old"])?);
        replay(cluster, Port { host: holder, bridge: 0 }, &old)?;
        // Not all of them twice: the receiver was not listening yet when the first were sent.
        wait_refused(cluster, holder, &["duplicate", "too_old"], before + old.len() as u64)?;
        unmoved(&events, from_ns)?;
        cluster.agent_mut(sender)?.kill()?;
        cluster.agent_mut(sender)?.reap(STOP)?;
        let killed_ns = clock::now_ns();
        // Again and again, for as long as its silence is to be noticed.
        let whole = session(cluster, sender)?;
        clock::wait_for("the sender to be dead", LIMIT, || {
            replay(cluster, Port { host: holder, bridge: 0 }, &whole)?;
            let dead = [("event", "peer"), ("peer", cluster.name(sender)), ("to", "dead")];
            Ok(events.find(killed_ns, &dead).map(drop))
        })?;
        let seen = cluster.seen(holder, sender)?;
        ensure!(seen["state"] == "dead", "{seen}");
        Ok(())
    })
}

#[test]
fn it_does_not_count_on_another_link() -> Result<()> {
    // Two groups of the same address on two networks: only the number of the link in the frame tells them apart.
    let link = |bridge| LinkSpec { bridge, cast: Cast::Multicast, ipv6: false };
    let two = Spec { links: vec![link(0), link(1)], ..spec(Xdp::Auto) };
    assert_eq!(two.addresses.first(), Some(&Ipv4Addr::new(10, 77, 0, 100).into()));
    scenario(two, |cluster| {
        let holder = cluster.start()?;
        let sender = cluster.other(holder);
        // The second network is cut: what is heard on it can only be the replay.
        cluster.network().cut(Port { host: sender, bridge: 1 })?;
        let link_state =
            || -> Result<Value> { Ok(cluster.seen(holder, sender)?["links"][1]["state"].clone()) };
        clock::wait_for("the second link to be dead", LIMIT, || Ok((link_state()? == "dead").then_some(())))?;
        let session = session(cluster, sender)?;
        let events = cluster.events(holder)?;
        let (from_ns, before) = (clock::now_ns(), refused(cluster, holder, &["link"])?);
        replay(cluster, Port { host: holder, bridge: 1 }, &session)?;
        wait_refused(cluster, holder, &["link"], before + 2 * session.len() as u64)?;
        clock::pause(Duration::from_millis(500))?;
        ensure!(link_state()? == "dead", "the replay revived the link");
        unmoved(&events, from_ns)
    })
}
