//! One failover, the same for every software: strike, follow the takeover, give back what was taken, and count who answered.

use std::time::Duration;

use agent_tests::lab::capture::Capture;
use agent_tests::lab::client::Client;
use agent_tests::lab::failover::sleep_to_phase;
use agent_tests::lab::observer::Observer;
use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result};

use super::stalls::Stalls;
use super::watch::{both_ms, outage_ms};
use super::{Fault, Run};

/// Above ordinary work, below everything measured: the fault must come at once.
const PRIORITY: i32 = 40;
/// More than any takeover may take.
const LIMIT: Duration = Duration::from_secs(15);
/// Client and observer ask for so long before the fault.
const BEFORE: Duration = Duration::from_millis(100);
/// And for so long after the first answer of the new node.
const AFTER: Duration = Duration::from_millis(100);
/// And for so long after the old node is heard again.
const RETURNED: Duration = Duration::from_millis(250);
/// A link that is given back carries frames after a second at the latest (`linkwatch`).
const CARRIER: Duration = Duration::from_millis(2_500);

/// Two nodes that may serve, whatever software runs on them.
pub(super) trait Stand {
    /// Undoes the last fault, and starts what does not run. Becoming whole takes its time afterwards.
    ///
    /// # Errors
    /// It cannot be started.
    fn mend(&mut self) -> Result<()>;

    /// Waits until the nodes see each other and one serves; says which.
    ///
    /// # Errors
    /// It did not happen.
    fn wait_whole(&mut self) -> Result<usize>;

    /// The client.
    fn client(&self) -> &Client;

    /// At a node's port.
    fn capture(&self, node: usize) -> Result<&Capture>;

    /// Starts one.
    fn observer(&self) -> Result<Observer>;

    /// Between two heartbeats.
    fn interval(&self) -> Duration;

    /// The deadtime at a node.
    fn deadtime(&self, node: usize) -> Duration;

    /// When the newest heartbeat of `of` went to `to`, no later than `until_ns`.
    fn last_heard_ns(&self, of: usize, to: usize, until_ns: u64) -> Option<u64>;

    /// Strikes a node. Says when.
    ///
    /// # Errors
    /// It cannot be done.
    fn strike(&mut self, fault: Fault, node: usize) -> Result<u64>;

    /// Gives back what a fault that returns has taken.
    ///
    /// # Errors
    /// It cannot be done.
    fn give_back(&mut self, fault: Fault, node: usize) -> Result<()>;

    /// When `node` declared the other dead.
    fn dead_ns(&self, node: usize, from_ns: u64) -> Option<u64>;

    /// When `node` had the address, if that can be seen.
    fn address_ns(&self, node: usize, from_ns: u64) -> Option<u64>;
}

/// What came of it.
pub(super) enum Outcome {
    /// The failover.
    Measured(Run),
    /// The service had moved before the fault. The machine's worst stall in that time, in milliseconds.
    Unasked(f64),
}

/// When what happened.
struct Stages {
    fault_ns: u64,
    heard_ns: Option<u64>,
    dead_ns: Option<u64>,
    address_ns: Option<u64>,
    announced_ns: u64,
    /// The first answer of the new node was read.
    answered_ns: u64,
}

/// Strikes `holder`, who served at `whole_ns`, at `phase` of its interval.
pub(super) fn measure(
    stand: &mut dyn Stand,
    (holder, whole_ns): (usize, u64),
    fault: Fault,
    phase: f64,
    stalls: &Stalls,
) -> Result<Outcome> {
    let survivor = usize::from(holder == 0);
    let observer = stand.observer()?;
    stand.client().rest(false);
    stand.capture(survivor)?.clear();
    let from_ns = clock::now_ns();
    clock::pause(BEFORE)?;
    let is_served = stand.client().newest_answer(BEFORE).is_some_and(|one| usize::from(one.node) == holder);
    if !is_served {
        return Ok(Outcome::Unasked(stalls.worst_ms(whole_ns, clock::now_ns())));
    }
    let asked = observer.asked(holder);
    stand.client().forget_lateness();
    let seen_ns =
        stand.last_heard_ns(holder, survivor, clock::now_ns()).context("no heartbeat was captured")?;
    let interval = stand.interval();
    let fault_ns = realtime::with_fifo(PRIORITY, || {
        sleep_to_phase(seen_ns, interval, phase);
        stand.strike(fault, holder)
    })?;
    let stages = follow(stand, holder, survivor, fault, fault_ns)?;
    clock::pause(AFTER)?;
    let over_ns = clock::now_ns();
    let (client_late_ms, stall_ms) =
        (stand.client().late_max_ms(), stalls.worst_ms(fault_ns, stages.answered_ns));
    let outage = outage_ms(&stand.client().probes(from_ns, over_ns));
    let mut return_outage = None;
    if fault.returns() {
        stand.give_back(fault, holder)?;
        let back_ns = clock::now_ns();
        wait_heard(stand, holder, survivor, back_ns)?;
        clock::pause(RETURNED)?;
        return_outage = Some(outage_ms(&stand.client().probes(over_ns, clock::now_ns())));
    }
    let answers = stand.client().answers_since(stages.answered_ns);
    // What nobody but the old node answers from here on is a move back, which the observer judges.
    let newest = answers.iter().rposition(|answer| usize::from(answer.node) == survivor).unwrap_or(0);
    let before = answers.iter().take(newest);
    let old_answers = before.filter(|answer| usize::from(answer.node) == holder).count();
    let between = |from_ns: Option<u64>, to_ns: Option<u64>| Some(clock::ms_between(from_ns?, to_ns?));
    let deadtime_ms = stand.deadtime(survivor).as_secs_f64() * 1e3;
    let silence = between(stages.heard_ns, stages.dead_ns);
    Ok(Outcome::Measured(Run {
        outage_ms: outage,
        return_outage_ms: return_outage,
        heard_to_dead_ms: silence,
        overshoot_ms: silence.map(|silence| silence - deadtime_ms),
        dead_to_address_ms: between(stages.dead_ns, stages.address_ns),
        dead_to_announced_ms: between(stages.dead_ns, Some(stages.announced_ns)),
        announced_to_answer_ms: between(Some(stages.announced_ns), Some(stages.answered_ns)),
        both_ms: both_ms(&observer.turns(stages.fault_ns)),
        old_answers,
        old_asked: observer.asked(holder) - asked,
        client_late_ms,
        stall_ms,
    }))
}

/// Waits for each stage; an orderly move has no verdict.
fn follow(stand: &dyn Stand, holder: usize, survivor: usize, fault: Fault, fault_ns: u64) -> Result<Stages> {
    let dead_ns = match fault {
        Fault::Kill | Fault::Cut | Fault::Freeze | Fault::KillAndCut => {
            Some(clock::wait_for("a verdict", LIMIT, || Ok(stand.dead_ns(survivor, fault_ns)))?)
        }
        Fault::Move => None,
    };
    let announced_ns = clock::wait_for("an announcement on the wire", LIMIT, || {
        Ok(stand.capture(survivor)?.first_announcement_ns(crate::peers::SERVICE.into(), fault_ns))
    })?;
    let first = clock::wait_for("an answer of the new node", LIMIT, || {
        let answers = stand.client().answers_since(fault_ns);
        Ok(answers.into_iter().find(|answer| usize::from(answer.node) == survivor))
    })?;
    Ok(Stages {
        fault_ns,
        heard_ns: dead_ns.and_then(|dead_ns| stand.last_heard_ns(holder, survivor, dead_ns)),
        dead_ns,
        address_ns: stand.address_ns(survivor, fault_ns),
        announced_ns,
        answered_ns: first.answered_ns,
    })
}

/// Until `node` is heard by `to` again. One that stays silent has no second chance to answer twice either.
fn wait_heard(stand: &dyn Stand, node: usize, to: usize, from_ns: u64) -> Result<()> {
    let end_ns = from_ns + clock::ns(CARRIER);
    while clock::now_ns() < end_ns && stand.last_heard_ns(node, to, u64::MAX).is_none_or(|at| at < from_ns) {
        clock::pause(Duration::from_millis(10))?;
    }
    Ok(())
}
