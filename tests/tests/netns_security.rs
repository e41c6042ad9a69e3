//! What an attacker on the network can do: nothing but move counters (invariant I6). Every refusal has its counter as the
//! witness that the frame arrived; states, incarnations, the owner and the client's answers are watched meanwhile.

use std::time::Duration;

use agent_common::Reject;
use agent_common::wire::{HEADER_LEN, at};
use agent_tests::lab::agent::new_keys;
use agent_tests::lab::capture::{Captured, Direction};
use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, STOP, scenario};
use agent_tests::lab::config::{Spec, Xdp};
use agent_tests::lab::events::Events;
use agent_tests::lab::failover::{Kill, strike};
use agent_tests::lab::frame;
use agent_tests::lab::inject::Injector;
use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(15);
/// How often each forgery is sent.
const TIMES: u64 = 20;
/// Above any number that a node reaches here, so that it is not refused as a replay.
const FAR_AHEAD: u64 = 1 << 40;

/// A running cluster under attack: frames of `holder` are forged towards `target`.
struct Attack<'c> {
    cluster: &'c Cluster,
    holder: usize,
    target: usize,
    injector: Injector,
    events: Events,
    from_ns: u64,
    incarnation: u64,
}

impl<'c> Attack<'c> {
    fn on(cluster: &'c Cluster, holder: usize) -> Result<Self> {
        let target = cluster.other(holder);
        Ok(Self {
            cluster,
            holder,
            target,
            injector: Injector::new(cluster.network(), Port { host: target, bridge: 0 })?,
            events: cluster.events(target)?,
            from_ns: clock::now_ns(),
            incarnation: Self::incarnation(cluster, target, holder)?,
        })
    }

    fn incarnation(cluster: &Cluster, target: usize, holder: usize) -> Result<u64> {
        cluster.seen(target, holder)?["incarnation"].as_u64().context("no incarnation")
    }

    /// Heartbeats of the holder since `from_ns`, taken where it sends them: at the target the forged ones pass too.
    fn heartbeats(&self, from_ns: u64) -> Result<Vec<Captured>> {
        let node = u8::try_from(self.holder)?;
        let is_wanted =
            |frame: &Captured| frame.direction == Direction::FromHost && frame.kind.is_heartbeat_of(node);
        Ok(self.cluster.capture(self.holder)?.frames(from_ns, is_wanted))
    }

    fn newest_heartbeat(&self) -> Result<Vec<u8>> {
        let newest = self.heartbeats(0)?.pop().context("no heartbeat was captured")?;
        Ok(newest.bytes)
    }

    /// Sends what `forge` makes of the newest heartbeat until the counter has moved `TIMES` times.
    fn expect(&self, reason: Reject, forge: impl Fn(&mut Vec<u8>)) -> Result<()> {
        let before = self.cluster.rejected(self.target, reason)?;
        for _ in 0..TIMES {
            let forged = frame::edited(&self.newest_heartbeat()?, &forge).context("not a UDP frame")?;
            self.injector.send(&forged)?;
        }
        self.wait_for_refusals(reason, before + TIMES)
    }

    fn wait_for_refusals(&self, reason: Reject, count: u64) -> Result<()> {
        clock::wait_for(&format!("refusals: {}", reason.label()), LIMIT, || {
            Ok((self.cluster.rejected(self.target, reason)? >= count).then_some(()))
        })
        .with_context(|| {
            let status = self.cluster.agent(self.target).and_then(agent_tests::lab::agent::Agent::status);
            let refused = status.map(|status| status["rejected"].to_string());
            format!("{count} wanted, refused so far: {refused:?}")
        })
    }

    /// Nothing has changed since the attack began.
    fn check_unmoved(&self) -> Result<()> {
        let changed =
            self.events.since(self.from_ns).into_iter().find(|event| event.text("event") != Some("self"));
        ensure!(changed.is_none(), "something changed: {changed:?}");
        let incarnation = Self::incarnation(self.cluster, self.target, self.holder)?;
        ensure!(incarnation == self.incarnation, "the incarnation changed");
        ensure!(self.cluster.seen(self.target, self.holder)?["state"] == "up", "the holder is not up");
        let answers = self.cluster.client().answers_since(self.from_ns);
        ensure!(answers.len() > 100, "only {} answers", answers.len());
        ensure!(answers.iter().all(|answer| usize::from(answer.node) == self.holder), "the address moved");
        Ok(())
    }
}

fn put(at: usize, bytes: &[u8]) -> impl Fn(&mut Vec<u8>) {
    move |payload| {
        for (to, from) in payload.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
}

/// One forgery for every reason that a stranger can cause, each right in all that is checked before.
fn forge_everything(attack: &Attack<'_>) -> Result<()> {
    let target = u8::try_from(attack.target)?;
    attack.expect(Reject::Length, |payload| payload.truncate(40))?;
    attack.expect(Reject::Length, |payload| payload.push(0))?;
    attack.expect(Reject::Magic, put(0, b"GET"))?;
    attack.expect(Reject::Magic, |payload| {
        payload.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(167))
    })?;
    attack.expect(Reject::Version, put(3, &[9]))?;
    attack.expect(Reject::Cluster, put(at::CLUSTER, &[1, 2, 3, 4]))?;
    attack.expect(Reject::Node, put(at::NODE, &[17]))?;
    attack.expect(Reject::Node, put(at::NODE, &[255]))?;
    // Whose id it is matters only once it is authentic.
    attack.expect(Reject::Screen, put(at::NODE, &[target]))?;
    attack.expect(Reject::Link, put(at::LINK, &[5]))?;
    attack.expect(Reject::Key, put(at::KEY, &[99]))?;
    attack.expect(Reject::Timing, put(at::DEADTIME, &[0xff; 4]))?;
    attack.expect(Reject::Timing, put(at::KEEPALIVE, &[0; 4]))?;
    attack.expect(Reject::Incarnation, put(at::INCARNATION, &[0; 8]))?;
    // A number far ahead, or a later life: both would shut out the true sender if they counted.
    attack.expect(Reject::Screen, put(at::SEQ, &FAR_AHEAD.to_be_bytes()))?;
    attack.expect(Reject::Screen, put(at::INCARNATION, &[0xff; 8]))
}

/// Frames that were sent already: as they are, and when they are old.
fn replay(attack: &Attack<'_>) -> Result<()> {
    attack.expect(Reject::Duplicate, |_| ())?;
    let beats = clock::wait_for("a hundred heartbeats", LIMIT, || {
        let beats = attack.heartbeats(attack.from_ns)?;
        Ok((beats.len() > 100).then_some(beats))
    })?;
    let before = attack.cluster.rejected(attack.target, Reject::TooOld)?;
    for beat in beats.iter().take(10) {
        let old = frame::edited(&beat.bytes, |_| ()).context("not a UDP frame")?;
        attack.injector.send(&old)?;
    }
    attack.wait_for_refusals(Reject::TooOld, before + 10)
}

#[test]
fn forged_and_replayed_frames_move_nothing_but_counters() -> Result<()> {
    scenario(Spec { keepalive: Duration::from_millis(20), ..Spec::default() }, |cluster| {
        let holder = cluster.start()?;
        let attack = Attack::on(cluster, holder)?;
        forge_everything(&attack)?;
        replay(&attack)?;
        attack.check_unmoved()
    })
}

#[test]
fn the_socket_path_refuses_the_same() -> Result<()> {
    let spec = Spec { keepalive: Duration::from_millis(20), xdp: Xdp::Off, ..Spec::default() };
    scenario(spec, |cluster| {
        let holder = cluster.start()?;
        let attack = Attack::on(cluster, holder)?;
        forge_everything(&attack)?;
        replay(&attack)?;
        attack.check_unmoved()
    })
}

#[test]
fn a_header_that_was_not_heard_yet_is_good_for_no_other_frame() -> Result<()> {
    // Slow heartbeats and a long deadtime: some may be withheld without a death.
    let timing =
        Spec { deadtime: Duration::from_secs(4), initdead: Duration::from_secs(5), ..Spec::default() };
    scenario(timing, |cluster| {
        let holder = cluster.start()?;
        let attack = Attack::on(cluster, holder)?;
        let port = Port { host: attack.target, bridge: 0 };
        let cut_ns = clock::now_ns();
        cluster.network().cut(port)?;
        let node = u8::try_from(holder)?;
        let unheard = clock::wait_for("heartbeats that the target does not hear", LIMIT, || {
            let beats = cluster.capture(holder)?.frames(cut_ns + 20_000_000, |frame| {
                frame.direction == Direction::FromHost && frame.kind.is_heartbeat_of(node)
            });
            Ok((beats.len() >= 5).then_some(beats))
        })?;
        cluster.network().heal(port)?;
        let before = cluster.rejected(attack.target, Reject::Screen)?;
        for beat in &unheard {
            let forged = frame::edited(&beat.bytes, |payload| {
                if let Some(byte) = payload.get_mut(HEADER_LEN) {
                    *byte ^= 1;
                }
            });
            attack.injector.send(&forged.context("not a UDP frame")?)?;
        }
        attack.wait_for_refusals(Reject::Screen, before + unheard.len() as u64)?;
        cluster.wait_state(attack.target, holder, "up", LIMIT)?;
        let dead = [("event", "peer"), ("to", "dead")];
        assert!(attack.events.find(attack.from_ns, &dead).is_none());
        Ok(())
    })
}

#[test]
fn replayed_frames_do_not_raise_the_dead() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let attack = Attack::on(cluster, holder)?;
        clock::pause(Duration::from_millis(500))?;
        // Only what the target has heard: it was not listening yet when the first were sent.
        let beats = attack.heartbeats(attack.from_ns)?;
        let struck_ns = strike(cluster, holder, Kill::Both)?;
        let dead = [("event", "peer"), ("peer", cluster.name(holder)), ("to", "dead")];
        let dead_ns = attack.events.wait(struck_ns, &dead, LIMIT)?.at_ns;
        let refused = |cluster: &Cluster| -> Result<u64> {
            Ok(cluster.rejected(attack.target, Reject::Duplicate)?
                + cluster.rejected(attack.target, Reject::TooOld)?)
        };
        let before = refused(cluster)?;
        for beat in &beats {
            attack.injector.send(&frame::edited(&beat.bytes, |_| ()).context("not a UDP frame")?)?;
        }
        clock::wait_for("the replays to be refused", LIMIT, || {
            Ok((refused(cluster)? >= before + beats.len() as u64).then_some(()))
        })?;
        assert!(beats.len() >= 5, "only {} heartbeats", beats.len());
        assert_eq!(cluster.seen(attack.target, holder)?["state"], "dead");
        let risen = attack.events.find(dead_ns + 1, &[("event", "peer"), ("peer", cluster.name(holder))]);
        assert_eq!(risen, None);
        let link_risen = attack.events.find(dead_ns + 1, &[("event", "link"), ("to", "up")]);
        assert_eq!(link_risen, None);
        Ok(())
    })
}

#[test]
fn a_node_with_another_key_is_nobody() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let keys = new_keys(cluster.scratch().root())?;
        cluster.agent(1)?.write_keys(&keys)?;
        cluster.start_agent(0)?;
        cluster.start_agent(1)?;
        clock::wait_for("refusals by the screen", LIMIT, || {
            // The agent may not answer yet.
            let refused = cluster.rejected(0, Reject::Screen).unwrap_or(0);
            Ok((refused > 20).then_some(()))
        })?;
        let seen = cluster.seen(0, 1)?;
        assert!(seen["state"] == "unknown" || seen["state"] == "dead", "{seen}");
        assert_eq!(seen["last_heard_ms"], serde_json::Value::Null);
        Ok(())
    })
}

/// A key file with these secrets under ids from 1 on.
fn key_file(sign_with: usize, secrets: &[(usize, String)]) -> String {
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

/// Gives every agent the keys and waits until the wire carries `id`.
fn roll(cluster: &Cluster, keys: &str, id: u8) -> Result<()> {
    let from_ns = clock::now_ns();
    for node in 0..2 {
        cluster.agent(node)?.write_keys(keys)?;
        cluster.agent(node)?.signal(Signal::SIGHUP)?;
    }
    for node in 0..2_u8 {
        let what = format!("node {node} to sign with key {id}");
        clock::wait_for(&what, LIMIT, || {
            let beats = cluster.capture(usize::from(node))?.frames(from_ns, |frame| {
                frame.direction == Direction::FromHost && frame.kind.is_heartbeat_of(node)
            });
            let newest = beats.last().and_then(|beat| frame::payload(&beat.bytes)?.get(at::KEY).copied());
            Ok((newest == Some(id)).then_some(()))
        })?;
    }
    // Both files are read before the next step, as an operator would wait.
    clock::pause(Duration::from_millis(300))
}

#[test]
fn keys_roll_over_under_traffic() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let old = secret_of(cluster.keys())?;
        let new = secret_of(&new_keys(cluster.scratch().root())?)?;
        let holder = cluster.start()?;
        let attack = Attack::on(cluster, holder)?;
        let both = [(1, old), (2, new.clone())];
        roll(cluster, &key_file(1, &both), 1)?;
        roll(cluster, &key_file(2, &both), 2)?;
        roll(cluster, &key_file(2, &[(2, new)]), 2)?;
        clock::pause(cluster.spec().deadtime * 2)?;
        let moved = attack
            .events
            .since(attack.from_ns)
            .into_iter()
            .find(|event| event.text("event") == Some("peer") || event.text("event") == Some("group"));
        assert_eq!(moved, None);
        assert_eq!(cluster.owner_if_whole()?, holder);
        // The old key is gone: what it signed does not even reach the replay window.
        attack.expect(Reject::Key, put(at::KEY, &[1]))
    })
}

#[test]
fn a_broken_key_file_leaves_the_old_keys_in_force() -> Result<()> {
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let events = cluster.events(holder)?;
        let from_ns = clock::now_ns();
        cluster.agent(holder)?.write_keys("sign_with = ")?;
        cluster.agent(holder)?.signal(Signal::SIGHUP)?;
        events.wait(from_ns, &[("event", "config"), ("to", "refused")], LIMIT)?;
        clock::pause(cluster.spec().deadtime * 2)?;
        assert_eq!(cluster.owner_if_whole()?, holder);
        cluster.agent_mut(holder)?.stop(STOP)
    })
}

#[test]
fn another_cluster_on_the_same_wire_is_not_noticed() -> Result<()> {
    let other = Spec { cluster: "other".to_owned(), ..Spec::default() };
    scenario(Spec::default(), |cluster| {
        let holder = cluster.start()?;
        let attack = Attack::on(cluster, holder)?;
        // Its heartbeats, made by a real agent of that cluster elsewhere, put on this wire.
        let foreign = heartbeats_of_another(other.clone())?;
        let before = cluster.rejected(attack.target, Reject::Cluster)?;
        for beat in &foreign {
            let newest = attack.newest_heartbeat()?;
            let payload = frame::payload(beat).context("not a UDP frame")?;
            let copy = frame::edited(&newest, |own| *own = payload.to_vec()).context("not a UDP frame")?;
            attack.injector.send(&copy)?;
        }
        attack.wait_for_refusals(Reject::Cluster, before + foreign.len() as u64)?;
        attack.check_unmoved()
    })
}

/// Runs a cluster on a thread of its own (its files live in that thread's mounts) and takes its heartbeats.
fn heartbeats_of_another(spec: Spec) -> Result<Vec<Vec<u8>>> {
    let other = std::thread::spawn(move || -> Result<Vec<Vec<u8>>> {
        let mut cluster = Cluster::new(spec)?;
        let holder = cluster.start()?;
        let node = u8::try_from(holder)?;
        let beats = cluster
            .capture(cluster.other(holder))?
            .frames(0, |frame| frame.direction == Direction::ToHost && frame.kind.is_heartbeat_of(node));
        ensure!(!beats.is_empty(), "the other cluster sent nothing");
        Ok(beats.into_iter().map(|beat| beat.bytes).collect())
    });
    other.join().map_err(|_| anyhow::anyhow!("the other cluster panicked"))?
}
