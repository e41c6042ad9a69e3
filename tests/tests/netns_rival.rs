//! Two machines with one node id: the one that takes part stays, the one that comes ends, and says where the other is.
//! The second machine is a host of the network that runs an agent with a running node's configuration.

use std::fs;
use std::time::Duration;

use agent_tests::lab::agent::Agent;
use agent_tests::lab::capture::Direction;
use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, SETTLE, STOP, scenario};
use agent_tests::lab::config::{Cast, LinkSpec, Policy, Spec, Xdp};
use agent_tests::lab::inject::Injector;
use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result, ensure};

/// Whose id is used twice. Not the owner, who is the first.
const TWICE: usize = 1;
/// The host of the second machine: that of the observer, which these tests do without.
const NEWCOMER: usize = 4;

/// All nodes hear all others, whoever they are.
fn spec() -> Spec {
    Spec {
        nodes: 3,
        policy: Policy::Majority,
        links: vec![LinkSpec { bridge: 0, cast: Cast::Multicast, ipv6: false }],
        ..Spec::default()
    }
}

/// An agent that takes itself for node [`TWICE`], `generation` being the last that it remembers.
fn newcomer(cluster: &Cluster, generation: Option<u64>) -> Result<Agent> {
    let spec = cluster.spec();
    let scratch = cluster.scratch();
    let directory = scratch.root().join("newcomer");
    let bpffs = scratch.bpffs().unwrap_or(scratch.root()).join("newcomer");
    fs::create_dir_all(&bpffs).context("cannot make the bpffs directory")?;
    if let Some(generation) = generation {
        remember(&directory, generation)?;
    }
    let toml = spec.toml(TWICE, &directory, &bpffs);
    let mut agent = Agent::new("newcomer", &directory, &toml, cluster.keys())?;
    agent.start(cluster.network().host(NEWCOMER)?)?;
    Ok(agent)
}

fn remember(directory: &std::path::Path, generation: u64) -> Result<()> {
    let state = directory.join("state");
    fs::create_dir_all(&state)?;
    fs::write(state.join("generation"), format!("{generation}\n")).context("cannot write the generation")
}

/// The newcomer ends, and names the incumbent's address.
fn gives_way(cluster: &Cluster, mut agent: Agent) -> Result<()> {
    let ended = agent.reap(STOP)?;
    ensure!(ended.code() == Some(1), "the newcomer ended with {ended}");
    let address = Port { host: TWICE, bridge: 0 }.ipv4();
    let node = cluster.name(TWICE);
    let said = format!("another node already runs as {node} (id {TWICE}) at {address}");
    // Its last line may come after its end.
    clock::wait_for(&said, SETTLE, || Ok(agent.has_logged(&said).then_some(())))
        .with_context(|| format!("{:#?}", agent.log()))?;
    Ok(())
}

/// The newcomer remembers nothing, or no more than the incumbent does: its heartbeats count for nobody, it ends, and the
/// cluster has not noticed.
fn a_fresh_copy_changes_nothing(spec: Spec) -> Result<()> {
    scenario(spec, |cluster| {
        remember(&cluster.scratch().root().join(cluster.name(TWICE)), 500)?;
        let holder = cluster.start()?;
        clock::pause(cluster.spec().initdead + Duration::from_millis(500))?;
        let incarnation = cluster.seen(holder, TWICE)?["incarnation"].clone();
        for generation in [None, Some(400), Some(500)] {
            let from_ns = clock::now_ns();
            let agent = newcomer(cluster, generation)?;
            gives_way(cluster, agent)?;
            ensure!(cluster.owner_if_whole()? == holder);
            ensure!(cluster.seen(holder, TWICE)?["incarnation"] == incarnation, "the incumbent started anew");
            let answers = cluster.client().answers_since(from_ns);
            ensure!(answers.iter().all(|answer| usize::from(answer.node) == holder), "the address moved");
        }
        Ok(())
    })
}

#[test]
fn a_fresh_copy_of_a_running_node_gives_way() -> Result<()> {
    a_fresh_copy_changes_nothing(spec())
}

#[test]
fn a_fresh_copy_gives_way_on_the_socket_path() -> Result<()> {
    a_fresh_copy_changes_nothing(Spec { xdp: Xdp::Off, ..spec() })
}

#[test]
fn a_fresh_copy_gives_way_on_the_classifiers_path() -> Result<()> {
    a_fresh_copy_changes_nothing(Spec { xdp: Xdp::Tcx, ..spec() })
}

/// The newcomer's incarnation is above the incumbent's: the peers believe it for a moment, the incumbent says that there
/// is another, starts over above it and stays; the newcomer ends.
#[test]
fn a_copy_with_a_later_generation_gives_way_too() -> Result<()> {
    scenario(spec(), |cluster| {
        let holder = cluster.start()?;
        // Who has run for as long was here first.
        clock::pause(cluster.spec().initdead + Duration::from_millis(500))?;
        let events = cluster.events(TWICE)?;
        let from_ns = clock::now_ns();
        let agent = newcomer(cluster, Some(5000))?;
        gives_way(cluster, agent)?;
        ensure!(cluster.wait_whole()? == holder, "the service moved");
        ensure!(cluster.agent_mut(TWICE)?.has_ended()?.is_none(), "the incumbent ended");
        let address = Port { host: NEWCOMER, bridge: 0 }.ipv4().to_string();
        let told = events.wait(from_ns, &[("event", "self"), ("to", "rival")], SETTLE)?;
        ensure!(told.text("address") == Some(address.as_str()), "{told:?}");
        ensure!(told.text("interface") == Some("eth0"), "{told:?}");
        let warning = format!("another node uses this node's id at {address} on eth0");
        ensure!(cluster.agent(TWICE)?.has_logged(&warning), "{:#?}", cluster.agent(TWICE)?.log());
        let counted = cluster.metrics(TWICE)?.sum("xbeat_rival_heartbeats_total", &[]);
        ensure!(counted >= 1.0, "counted {counted}");
        let quiet = cluster.metrics(holder)?.sum("xbeat_rival_heartbeats_total", &[]);
        ensure!(quiet == 0.0, "the holder has no rival, but counted {quiet}");
        Ok(())
    })
}

/// A node that starts again is no rival of itself, whatever of its former life is heard: what was captured of it is sent
/// again and again, and it starts all the same.
#[test]
fn a_replay_of_an_earlier_life_keeps_nobody_from_starting() -> Result<()> {
    scenario(spec(), |cluster| {
        let holder = cluster.start()?;
        clock::pause(Duration::from_secs(1))?;
        let beats = cluster.capture(TWICE)?.frames(0, |frame| {
            frame.direction == Direction::FromHost && frame.kind.is_heartbeat_of(TWICE as u8)
        });
        ensure!(beats.len() > 10, "only {} heartbeats were captured", beats.len());
        cluster.agent_mut(TWICE)?.stop(STOP)?;
        let injector = Injector::new(cluster.network(), Port { host: TWICE, bridge: 0 })?;
        cluster.start_agent(TWICE)?;
        let end_ns = clock::now_ns() + 3_000_000_000;
        while clock::now_ns() < end_ns {
            for beat in beats.iter().rev().take(20) {
                injector.send(&beat.bytes)?;
                clock::pause(Duration::from_millis(2))?;
            }
        }
        ensure!(cluster.wait_whole()? == holder, "the service moved");
        let heard = cluster.metrics(TWICE)?.sum("xbeat_rival_heartbeats_total", &[]);
        ensure!(heard >= 10.0, "the witness: the replay was heard, but {heard} were counted");
        Ok(())
    })
}
