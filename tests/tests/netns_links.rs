//! Every kind of link and every way to receive, each shown by a takeover that it carried; and that a node which is heard
//! on one of two links is not dead.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, scenario};
use agent_tests::lab::config::{Cast, LinkSpec, Spec, Xdp};
use agent_tests::lab::failover::{Kill, fail_over};
use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result};

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
