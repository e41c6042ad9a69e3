//! Takeovers in network namespaces, with real agents, real interfaces and a client: by death, by a cut link, in order.
//! Times are generous, because the machine may be busy; what is checked closely is the order of things.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use agent_tests::lab::capture::{Captured, Direction};
use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, STOP, scenario};
use agent_tests::lab::config::{Spec, Xdp};
use agent_tests::lab::failover::{Kill, Stages, fail_over, mend, strike};
use agent_tests::lab::network::Port;
use agent_tests::lab::realtime;
use anyhow::{Context as _, Result, bail, ensure};

const LIMIT: Duration = Duration::from_secs(15);
/// A deadtime behind which nothing may wait in the test of the orderly stop.
const LONG: Duration = Duration::from_secs(6);

/// The stages came in order, and the verdict not before the deadtime (invariants I2 and I3).
fn check_stages(cluster: &Cluster, stages: &Stages) -> Result<()> {
    let deadtime = cluster.spec().deadtime;
    // The heartbeat is stamped by the capture a moment before the survivor's own stamp.
    ensure!(stages.overshoot_ms(deadtime) > -1.0, "declared dead too early: {stages:?}");
    ensure!(stages.overshoot_ms(deadtime) < 1000.0, "declared dead too late: {stages:?}");
    ensure!(stages.added_ns >= stages.dead_ns, "added before the verdict: {stages:?}");
    ensure!(stages.announced_ns + 1_000_000 >= stages.added_ns, "announced before it was there: {stages:?}");
    ensure!(stages.gap.ms() < 5000.0, "the client waited too long: {stages:?}");
    Ok(())
}

/// The whole way: fault, takeover, healing.
fn fail_and_heal(cluster: &mut Cluster, kill: Kill) -> Result<()> {
    let holder = cluster.start()?;
    let survivor = cluster.other(holder);
    let events = cluster.events(survivor)?;
    let stages = fail_over(cluster, holder, survivor, kill, &events, LIMIT)?;
    check_stages(cluster, &stages)?;
    ensure!(cluster.holders()?.contains(&survivor), "the survivor lacks the address");

    mend(cluster, holder, kill)?;
    let owner = cluster.wait_whole()?;
    clock::wait_for("one holder", LIMIT, || Ok((cluster.holders()? == [owner]).then_some(())))
        .context("healing")?;
    cluster.expect_service_from(owner)
}

#[test]
fn the_agent_is_killed_and_its_link_is_cut() -> Result<()> {
    scenario(Spec::default(), |cluster| fail_and_heal(cluster, Kill::Both))
}

#[test]
fn the_link_alone_is_cut() -> Result<()> {
    scenario(Spec::default(), |cluster| fail_and_heal(cluster, Kill::Link))
}

#[test]
fn on_the_socket_path() -> Result<()> {
    scenario(Spec { xdp: Xdp::Off, ..Spec::default() }, |cluster| {
        fail_and_heal(cluster, Kill::Both)?;
        let status = cluster.agent(0)?.status()?;
        assert_eq!(status["xdp"]["eth0"], "socket");
        Ok(())
    })
}

#[test]
fn the_owner_keeps_the_address_when_the_other_returns() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let survivor = cluster.other(holder);
        strike(cluster, holder, Kill::Both)?;
        cluster.wait_service_from(survivor, LIMIT)?;
        mend(cluster, holder, Kill::Both)?;
        let whole_ns = clock::now_ns();
        assert_eq!(cluster.wait_whole()?, survivor, "auto_failback is off");
        clock::pause(cluster.spec().initdead)?;
        let answers = cluster.client().answers_since(whole_ns);
        assert!(answers.len() > 100, "only {} answers", answers.len());
        assert!(answers.iter().all(|answer| usize::from(answer.node) == survivor), "the address moved");
        Ok(())
    })
}

#[test]
fn an_orderly_stop_moves_the_address_without_waiting_for_the_deadtime() -> Result<()> {
    let keepalive = Duration::from_millis(50);
    scenario(Spec { keepalive, deadtime: LONG, initdead: LONG, ..Spec::default() }, |cluster| {
        let holder = cluster.start()?;
        let survivor = cluster.other(holder);
        let events = cluster.events(survivor)?;
        let stop_ns = clock::now_ns();
        cluster.agent_mut(holder)?.stop(STOP)?;
        cluster.wait_service_from(survivor, LIMIT)?;
        let gap = cluster.client().longest_gap(stop_ns - 100_000_000).context("no answers")?;
        assert!(gap.ms() < 2000.0, "{gap:?}");
        assert!(clock::now_ns() < stop_ns + clock::ns(LONG), "slower than the deadtime");
        // It said goodbye, and nobody waited for its silence.
        let leaving = [("event", "peer"), ("peer", cluster.name(holder)), ("to", "leaving")];
        assert!(events.find(stop_ns, &leaving).is_some(), "{:?}", events.since(stop_ns));
        assert_eq!(cluster.holders()?, [survivor]);
        Ok(())
    })
}

#[test]
fn a_restarted_agent_has_a_higher_incarnation_and_disturbs_nobody() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let other = cluster.other(holder);
        let incarnation = |cluster: &Cluster| -> Result<u64> {
            cluster.seen(holder, other)?["incarnation"].as_u64().context("no incarnation")
        };
        let first = incarnation(cluster)?;
        let from_ns = clock::now_ns();
        cluster.agent_mut(other)?.stop(STOP)?;
        cluster.start_agent(other)?;
        cluster.wait_whole()?;
        let second = incarnation(cluster)?;
        cluster.agent(other)?.kill()?;
        cluster.agent_mut(other)?.reap(STOP)?;
        cluster.start_agent(other)?;
        assert_eq!(cluster.wait_whole()?, holder);
        let third = incarnation(cluster)?;
        assert!(first < second && second < third, "{first} {second} {third}");

        let answers = cluster.client().answers_since(from_ns);
        assert!(answers.len() > 100);
        assert!(answers.iter().all(|answer| usize::from(answer.node) == holder), "somebody else answered");
        assert_eq!(cluster.holders()?, [holder]);
        Ok(())
    })
}

/// How often the order of deletion and first heartbeat is looked at: the deletion can be seen late, never early.
const LOOKS: usize = 5;

/// When the next deletion of the service address on `node` is seen.
fn watch_deletion(cluster: &Cluster, node: usize) -> Result<(Child, mpsc::Receiver<Option<u64>>)> {
    let mut monitor = cluster
        .host(node)?
        .command("ip")
        .args(["-o", "monitor", "address"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run ip monitor")?;
    let stdout = monitor.stdout.take().context("no output")?;
    let address = cluster.address()?.to_string();
    let (sender, deleted) = mpsc::channel();
    std::thread::spawn(move || {
        realtime::fifo(40);
        let is_wanted = |line: &String| line.starts_with("Deleted") && line.contains(&address);
        let found = BufReader::new(stdout).lines().map_while(std::result::Result::ok).find(is_wanted);
        // Nobody listens when the test has failed already.
        let _ = sender.send(found.map(|_| clock::now_ns()));
    });
    // It must listen before anything happens.
    clock::pause(Duration::from_millis(200))?;
    Ok((monitor, deleted))
}

/// Lets the holder die and a new agent start there. Milliseconds from the leftover's deletion to the first heartbeat.
fn deletion_before_heartbeat(cluster: &mut Cluster, holder: usize) -> Result<f64> {
    let survivor = cluster.other(holder);
    strike(cluster, holder, Kill::Both)?;
    cluster.wait_service_from(survivor, LIMIT)?;
    ensure!(cluster.holders()?.len() == 2, "the killed agent's address must still be there");
    let (mut monitor, deleted) = watch_deletion(cluster, holder)?;
    let start_ns = clock::now_ns();
    mend(cluster, holder, Kill::Both)?;
    let deleted_ns = deleted.recv_timeout(LIMIT)?.context("the monitor ended")?;
    monitor.kill()?;
    monitor.wait()?;
    let node = u8::try_from(holder)?;
    let first_ns = clock::wait_for("its first heartbeat", LIMIT, || {
        let is_wanted =
            |frame: &Captured| frame.direction == Direction::FromHost && frame.kind.is_heartbeat_of(node);
        Ok(cluster.capture(holder)?.frames(start_ns, is_wanted).first().map(|frame| frame.at_ns))
    })?;
    ensure!(cluster.wait_whole()? == survivor, "the address moved back");
    ensure!(cluster.holders()? == [survivor], "more than one holds the address");
    Ok(clock::ms_between(deleted_ns, first_ns))
}

#[test]
fn a_leftover_address_goes_before_the_new_agent_speaks() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let mut holder = cluster.start()?;
        let mut seen = Vec::new();
        for _ in 0..LOOKS {
            seen.push(deletion_before_heartbeat(cluster, holder)?);
            if seen.last().is_some_and(|ms| *ms > 0.0) {
                return Ok(());
            }
            holder = cluster.other(holder);
        }
        bail!("the heartbeat came first each time, by {seen:?} ms")
    })
}

#[test]
fn a_node_that_starts_alone_serves_after_initdead_and_not_before() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let start_ns = clock::now_ns();
        cluster.start_agent(1)?;
        cluster.wait_service_from(1, LIMIT)?;
        let answers = cluster.client().answers_since(start_ns);
        // Not the sending: probes wait in the client's kernel until somebody answers its ARP requests.
        let first = answers.iter().map(|answer| answer.answered_ns).min().context("no answer")?;
        let waited = clock::ms_between(start_ns, first);
        let initdead = cluster.spec().initdead.as_secs_f64() * 1e3;
        assert!(waited >= initdead, "served after {waited} ms");
        Ok(())
    })
}

#[test]
fn a_flapping_link_leaves_one_holder() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let port = Port { host: holder, bridge: 0 };
        for _ in 0..5 {
            cluster.network().cut(port)?;
            clock::pause(cluster.spec().deadtime / 2)?;
            cluster.network().heal(port)?;
            clock::pause(cluster.spec().deadtime / 4)?;
        }
        let owner = cluster.wait_whole()?;
        clock::wait_for("one holder", LIMIT, || Ok((cluster.holders()? == [owner]).then_some(())))
    })
}
