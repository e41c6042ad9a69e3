//! The drivers of other cluster software: a pair of each comes up, loses the node that serves, and the other takes over. What
//! is not installed is skipped, also where the privileged tests must run: set `XBEAT_REQUIRE_PEERS=1` where it must not be.

use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::privileged;
use anyhow::{Result, ensure};
use bench::peers::check::{Fault, leftovers};
use bench::peers::{Name, Pair, Setting};

/// Set to 1 where all peers are installed.
const REQUIRE: &str = "XBEAT_REQUIRE_PEERS";
const LIMIT: Duration = Duration::from_secs(5);
/// Slow enough for a machine that is busy with other tests.
const SETTING: Setting = Setting::new(100, 3);

fn takes_over(name: Name) -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    if !name.software().is_installed() {
        ensure!(
            std::env::var_os(REQUIRE).is_none_or(|value| value != "1"),
            "{} is not installed",
            name.label()
        );
        println!("SKIP: {}: not installed (cargo xtask bench --install-peers)", name.label());
        return Ok(());
    }
    let outcome = survive(name);
    let left = leftovers()?;
    outcome?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

fn survive(name: Name) -> Result<()> {
    let pair = Pair::start(name, SETTING)?;
    let holder = pair.wait_whole()?;
    let survivor = usize::from(holder == 0);
    ensure!(pair.verdicts(survivor, 0).is_empty() || name == Name::Heartbeat, "a verdict before the fault");
    let fault_ns = Fault::Kill.strike(&pair, holder)?;
    clock::wait_for("an answer of the survivor", LIMIT, || {
        let answers = pair.bed.client.answers_since(fault_ns);
        Ok(answers.iter().any(|answer| usize::from(answer.node) == survivor).then_some(()))
    })
    .inspect_err(|_| pair.print_logs())?;
    ensure!(!pair.verdicts(survivor, fault_ns).is_empty(), "the survivor serves without a verdict");
    ensure!(pair.heartbeats(survivor)?[1].frames > 0, "nothing was heard of the node that served");
    Ok(())
}

#[test]
fn keepalived_takes_over() -> Result<()> {
    takes_over(Name::Keepalived)
}

#[test]
fn heartbeat_takes_over() -> Result<()> {
    takes_over(Name::Heartbeat)
}

#[test]
fn corosync_takes_over() -> Result<()> {
    takes_over(Name::Corosync)
}

#[test]
fn bfdd_takes_over() -> Result<()> {
    takes_over(Name::Bfdd)
}
