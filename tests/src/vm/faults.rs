//! What a cluster of two machines does when one fails. Silence and order are read from the survivor's own events and from
//! its own watch of the address, by one clock; the host's clock only bounds how long is waited.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::checks::serves;
use super::config::{DEADTIME, GROUP, Node, Spec};
use super::machine::until;
use super::pair::Pair;
use super::protocol::{Order, Watched};
use crate::lab::clock;

/// More than a takeover takes when the host is busy.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(30);
/// What the guest's stamps may be early or late: the machine may stand still in between.
const SLACK_MS: u64 = 500;
/// Requests without an answer that show a shut gate.
const WITNESSES: u64 = 25;
/// The agent's timeout is the deadtime in whole seconds; the device takes twice that at most.
const WATCHDOG_LIMIT: Duration = Duration::from_secs(20);
/// Twice the watchdog's timeout: who is not reset by then is petted, or stopped.
const PETTED: Duration = Duration::from_secs(5);

/// What the survivor saw.
struct Seen {
    /// Since the last heartbeat, when the node was declared dead.
    silent_ms: u64,
    /// When the survivor served.
    served_ns: u64,
    /// The latest wake-up of the survivor's realtime thread: what a silence may be longer than the deadtime.
    late_ms: u64,
}

impl Seen {
    fn told(&self) -> String {
        let Self { silent_ms, late_ms, .. } = self;
        format!("dead after {silent_ms} ms (it woke up to {late_ms} ms late)")
    }
}

/// SIGKILL to the holder's agent: its machine lives on with the address, and must not answer for it once the other may.
pub(super) fn killed(pair: &mut Pair, spec: Spec) -> Result<String> {
    let holder = pair.agreed()?;
    let other = holder.peer();
    let (service, own) = (super::config::SERVICE, other.address());
    pair.on(holder).order(Order::Talk { from: service, to: own })?;
    pair.on(other).order(Order::Watch { mac: holder.mac(), address: service, own })?;
    until("answers and datagrams of the holder", TAKEOVER_LIMIT, || {
        let watched: Watched = pair.on(other).ask(Order::Watched)?;
        Ok((watched.answers >= WITNESSES && watched.heard >= WITNESSES).then_some(()))
    })?;
    let since_ns = pair.on(other).ask(Order::Now)?;
    pair.on(holder).order(Order::Kill)?;
    let seen = takeover(pair, holder, since_ns)?;
    let at_takeover: Watched = pair.on(other).ask(Order::Watched)?;
    let watched = until("requests that nobody answers", TAKEOVER_LIMIT, || {
        let watched: Watched = pair.on(other).ask(Order::Watched)?;
        Ok((watched.asked >= at_takeover.asked + WITNESSES).then_some(watched))
    })?;
    pair.on(other).order(Order::Quiet)?;
    pair.on(holder).order(Order::Quiet)?;
    let before_ms = |at_ns: u64| clock::ms_between(at_ns, seen.served_ns);
    let (answer, said) = (before_ms(watched.last_answer_ns), before_ms(watched.last_heard_ns));
    let told = format!("last answer {answer:.0} ms and last packet {said:.0} ms before the takeover");
    // Both have a lower bound too: it did answer, until about then.
    let slack = SLACK_MS as f64;
    ensure!(answer > -slack && said > -slack, "the killed node's kernel still serves: {told}");
    ensure!(answer < 2.0 * slack && said < 2.0 * slack, "the gate shut long before its time: {told}");
    pair.start(holder, spec)?;
    pair.agreed()?;
    Ok(format!("{}; {told}", seen.told()))
}

/// The network is cut, and the serial line goes on: nobody is dead, nothing moves, and the network comes back.
pub(super) fn network_cut(pair: &mut Pair) -> Result<String> {
    let holder = pair.agreed()?;
    let other = holder.peer();
    let since_ns = pair.on(other).ask(Order::Now)?;
    // A card without its cable tells its guest; both are told.
    for node in Node::BOTH {
        pair.on(node).qmp().set_link(false)?;
    }
    until("the network's link dead", TAKEOVER_LIMIT, || {
        Ok((pair.status(other)?.link(holder, "ucast") == "dead").then_some(()))
    })?;
    clock::pause(2 * DEADTIME)?;
    let (serial, up) = {
        let status = pair.status(other)?;
        (status.link(holder, "serial"), status.sees_up(holder))
    };
    for node in Node::BOTH {
        pair.on(node).qmp().set_link(true)?;
    }
    ensure!(up && serial == "up", "the peer is up: {up}, the serial link is {serial:?}");
    until("the network's link up again", TAKEOVER_LIMIT, || {
        Ok((pair.status(other)?.link(holder, "ucast") == "up").then_some(()))
    })?;
    ensure!(pair.agreed()? == holder, "the group moved");
    let events: Vec<Value> = pair.on(other).ask(Order::Events { since_ns })?;
    let deaths = events.iter().filter(|event| is(event, &[("event", "peer"), ("to", "dead")])).count();
    ensure!(deaths == 0, "{deaths} times declared dead");
    Ok("peer up by the serial line alone, nothing moved".to_owned())
}

/// The holder's kernel panics; it boots again and joins, with a watchdog from now on.
pub(super) fn panic(pair: &mut Pair, spec: Spec) -> Result<String> {
    let holder = pair.agreed()?;
    let other = holder.peer();
    let since_ns = pair.on(other).ask(Order::Now)?;
    let host_ns = clock::now_ns();
    pair.on(holder).begin(Order::Panic)?;
    let seen = takeover(pair, holder, since_ns)?;
    pair.on(holder).qmp().wait("RESET", host_ns, TAKEOVER_LIMIT)?;
    pair.on(holder).wait_for_boot()?;
    pair.on(holder).prioritise();
    pair.start(holder, spec)?;
    ensure!(pair.agreed()? == other, "the group moved back");
    Ok(format!("{}, booted and joined again", seen.told()))
}

/// A node with an open watchdog loses its agent: the hardware resets it.
pub(super) fn watchdog(pair: &mut Pair, spec: Spec) -> Result<String> {
    let node = pair.agreed()?.peer();
    let petted_ns = clock::now_ns();
    let state: String = pair.on(node).ask(Order::Watchdog)?;
    ensure!(state == "active", "the watchdog is {state}");
    clock::pause(PETTED)?;
    let fired = pair.on(node).qmp().find("WATCHDOG", petted_ns);
    ensure!(fired.is_none(), "the watchdog fired while the agent ran");
    let killed_ns = clock::now_ns();
    pair.on(node).order(Order::Kill)?;
    let fired = pair.on(node).qmp().wait("WATCHDOG", killed_ns, WATCHDOG_LIMIT)?;
    pair.on(node).qmp().wait("RESET", killed_ns, WATCHDOG_LIMIT)?;
    pair.on(node).wait_for_boot()?;
    pair.on(node).prioritise();
    pair.start(node, spec)?;
    pair.agreed()?;
    Ok(format!(
        "quiet while petted, reset {:.1} s after the kill",
        clock::ms_between(killed_ns, fired.at_ns) / 1e3
    ))
}

/// Who stops in order stops the watchdog, too.
pub(super) fn stop(pair: &mut Pair) -> Result<String> {
    let node = pair.agreed()?.peer();
    let since_ns = clock::now_ns();
    let before: String = pair.on(node).ask(Order::Watchdog)?;
    pair.on(node).order(Order::Stop)?;
    let after: String = pair.on(node).ask(Order::Watchdog)?;
    ensure!((before.as_str(), after.as_str()) == ("active", "inactive"), "{before}, then {after}");
    clock::pause(PETTED)?;
    ensure!(
        pair.on(node).qmp().find("WATCHDOG", since_ns).is_none(),
        "the watchdog fired after an orderly stop"
    );
    pair.on(node.peer()).order(Order::Stop)?;
    Ok("the watchdog is closed and stays quiet".to_owned())
}

/// Waits until the other node serves, and reads from its events what it saw.
fn takeover(pair: &mut Pair, lost: Node, since_ns: u64) -> Result<Seen> {
    let survivor = lost.peer();
    serves(pair, survivor, TAKEOVER_LIMIT)?;
    let events: Vec<Value> = pair.on(survivor).ask(Order::Events { since_ns })?;
    let find = |fields: &[(&str, &str)]| {
        events.iter().find(|event| is(event, fields)).with_context(|| format!("no event {fields:?}"))
    };
    let dead = find(&[("event", "peer"), ("peer", lost.name()), ("to", "dead")])?;
    let served = find(&[("event", "group"), ("group", GROUP), ("to", "serving")])?;
    let silent_ms = dead.get("silent_ms").and_then(Value::as_u64).context("no silence told")?;
    let served_ns = served.get("t_ns").and_then(Value::as_u64).context("no time told")?;
    let deadtime_ms = DEADTIME.as_millis() as u64;
    ensure!(silent_ms >= deadtime_ms, "declared dead after {silent_ms} ms of silence, before the deadtime");
    ensure!(silent_ms <= deadtime_ms + SLACK_MS, "declared dead only after {silent_ms} ms of silence");
    let late_ms = pair.status(survivor)?.lateness_max_us() / 1000;
    Ok(Seen { silent_ms, served_ns, late_ms })
}

fn is(event: &Value, fields: &[(&str, &str)]) -> bool {
    fields.iter().all(|(key, wanted)| event.get(key).and_then(Value::as_str) == Some(wanted))
}
