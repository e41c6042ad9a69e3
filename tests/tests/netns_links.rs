//! Every kind of link and every way to receive, each shown by a takeover that it carried; that a node which is heard on
//! one of two links is not dead; and what each link is said to be like.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use agent_common::Reject;
use agent_common::wire::at;
use agent_tests::lab::capture::{Captured, Direction};
use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, scenario};
use agent_tests::lab::config::{Cast, LinkSpec, Policy, Spec, Xdp};
use agent_tests::lab::failover::{Kill, fail_over};
use agent_tests::lab::frame;
use agent_tests::lab::inject::Injector;
use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(15);

fn with_link(cast: Cast, ipv6: bool) -> Spec {
    Spec { links: vec![LinkSpec { bridge: 0, cast, ipv6 }], ..Spec::default() }
}

/// The cluster comes up over its links and its service moves; says how node 0 receives.
fn moves(cluster: &mut Cluster) -> Result<String> {
    let holder = cluster.start()?;
    let survivor = cluster.other(holder);
    let status = cluster.agent(survivor)?.status()?;
    let events = cluster.events(survivor)?;
    fail_over(cluster, holder, survivor, Kill::Both, &events, LIMIT)?;
    assert!(cluster.holders()?.contains(&survivor));
    Ok(status["xdp"]["eth0"].as_str().context("no mode of eth0")?.to_owned())
}

#[test]
fn native_xdp_is_the_first_choice() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        assert_eq!(moves(cluster)?, "native");
        Ok(())
    })
}

#[test]
fn generic_xdp() -> Result<()> {
    scenario(Spec { xdp: Xdp::Generic, ..Spec::default() }, |cluster| {
        assert_eq!(moves(cluster)?, "generic");
        Ok(())
    })
}

#[test]
fn unicast_over_ipv6() -> Result<()> {
    scenario(with_link(Cast::Unicast, true), |cluster| moves(cluster).map(drop))
}

#[test]
fn broadcast() -> Result<()> {
    scenario(with_link(Cast::Broadcast, false), |cluster| moves(cluster).map(drop))
}

#[test]
fn multicast_over_ipv4() -> Result<()> {
    scenario(with_link(Cast::Multicast, false), |cluster| moves(cluster).map(drop))
}

#[test]
fn multicast_over_ipv6() -> Result<()> {
    scenario(with_link(Cast::Multicast, true), |cluster| moves(cluster).map(drop))
}

#[test]
fn multicast_on_the_socket_path() -> Result<()> {
    let spec = Spec { xdp: Xdp::Off, ..with_link(Cast::Multicast, false) };
    scenario(spec, |cluster| {
        assert_eq!(moves(cluster)?, "socket");
        Ok(())
    })
}

#[test]
fn an_ipv6_service_address_moves_with_an_ipv4_one() -> Result<()> {
    let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100);
    let addresses = vec![v6.into(), Ipv4Addr::new(10, 77, 0, 100).into()];
    scenario(Spec { addresses, ..Spec::default() }, |cluster| {
        let holder = cluster.start()?;
        let survivor = cluster.other(holder);
        let events = cluster.events(survivor)?;
        fail_over(cluster, holder, survivor, Kill::Both, &events, LIMIT)?;
        for address in cluster.spec().addresses.clone() {
            clock::wait_for("both addresses", LIMIT, || {
                Ok(cluster.host(survivor)?.has_address(address)?.then_some(()))
            })?;
        }
        Ok(())
    })
}

#[test]
fn nothing_moves_while_one_of_two_links_carries() -> Result<()> {
    let links = vec![LinkSpec::default(), LinkSpec { bridge: 1, ..LinkSpec::default() }];
    scenario(Spec { links, ..Spec::default() }, |cluster| {
        let holder = cluster.start()?;
        let survivor = cluster.other(holder);
        let events = cluster.events(survivor)?;
        let from_ns = clock::now_ns();
        // The second bridge carries heartbeats only: the client does not notice.
        cluster.network().cut(Port { host: holder, bridge: 1 })?;
        let dead_link = [("event", "link"), ("peer", cluster.name(holder)), ("to", "dead")];
        events.wait(from_ns, &dead_link, LIMIT).context("the cut link must be seen")?;
        clock::pause(cluster.spec().deadtime * 3)?;
        let dead = [("event", "peer"), ("peer", cluster.name(holder)), ("to", "dead")];
        assert!(events.find(from_ns, &dead).is_none(), "a node was killed by one link");
        assert_eq!(cluster.seen(survivor, holder)?["state"], "up");
        let answers = cluster.client().answers_since(from_ns);
        assert!(answers.len() > 100);
        assert!(answers.iter().all(|answer| usize::from(answer.node) == holder));

        // With the last link gone it is dead.
        cluster.network().cut(Port { host: holder, bridge: 0 })?;
        events.wait(from_ns, &dead, LIMIT)?;
        cluster.wait_service_from(survivor, LIMIT)
    })
}

#[test]
fn unicast_over_link_local_addresses() -> Result<()> {
    scenario(with_link(Cast::LinkLocal, false), |cluster| moves(cluster).map(drop))
}

#[test]
fn unicast_over_link_local_addresses_on_the_socket_path() -> Result<()> {
    let spec = Spec { xdp: Xdp::Off, ..with_link(Cast::LinkLocal, false) };
    scenario(spec, |cluster| {
        assert_eq!(moves(cluster)?, "socket");
        Ok(())
    })
}

/// Heartbeats on the second bridge, where nobody can resolve an address.
fn broadcast_without_arp(xdp: Xdp) -> Result<()> {
    let links = vec![LinkSpec { bridge: 1, cast: Cast::Broadcast, ..LinkSpec::default() }];
    scenario(Spec { links, xdp, ..Spec::default() }, |cluster| {
        let ports = (0..2).map(|host| Port { host, bridge: 1 }.name()).collect::<Vec<_>>().join(", ");
        filter(cluster, &format!("add rule bridge lab cut iifname {{ {ports} }} ether type arp drop\n"))?;
        let ping = cluster.host(0)?.command("ping").args(["-c", "1", "-W", "1", "10.77.1.2"]).output()?;
        ensure!(!ping.status.success(), "the witness: nobody is resolved");
        let holder = cluster.start()?;
        let survivor = cluster.other(holder);
        cluster.agent(holder)?.kill()?;
        cluster.agent_mut(holder)?.reap(LIMIT)?;
        cluster.wait_service_from(survivor, LIMIT)
    })
}

#[test]
fn broadcast_needs_no_arp() -> Result<()> {
    broadcast_without_arp(Xdp::Auto)
}

#[test]
fn broadcast_needs_no_arp_on_the_socket_path() -> Result<()> {
    broadcast_without_arp(Xdp::Off)
}

/// Two owners and a witness on two bridges.
fn three_on_two(xdp: Xdp) -> Spec {
    let links = vec![LinkSpec::default(), LinkSpec { bridge: 1, ..LinkSpec::default() }];
    let keepalive = Duration::from_millis(20);
    Spec { nodes: 3, witnesses: 1, links, keepalive, policy: Policy::Majority, xdp, ..Spec::default() }
}

fn link(cluster: &Cluster, observer: usize, peer: usize, place: usize) -> Result<Value> {
    Ok(cluster.seen(observer, peer)?["links"][place].clone())
}

/// A rule of the bridges' packet filter.
fn filter(cluster: &Cluster, rule: &str) -> Result<()> {
    let rules = format!(
        "add table bridge lab\nflush table bridge lab\n\
         add chain bridge lab cut {{ type filter hook forward priority 0; }}\n{rule}\n"
    );
    let output = cluster.network().switch().command("nft").arg(rules).output().context("cannot run nft")?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_cut_link_is_dead_to_everybody_and_moves_nothing() -> Result<()> {
    scenario(three_on_two(Xdp::Auto), |cluster| {
        let holder = cluster.start()?;
        let others: Vec<usize> = (0..3).filter(|node| *node != holder).collect();
        let events = others.iter().map(|node| cluster.events(*node)).collect::<Result<Vec<_>>>()?;
        for bridge in [1, 0] {
            let from_ns = clock::now_ns();
            let cut = Port { host: holder, bridge };
            cluster.network().cut(cut)?;
            for (node, events) in others.iter().zip(&events) {
                let dead = [("event", "link"), ("peer", cluster.name(holder)), ("to", "dead")];
                events.wait(from_ns, &dead, LIMIT).context("the witness: the cut link must be seen")?;
                assert_eq!(link(cluster, *node, holder, bridge)?["state"], "dead");
                assert_eq!(link(cluster, *node, holder, 1 - bridge)?["state"], "up");
                for place in 0..2 {
                    let third = others.iter().copied().find(|other| other != node).context("no third")?;
                    assert_eq!(link(cluster, *node, third, place)?["state"], "up");
                }
            }
            clock::pause(cluster.spec().deadtime * 2)?;
            cluster.network().heal(cut)?;
            for (node, events) in others.iter().zip(&events) {
                clock::wait_for("the link to be up again", LIMIT, || {
                    Ok((link(cluster, *node, holder, bridge)?["state"] == "up").then_some(()))
                })?;
                for what in [[("event", "peer"), ("to", "dead")], [("event", "group"), ("to", "starting")]] {
                    ensure!(events.find(from_ns, &what).is_none(), "one link of two moved something");
                }
            }
        }
        // The client found nobody for as long as the first link was cut.
        assert_eq!(cluster.wait_whole()?, holder);
        Ok(())
    })
}

/// What one link loses is shown for that link, at those who miss it; round trips are measured on each.
fn loss_and_round_trips(xdp: Xdp) -> Result<()> {
    scenario(three_on_two(xdp), |cluster| {
        cluster.start()?;
        let port = Port { host: 0, bridge: 1 }.name();
        filter(
            cluster,
            &format!("add rule bridge lab cut iifname {port} numgen random mod 100 < 25 drop\n"),
        )?;
        // The window is of a few seconds.
        clock::pause(Duration::from_secs(12))?;
        for observer in [1, 2] {
            let lossy = link(cluster, observer, 0, 1)?;
            let loss = lossy["loss"].as_f64().context("loss is no number")?;
            ensure!((0.15..0.36).contains(&loss), "25 % are lost: {lossy}");
            for (peer, place) in [(0, 0), (3 - observer, 0), (3 - observer, 1)] {
                let other = link(cluster, observer, peer, place)?;
                ensure!(other["loss"].as_f64().context("no number")? < 0.05, "nothing is lost here: {other}");
            }
            assert_eq!(cluster.seen(observer, 0)?["state"], "up");
            let metrics = cluster.metrics(observer)?;
            let labels = [format!("peer=\"{}\"", cluster.name(0)), "link=\"ucast:eth1\"".to_owned()];
            let labels = [labels[0].as_str(), labels[1].as_str()];
            let shown = metrics.sum("xbeat_link_loss_ratio", &labels);
            ensure!((0.15..0.36).contains(&shown), "{shown} in {}", metrics.text());
            ensure!(metrics.has("xbeat_link_rtt_seconds", &labels), "{}", metrics.text());
        }
        for (observer, peer, place) in [(0, 1, 0), (0, 1, 1), (1, 2, 0), (2, 0, 1)] {
            let seen = link(cluster, observer, peer, place)?;
            let rtt_us = seen["rtt_us"].as_u64().with_context(|| format!("not measured: {seen}"))?;
            ensure!(rtt_us > 0 && rtt_us < 100_000, "{seen}");
        }
        Ok(())
    })
}

#[test]
fn loss_and_round_trips_are_shown_for_each_link() -> Result<()> {
    loss_and_round_trips(Xdp::Auto)
}

#[test]
fn loss_and_round_trips_are_shown_for_each_link_on_the_socket_path() -> Result<()> {
    loss_and_round_trips(Xdp::Off)
}

/// The newest heartbeat that `node` sent on the first bridge.
fn newest(cluster: &Cluster, node: usize) -> Result<Vec<u8>> {
    let id = u8::try_from(node)?;
    let own = |frame: &Captured| frame.direction == Direction::FromHost && frame.kind.is_heartbeat_of(id);
    let mut beats = cluster.capture(node)?.frames(0, own);
    beats.retain(|beat| u16::from_be_bytes([beat.bytes[12], beat.bytes[13]]) == 0x0800);
    let newest = beats.pop().context("no heartbeat was captured")?;
    // With right checksums: those of a captured frame are left to hardware.
    frame::edited(&newest.bytes, |_| ()).context("not a UDP frame")
}

/// Waits until the target has refused `count` more frames for `reason` than `before`.
fn wait_refused(cluster: &Cluster, target: usize, reason: Reject, before: u64, count: u64) -> Result<()> {
    clock::wait_for(&format!("refusals: {}", reason.label()), LIMIT, || {
        Ok((cluster.rejected(target, reason)? >= before + count).then_some(()))
    })
}

/// A frame of the first link says that it is of the second, or comes over the second's wire.
fn only_on_its_own_link(xdp: Xdp) -> Result<()> {
    let links = vec![LinkSpec::default(), LinkSpec { bridge: 1, ..LinkSpec::default() }];
    scenario(Spec { links, xdp, ..Spec::default() }, |cluster| {
        let holder = cluster.start()?;
        let target = cluster.other(holder);
        let (first, second) = (
            Injector::new(cluster.network(), Port { host: target, bridge: 0 })?,
            Injector::new(cluster.network(), Port { host: target, bridge: 1 })?,
        );
        let before = cluster.rejected(target, Reject::Link)?;
        for _ in 0..3 {
            let moved = frame::edited(&newest(cluster, holder)?, |payload| payload[at::LINK] = 1);
            first.send(&moved.context("not a UDP frame")?)?;
        }
        wait_refused(cluster, target, Reject::Link, before, 3)?;
        if xdp != Xdp::Off {
            // A socket is bound to its interface, and never sees such a frame.
            let before = cluster.rejected(target, Reject::Link)?;
            for _ in 0..3 {
                second.send(&newest(cluster, holder)?)?;
            }
            wait_refused(cluster, target, Reject::Link, before, 3)?;
        }
        assert_eq!(cluster.owner_if_whole()?, holder);
        Ok(())
    })
}

#[test]
fn a_frame_counts_only_on_its_own_link() -> Result<()> {
    only_on_its_own_link(Xdp::Auto)
}

#[test]
fn a_frame_counts_only_on_its_own_link_with_a_classifier() -> Result<()> {
    only_on_its_own_link(Xdp::Tcx)
}

#[test]
fn a_frame_counts_only_on_its_own_link_on_the_socket_path() -> Result<()> {
    only_on_its_own_link(Xdp::Off)
}

/// A heartbeat in one or two VLAN tags is a heartbeat: sent again, it is a duplicate of the one that was heard.
fn tags_hide_nothing(xdp: Xdp) -> Result<()> {
    scenario(Spec { xdp, keepalive: Duration::from_millis(100), ..Spec::default() }, |cluster| {
        let holder = cluster.start()?;
        let target = cluster.other(holder);
        let injector = Injector::new(cluster.network(), Port { host: target, bridge: 0 })?;
        let refused = |cluster: &Cluster| -> Result<u64> {
            Ok(cluster.rejected(target, Reject::Duplicate)? + cluster.rejected(target, Reject::TooOld)?)
        };
        for tags in [&[0x8100u16][..], &[0x88a8, 0x8100]] {
            let before = refused(cluster)?;
            for _ in 0..3 {
                let plain = newest(cluster, holder)?;
                let mut tagged = plain[..12].to_vec();
                for tag in tags {
                    tagged.extend(tag.to_be_bytes());
                    tagged.extend([0, 7]);
                }
                tagged.extend(&plain[12..]);
                injector.send(&tagged)?;
            }
            clock::wait_for("refusals of what was heard already", LIMIT, || {
                Ok((refused(cluster)? >= before + 3).then_some(()))
            })
            .with_context(|| format!("{} tags", tags.len()))?;
        }
        assert_eq!(cluster.owner_if_whole()?, holder);
        Ok(())
    })
}

#[test]
fn tagged_heartbeats_are_heartbeats_to_native_xdp() -> Result<()> {
    tags_hide_nothing(Xdp::Auto)
}

#[test]
fn tagged_heartbeats_are_heartbeats_to_generic_xdp() -> Result<()> {
    tags_hide_nothing(Xdp::Generic)
}

#[test]
fn tagged_heartbeats_are_heartbeats_to_a_classifier() -> Result<()> {
    tags_hide_nothing(Xdp::Tcx)
}
