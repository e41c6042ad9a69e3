//! Ping groups in network namespaces: a group moves to the node that still reaches the router, after `reachtime` and not
//! before; stays where it is when nobody does; and two nodes whose tie a ping group breaks never both serve.
//!
//! Heartbeats and the service are on the first bridge, the router is asked on the second: a node can lose either.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, scenario};
use agent_tests::lab::config::{PingSpec, Policy, Spec};
use agent_tests::lab::events::Events;
use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

const LIMIT: Duration = Duration::from_secs(15);
const REACHTIME: Duration = Duration::from_secs(3);
const ROUTER: PingSpec = PingSpec { bridge: 1, ipv6: false, deadtime: Duration::from_millis(800) };
const DEAD: [(&str, &str); 3] = [("event", "ping"), ("group", "router0"), ("to", "dead")];
const UP: [(&str, &str); 3] = [("event", "ping"), ("group", "router0"), ("to", "up")];

fn three() -> Spec {
    Spec {
        nodes: 3,
        witnesses: 1,
        policy: Policy::Majority,
        pings: vec![ROUTER],
        reachtime: REACHTIME,
        ..Spec::default()
    }
}

fn two() -> Spec {
    Spec { policy: Policy::TwoNodePing, pings: vec![ROUTER], reachtime: REACHTIME, ..Spec::default() }
}

fn to_router(host: usize) -> Port {
    Port { host, bridge: 1 }
}

/// The state of a node's first ping group.
fn ping_state(cluster: &Cluster, node: usize) -> Result<String> {
    let status = cluster.agent(node)?.status()?;
    Ok(status["pings"][0]["state"].as_str().context("status shows no ping group")?.to_owned())
}

/// Starts everything; every node reaches the router, and knew that for as long as a move takes. Says who serves.
fn start(cluster: &mut Cluster) -> Result<usize> {
    let holder = cluster.start()?;
    for node in 0..cluster.spec().nodes {
        let what = format!("{} to reach the router", cluster.name(node));
        clock::wait_for(&what, LIMIT, || Ok((ping_state(cluster, node)? == "up").then_some(())))?;
    }
    cluster.wait_whole()?;
    Ok(holder)
}

/// No group event of a change of place since `from_ns`, and the holder answers.
fn expect_unmoved(cluster: &Cluster, holder: usize, events: &Events, from_ns: u64) -> Result<()> {
    let moved = [("event", "lease"), ("to", "held")];
    ensure!(events.find(from_ns, &moved).is_none(), "a lease changed hands: {:?}", events.since(from_ns));
    let answers = cluster.client().answers_since(from_ns);
    ensure!(answers.len() > 100, "only {} answers", answers.len());
    ensure!(answers.iter().all(|answer| usize::from(answer.node) == holder), "somebody else answered");
    Ok(())
}

#[test]
fn a_group_moves_to_the_node_that_reaches_the_router_after_reachtime_and_not_back() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = start(cluster)?;
        let other = cluster.other(holder);
        let (events, others) = (cluster.events(holder)?, cluster.events(other)?);
        let cut_ns = clock::now_ns();
        cluster.network().cut(to_router(holder))?;
        let dead = events.wait(cut_ns, &DEAD, LIMIT).context("the router must be missed")?;
        let held = [("event", "lease"), ("to", "held")];
        let moved = others.wait(cut_ns, &held, LIMIT).context("the group must move")?;
        let waited = clock::ms_between(dead.at_ns, moved.at_ns);
        ensure!(waited >= REACHTIME.as_secs_f64() * 1e3, "it moved after {waited} ms");
        cluster.wait_service_from(other, LIMIT)?;
        ensure!(others.find(cut_ns, &DEAD).is_none(), "the other reaches it all the time");
        ensure!(cluster.metrics(holder)?.sum("xbeat_ping_up", &["ping=\"router0\""]) < 0.5);

        let healed_ns = clock::now_ns();
        cluster.network().heal(to_router(holder))?;
        events.wait(healed_ns, &UP, LIMIT).context("the router must be back")?;
        clock::pause(REACHTIME + Duration::from_secs(1))?;
        expect_unmoved(cluster, other, &events, healed_ns)
    })
}

#[test]
fn nothing_moves_when_a_difference_does_not_last() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = start(cluster)?;
        let (events, others) = (cluster.events(holder)?, cluster.events(cluster.other(holder))?);
        let cut_ns = clock::now_ns();
        cluster.network().cut(to_router(holder))?;
        events.wait(cut_ns, &DEAD, LIMIT)?;
        cluster.network().heal(to_router(holder))?;
        events.wait(cut_ns, &UP, LIMIT)?;
        clock::pause(REACHTIME + Duration::from_secs(1))?;
        expect_unmoved(cluster, holder, &others, cut_ns)
    })
}

#[test]
fn nothing_moves_when_both_lose_the_router_and_when_it_returns() -> Result<()> {
    scenario(three(), |cluster| {
        let holder = start(cluster)?;
        let other = cluster.other(holder);
        let (events, others) = (cluster.events(holder)?, cluster.events(other)?);
        let router = to_router(cluster.spec().router());
        let cut_ns = clock::now_ns();
        cluster.network().cut(router)?;
        for seen in [&events, &others] {
            seen.wait(cut_ns, &DEAD, LIMIT).context("both must miss it")?;
        }
        clock::pause(REACHTIME + Duration::from_secs(1))?;
        expect_unmoved(cluster, holder, &others, cut_ns)?;
        let healed_ns = clock::now_ns();
        cluster.network().heal(router)?;
        for seen in [&events, &others] {
            seen.wait(healed_ns, &UP, LIMIT).context("both must have it back")?;
        }
        clock::pause(REACHTIME + Duration::from_secs(1))?;
        expect_unmoved(cluster, holder, &others, cut_ns)
    })
}

#[test]
fn of_two_nodes_the_holder_that_loses_router_and_peer_gives_up() -> Result<()> {
    scenario(two(), |cluster| {
        let holder = start(cluster)?;
        let survivor = cluster.other(holder);
        let (events, others) = (cluster.events(holder)?, cluster.events(survivor)?);
        let cut_ns = clock::now_ns();
        cluster.network().cut(to_router(holder))?;
        cluster.network().cut(Port { host: holder, bridge: 0 })?;
        let lost = [("event", "lease"), ("to", "lost"), ("reason", "the ping group stopped answering")];
        let lost = events.wait(cut_ns, &lost, LIMIT).context("the holder must give up")?;
        let held = others.wait(cut_ns, &[("event", "lease"), ("to", "held")], LIMIT)?;
        ensure!(
            lost.at_ns <= held.at_ns,
            "both held it for {} ms",
            clock::ms_between(held.at_ns, lost.at_ns)
        );
        cluster.wait_service_from(survivor, LIMIT)?;
        // The gate is shut; the address stays for one deadtime more, in case the answer comes yet.
        clock::wait_for("one address", LIMIT, || Ok((cluster.holders()? == [survivor]).then_some(())))
    })
}

#[test]
fn of_two_nodes_the_one_that_does_not_reach_the_router_does_not_take_over() -> Result<()> {
    scenario(two(), |cluster| {
        let holder = start(cluster)?;
        let cut_off = cluster.other(holder);
        let events = cluster.events(cut_off)?;
        let cut_ns = clock::now_ns();
        cluster.network().cut(to_router(cut_off))?;
        events.wait(cut_ns, &DEAD, LIMIT)?;
        cluster.network().cut(Port { host: cut_off, bridge: 0 })?;
        let dead = [("event", "peer"), ("peer", cluster.name(holder)), ("to", "dead")];
        events.wait(cut_ns, &dead, LIMIT).context("the nodes must lose each other")?;
        clock::pause(cluster.spec().deadtime * 5)?;
        expect_unmoved(cluster, holder, &events, cut_ns)?;
        ensure!(cluster.holders()? == [holder], "the addresses are on {:?}", cluster.holders()?);

        // What it lacked was the router: with it, and the holder gone, it takes over.
        cluster.agent(holder)?.kill()?;
        let back_ns = clock::now_ns();
        cluster.network().heal(to_router(cut_off))?;
        events.wait(back_ns, &[("event", "lease"), ("to", "held")], LIMIT)?;
        Ok(())
    })
}

#[test]
fn targets_are_asked_over_ipv6_and_without_privilege_where_that_is_allowed() -> Result<()> {
    let pings = vec![PingSpec { ipv6: true, ..ROUTER }, ROUTER];
    scenario(Spec { pings, ..Spec::default() }, |cluster| {
        cluster.host(0)?.sysctl("ipv4/ping_group_range", "0 2147483647")?;
        let local = to_router(cluster.spec().router()).link_local();
        for node in 0..2 {
            let mut file = OpenOptions::new().append(true).open(cluster.agent(node)?.config_path())?;
            writeln!(file, "[[ping]]\nname = \"local\"\ntargets = [\"{local}%eth1\"]")?;
        }
        start(cluster)?;
        clock::wait_for("answers of both families", LIMIT, || {
            let metrics = cluster.metrics(0)?;
            let answered = |ping: &str| metrics.sum("xbeat_ping_received_total", &[ping]) >= 3.0;
            let all = ["ping=\"router0\"", "ping=\"router1\"", "ping=\"local\""].into_iter().all(answered);
            Ok((all && metrics.sum("xbeat_node_score", &["node=\"beta\""]) > 2.5).then_some(()))
        })?;
        let status = cluster.agent(0)?.status()?;
        let target = &status["pings"][0]["targets"][0];
        ensure!(target["address"] == "fd77:1::4" && target["rtt_us"].is_u64(), "{target}");
        let log = |node: usize| -> Result<String> { Ok(cluster.agent(node)?.log().join("\n")) };
        ensure!(log(0)?.contains("an unprivileged socket"), "{}", log(0)?);
        ensure!(log(1)?.contains("a raw socket"), "{}", log(1)?);
        Ok(())
    })
}

#[test]
fn replies_that_were_not_asked_for_revive_nothing() -> Result<()> {
    scenario(Spec { pings: vec![ROUTER], ..Spec::default() }, |cluster| {
        let router = cluster.spec().router();
        cluster.host(router)?.sysctl("ipv4/icmp_echo_ignore_all", "1")?;
        cluster.start()?;
        let is_dead = || Ok((ping_state(cluster, 0)? == "dead").then_some(()));
        clock::wait_for("a silent router", LIMIT, is_dead)?;
        let ignored = || -> Result<f64> { Ok(cluster.metrics(0)?.sum("xbeat_ping_ignored_total", &[])) };
        let before = ignored()?;
        // As an answer has it, but for the number that only the agent knows.
        let node = SockaddrIn::from(std::net::SocketAddrV4::new(Port { host: 0, bridge: 1 }.ipv4(), 0));
        cluster.host(router)?.run(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
            let mut reply = [0_u8; 32];
            // The one's complement of a sum of zeroes.
            (reply[2], reply[3]) = (0xff, 0xff);
            for _ in 0..50 {
                sendto(socket.as_raw_fd(), &reply, &node, MsgFlags::empty())?;
                clock::pause(Duration::from_millis(20))?;
            }
            Ok(())
        })?;
        clock::wait_for("the replies to be counted", LIMIT, || {
            Ok((ignored()? >= before + 50.0).then_some(()))
        })?;
        ensure!(ping_state(cluster, 0)? == "dead");
        ensure!(cluster.metrics(0)?.sum("xbeat_ping_received_total", &[]) < 0.5);

        cluster.host(router)?.sysctl("ipv4/icmp_echo_ignore_all", "0")?;
        clock::wait_for("the router's own answers", LIMIT, || {
            Ok((ping_state(cluster, 0)? == "up").then_some(()))
        })
    })
}
