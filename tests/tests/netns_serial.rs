//! Serial lines under real agents, on pseudo terminals that are cut, damaged, held and unplugged: what is heard on a line
//! counts, what happens to it is seen, and nothing else suffers from it.

use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, scenario};
use agent_tests::lab::config::{LinkSpec, Policy, Spec};
use agent_tests::lab::network::Port;
use agent_tests::lab::serial::{SerialSpec, Shape, Side};
use anyhow::{Context as _, Result};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// The network of the heartbeats; the service is on another.
const HEARTBEATS: usize = 1;

/// Two nodes that are joined by a network and a line of 19200 baud, which carries a heartbeat every 100 ms at most.
fn pair() -> Spec {
    Spec {
        links: vec![LinkSpec { bridge: HEARTBEATS, ..LinkSpec::default() }],
        serial: Some(SerialSpec { shape: Shape::Chain, baud: 19_200 }),
        keepalive: Duration::from_millis(50),
        deadtime: Duration::from_millis(1_500),
        initdead: Duration::from_secs(4),
        ..Spec::default()
    }
}

/// Three nodes that hear each other over lines alone, each over two.
fn ring() -> Spec {
    Spec {
        nodes: 3,
        links: Vec::new(),
        serial: Some(SerialSpec { shape: Shape::Ring, baud: 115_200 }),
        keepalive: Duration::from_millis(100),
        deadtime: Duration::from_secs(2),
        initdead: Duration::from_secs(5),
        policy: Policy::Majority,
        ..Spec::default()
    }
}

/// The state of the serial link from one node to another.
fn line_state(cluster: &Cluster, observer: usize, node: usize) -> Result<String> {
    link_state(cluster, observer, node, "serial:")
}

fn link_state(cluster: &Cluster, observer: usize, node: usize, kind: &str) -> Result<String> {
    let seen = cluster.seen(observer, node)?;
    let links = seen["links"].as_array().context("no links")?;
    let name = |link: &&Value| link["link"].as_str().is_some_and(|name| name.starts_with(kind));
    let link = links.iter().find(name).with_context(|| format!("no link {kind} in {links:?}"))?;
    Ok(link["state"].as_str().unwrap_or_default().to_owned())
}

fn wait_line(cluster: &Cluster, observer: usize, node: usize, state: &str) -> Result<()> {
    clock::wait_for(&format!("a line that is {state}"), LIMIT, || {
        Ok((line_state(cluster, observer, node)? == state).then_some(()))
    })
}

/// One counter of all lines of a node.
fn count(cluster: &Cluster, node: usize, name: &str, labels: &[&str]) -> Result<u64> {
    Ok(cluster.metrics(node)?.sum(&format!("xbeat_serial_{name}_total"), labels) as u64)
}

/// Frames that a node's lines have brought.
fn received(cluster: &Cluster, node: usize) -> Result<u64> {
    count(cluster, node, "frames", &["direction=\"received\""])
}

/// Which end of the one cable a node has.
fn side(node: usize) -> Side {
    if node == 0 { Side::Near } else { Side::Far }
}

/// Nobody was taken for dead and no group moved since `from_ns`, to any node; and the client was always answered.
fn nothing_moved(cluster: &Cluster, from_ns: u64, holder: usize, all: &[agent_tests::lab::events::Events]) {
    for events in all {
        for event in events.since(from_ns) {
            let kind = event.text("event").unwrap_or_default();
            assert!(kind != "group" && kind != "lease", "{event:?}");
            assert!(kind != "peer" || event.text("to") != Some("dead"), "{event:?}");
        }
    }
    let answers = cluster.client().answers_since(from_ns);
    assert!(answers.len() > 100, "{} answers", answers.len());
    assert!(answers.iter().all(|answer| usize::from(answer.node) == holder), "another node answered");
}

fn all_events(cluster: &Cluster) -> Result<Vec<agent_tests::lab::events::Events>> {
    (0..cluster.spec().nodes).map(|node| cluster.events(node)).collect()
}

#[test]
fn a_line_alone_keeps_both_nodes_up() -> Result<()> {
    scenario(pair(), |cluster| {
        let holder = cluster.start()?;
        let other = cluster.other(holder);
        wait_line(cluster, holder, other, "up")?;
        wait_line(cluster, other, holder, "up")?;
        let events = all_events(cluster)?;
        let from_ns = clock::now_ns();
        cluster.network().cut(Port { host: holder, bridge: HEARTBEATS })?;
        for node in [holder, other] {
            let dead = [("event", "link"), ("link", "ucast:eth1"), ("to", "dead")];
            events[node].wait(from_ns, &dead, LIMIT).context("the cut network must be seen")?;
        }
        let before = [received(cluster, 0)?, received(cluster, 1)?];
        clock::pause(cluster.spec().deadtime * 3)?;
        for node in [holder, other] {
            let heard = received(cluster, node)? - before[node];
            assert!(heard >= 10, "only {heard} heartbeats came over the line of {node}");
            assert_eq!(cluster.seen(node, cluster.other(node))?["state"], "up");
            assert_eq!(line_state(cluster, node, cluster.other(node))?, "up");
        }
        nothing_moved(cluster, from_ns, holder, &events);

        // The last words of a node that leaves go over the line, too.
        let from_ns = clock::now_ns();
        cluster.agent_mut(other)?.stop(LIMIT)?;
        let leaving = [("event", "peer"), ("peer", cluster.name(other)), ("to", "leaving")];
        events[holder].wait(from_ns, &leaving, LIMIT).context("the farewell must come over the line")?;
        Ok(())
    })
}

#[test]
fn a_cut_line_is_a_dead_link_and_nothing_else() -> Result<()> {
    scenario(pair(), |cluster| {
        let holder = cluster.start()?;
        let other = cluster.other(holder);
        wait_line(cluster, holder, other, "up")?;
        let events = all_events(cluster)?;
        let from_ns = clock::now_ns();
        cluster.cable(0)?.cut();
        wait_line(cluster, holder, other, "dead")?;
        wait_line(cluster, other, holder, "dead")?;
        for node in [0, 1] {
            assert_eq!(link_state(cluster, node, cluster.other(node), "ucast:")?, "up");
        }
        cluster.cable(0)?.heal();
        wait_line(cluster, holder, other, "up")?;
        wait_line(cluster, other, holder, "up")?;
        nothing_moved(cluster, from_ns, holder, &events);
        Ok(())
    })
}

#[test]
fn noise_is_counted_and_recovered_from() -> Result<()> {
    scenario(pair(), |cluster| {
        let holder = cluster.start()?;
        let other = cluster.other(holder);
        wait_line(cluster, holder, other, "up")?;
        let events = all_events(cluster)?;
        let from_ns = clock::now_ns();
        // Half of a frame, somebody's login prompt, and more than any frame has.
        let cable = cluster.cable(0)?;
        cable.inject(side(other), b"\0\x05XB\0\r\nlogin: \0")?;
        clock::wait_for("noise to be counted", LIMIT, || {
            Ok((count(cluster, other, "noise", &[])? >= 2).then_some(()))
        })?;
        cable.inject(side(other), &[0xff; 3_000])?;
        clock::wait_for("the flood to be counted", LIMIT, || {
            Ok((count(cluster, other, "overlong", &[])? >= 1).then_some(()))
        })?;
        // Every second frame is damaged somewhere; none of that counts, and the rest does.
        let (noise, heard) = (count(cluster, other, "noise", &[])?, received(cluster, other)?);
        let refused = cluster.metrics(other)?.sum("xbeat_heartbeats_rejected_total", &[]) as u64;
        cable.damage(271);
        clock::pause(Duration::from_secs(4))?;
        cable.damage(0);
        let refused = cluster.metrics(other)?.sum("xbeat_heartbeats_rejected_total", &[]) as u64 - refused;
        let noise = count(cluster, other, "noise", &[])? - noise;
        assert!(noise + refused >= 5, "{noise} pieces of noise, {refused} refused");
        assert!(received(cluster, other)? - heard >= 5);
        wait_line(cluster, other, holder, "up")?;
        nothing_moved(cluster, from_ns, holder, &events);
        Ok(())
    })
}

#[test]
fn a_device_that_vanishes_is_reopened_when_it_is_back() -> Result<()> {
    scenario(pair(), |cluster| {
        let holder = cluster.start()?;
        let other = cluster.other(holder);
        wait_line(cluster, holder, other, "up")?;
        let events = all_events(cluster)?;
        let from_ns = clock::now_ns();
        let device = cluster.cable(0)?.device(side(other)).display().to_string();
        cluster.cable(0)?.unplug(side(other));
        let lost = [("event", "line"), ("device", device.as_str()), ("to", "lost")];
        let event = events[other].wait(from_ns, &lost, LIMIT)?;
        assert!(event.text("reason").is_some_and(|reason| reason.contains("hung up")), "{event:?}");
        wait_line(cluster, holder, other, "dead")?;
        let lines =
            |cluster: &Cluster| -> Result<Value> { Ok(cluster.agent(other)?.status()?["lines"][0].clone()) };
        assert_eq!(lines(cluster)?["state"], "lost");
        assert!(cluster.metrics(other)?.sum("xbeat_serial_open", &[]) < 0.5);

        cluster.cable(0)?.plug(side(other))?;
        events[other].wait(from_ns, &[("event", "line"), ("to", "open")], LIMIT)?;
        wait_line(cluster, holder, other, "up")?;
        wait_line(cluster, other, holder, "up")?;
        assert_eq!(lines(cluster)?["state"], "open");
        assert_eq!(count(cluster, other, "reopened", &[])?, 1);
        nothing_moved(cluster, from_ns, holder, &events);
        Ok(())
    })
}

#[test]
fn a_device_that_is_not_there_at_the_start_is_waited_for() -> Result<()> {
    scenario(pair(), |cluster| {
        cluster.cable(0)?.unplug(Side::Near);
        cluster.start()?;
        assert!(cluster.agent(0)?.has_logged("there is no such device"), "the log must name it");
        assert_ne!(line_state(cluster, 0, 1)?, "up");
        cluster.cable(0)?.plug(Side::Near)?;
        wait_line(cluster, 0, 1, "up")?;
        wait_line(cluster, 1, 0, "up")
    })
}

#[test]
fn a_line_that_takes_nothing_delays_nothing() -> Result<()> {
    scenario(pair(), |cluster| {
        let holder = cluster.start()?;
        let other = cluster.other(holder);
        wait_line(cluster, other, holder, "up")?;
        let events = all_events(cluster)?;
        let from_ns = clock::now_ns();
        let sent = |cluster: &Cluster| -> Result<u64> {
            let labels = ["link=\"ucast:eth1\""];
            Ok(cluster.metrics(holder)?.sum("xbeat_heartbeats_sent_total", &labels) as u64)
        };
        cluster.cable(0)?.hold(side(holder), true)?;
        let before = sent(cluster)?;
        wait_line(cluster, other, holder, "dead")?;
        clock::pause(Duration::from_secs(2))?;
        let meanwhile = sent(cluster)? - before;
        let beats = (clock::now_ns() - from_ns) / clock::ns(cluster.spec().keepalive);
        assert!(meanwhile * 2 > beats, "{meanwhile} heartbeats over the network in the time of {beats}");
        assert!(count(cluster, holder, "dropped", &[])? >= 5, "the newest replaces what waits");
        let failed = cluster.metrics(holder)?.sum("xbeat_heartbeats_send_failed_total", &["link=\"serial:"]);
        assert!(failed > 0.0, "the line took nothing, and that is not counted");
        // The other direction is another wire.
        assert_eq!(line_state(cluster, holder, other)?, "up");
        cluster.cable(0)?.hold(side(holder), false)?;
        wait_line(cluster, other, holder, "up")?;
        nothing_moved(cluster, from_ns, holder, &events);
        Ok(())
    })
}

#[test]
fn a_restart_in_place_is_borne_over_a_line_alone() -> Result<()> {
    scenario(pair(), |cluster| {
        let holder = cluster.start()?;
        let other = cluster.other(holder);
        wait_line(cluster, holder, other, "up")?;
        let from_ns = clock::now_ns();
        let events = cluster.events(other)?;
        cluster.network().cut(Port { host: holder, bridge: HEARTBEATS })?;
        events.wait(from_ns, &[("event", "link"), ("link", "ucast:eth1"), ("to", "dead")], LIMIT)?;
        cluster.agent(holder)?.ask(&["restart"])?;
        // The next process has opened the line.
        clock::wait_for("the line to be open", LIMIT, || {
            let status = cluster.agent(holder)?.status()?;
            Ok((status["lines"][0]["state"] == "open").then_some(()))
        })?;
        wait_line(cluster, holder, other, "up")?;
        clock::pause(cluster.spec().deadtime * 2)?;
        assert_eq!(line_state(cluster, other, holder)?, "up");
        nothing_moved(cluster, from_ns, holder, &[events]);
        Ok(())
    })
}

#[test]
fn a_ring_survives_each_of_its_cables() -> Result<()> {
    scenario(ring(), |cluster| {
        let holder = cluster.start()?;
        let events = all_events(cluster)?;
        let from_ns = clock::now_ns();
        for cable in 0..3 {
            let forwarded = |cluster: &Cluster| -> Result<u64> {
                (0..3).map(|node| count(cluster, node, "forwarded", &[])).sum()
            };
            cluster.cable(cable)?.cut();
            let before = forwarded(cluster)?;
            clock::pause(cluster.spec().deadtime * 2)?;
            // The nodes at its ends hear each other only through the third.
            let passed = forwarded(cluster)? - before;
            assert!(passed >= 10, "only {passed} heartbeats were passed on with cable {cable} cut");
            for observer in 0..3 {
                for node in (0..3).filter(|node| *node != observer) {
                    assert_eq!(cluster.seen(observer, node)?["state"], "up", "{observer} of {node}");
                    assert_eq!(line_state(cluster, observer, node)?, "up", "{observer} of {node}");
                }
            }
            cluster.cable(cable)?.heal();
        }
        nothing_moved(cluster, from_ns, holder, &events);
        no_frame_goes_round_for_ever(cluster)?;

        // Two failures cut a node off, and only that one.
        let alone = (holder + 1) % 3;
        let third = (holder + 2) % 3;
        cluster.cable(alone)?.cut();
        cluster.cable((alone + 2) % 3)?.cut();
        for observer in [holder, third] {
            cluster.wait_state(observer, alone, "dead", LIMIT)?;
        }
        assert_eq!(cluster.seen(holder, third)?["state"], "up");
        cluster.expect_service_from(holder)?;
        cluster.cable(alone)?.heal();
        cluster.wait_whole()?;
        assert_eq!(cluster.owner_if_whole()?, holder);
        Ok(())
    })
}

/// In a whole ring every heartbeat passes every line once, but for the last to its own node; and every node takes it once.
fn no_frame_goes_round_for_ever(cluster: &Cluster) -> Result<()> {
    // The lines' ends know each other again.
    clock::pause(Duration::from_secs(2))?;
    let sent = |cluster: &Cluster| -> Result<(u64, u64)> {
        let mut all = (0, 0);
        for node in 0..3 {
            all.0 += count(cluster, node, "frames", &["direction=\"sent\""])?;
            all.1 += count(cluster, node, "forwarded", &[])?;
        }
        Ok(all)
    };
    let (before, returned) =
        (sent(cluster)?, (0..3).map(|node| count(cluster, node, "returned", &[])).sum::<Result<u64>>()?);
    clock::pause(Duration::from_secs(4))?;
    let after = sent(cluster)?;
    let (frames, forwarded) = (after.0 - before.0, after.1 - before.1);
    let own = frames - forwarded;
    assert!(own > 60, "{own} own heartbeats");
    // Each is sent over two lines, and each of its two receivers may pass it on once.
    assert!(forwarded > 0 && forwarded <= own + 6, "{forwarded} forwarded of {own}");
    let again = (0..3).map(|node| count(cluster, node, "returned", &[])).sum::<Result<u64>>()?;
    assert!(again - returned <= 6, "{} came back to the node that they are of", again - returned);
    Ok(())
}

/// What an operator sees when one of two networks and a serial line is cut.
#[test]
fn status_shows_two_networks_and_a_line_of_which_one_is_cut() -> Result<()> {
    let links = [0, HEARTBEATS].map(|bridge| LinkSpec { bridge, ..LinkSpec::default() });
    scenario(Spec { links: links.to_vec(), ..pair() }, |cluster| {
        let holder = cluster.start()?;
        let other = cluster.other(holder);
        wait_line(cluster, holder, other, "up")?;
        let events = all_events(cluster)?;
        let from_ns = clock::now_ns();
        cluster.network().cut(Port { host: other, bridge: HEARTBEATS })?;
        clock::wait_for("the cut network to be seen", LIMIT, || {
            Ok((link_state(cluster, holder, other, "ucast:eth1")? == "dead").then_some(()))
        })?;
        for kind in ["ucast:eth0", "serial:"] {
            assert_eq!(link_state(cluster, holder, other, kind)?, "up", "{kind}");
        }
        assert_eq!(cluster.seen(holder, other)?["state"], "up");
        clock::pause(Duration::from_secs(2))?;
        let text = cluster.agent(holder)?.ask(&["status"])?;
        println!("{text}");
        assert!(text.contains("ucast:eth1 dead") && text.contains("ucast:eth0 up"), "{text}");
        nothing_moved(cluster, from_ns, holder, &events);
        Ok(())
    })
}
