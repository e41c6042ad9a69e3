//! The demonstration as its users start it: what it prints, how it ends, and that nothing of it stays.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::privileged;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LAB: &str = env!("CARGO_BIN_EXE_xbeat-lab");
/// Slow enough for a busy machine.
const TIMING: [&str; 4] = ["--keepalive", "50ms", "--deadtime", "400ms"];
const LIMIT: Duration = Duration::from_secs(60);

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(LAB);
    command.arg("demo").args(TIMING).args(args).stdin(Stdio::null());
    command
}

/// Runs the demonstration with `--json` and checks what every takeover must show.
fn takeover(args: &[&str]) -> Result<Value> {
    let output = demo(args).arg("--json").output()?;
    let progress = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}:\n{progress}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let json: Value = serde_json::from_str(&text).with_context(|| format!("not one JSON object: {text}"))?;
    ensure!(json["healed"] == true, "{json}");
    ensure!(json["holder_before"] != json["holder_after"], "{json}");
    let stages = json["stages_ms"].as_object().context("no stages")?;
    let silent = stages["last_heartbeat_to_dead"].as_f64().context("no verdict")?;
    ensure!(silent > 399.0, "declared dead too early: {json}");
    ensure!(stages["dead_to_address"].as_f64().context("no address")? >= 0.0, "{json}");
    ensure!(json["gap_ms"].as_f64().context("no gap")? > 0.0, "{json}");
    Ok(json)
}

#[test]
fn it_shows_a_takeover_on_native_xdp() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let json = takeover(&[])?;
    for node in ["alpha", "beta"] {
        assert_eq!(json["modes"][node]["eth0"], "native", "{json}");
    }
    assert_eq!(json["kill"], "both");
    Ok(())
}

#[test]
fn the_link_alone_can_be_cut() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    takeover(&["--kill", "link"]).map(drop)
}

#[test]
fn it_runs_without_privilege_on_the_socket_path() -> Result<()> {
    let may =
        Command::new("unshare").args(["--user", "--map-root-user", "--net", "--mount", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        println!("SKIP: users may not make user namespaces here");
        return Ok(());
    }
    let json = takeover(&["--unprivileged"])?;
    assert_eq!(json["modes"]["alpha"]["eth0"], "socket");
    assert_eq!(json["unprivileged"], true);
    Ok(())
}

/// Starts the demonstration and waits until its agents run; says who they are.
fn start() -> Result<(Child, BTreeSet<u32>)> {
    let child = demo(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let agents = clock::wait_for("two agents", LIMIT, || {
        let children = children_of(child.id())?.into_iter();
        let agents = children.filter(|pid| is_agent(*pid)).collect::<BTreeSet<_>>();
        Ok((agents.len() == 2).then_some(agents))
    })?;
    Ok((child, agents))
}

fn children_of(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("the demonstration ended")? {
        // Threads come and go.
        let text = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}

fn is_agent(pid: u32) -> bool {
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split('\0').any(|argument| argument == "run")
}

/// None of the agents runs any more (a zombie waits only for whoever inherits it).
fn expect_gone(agents: &BTreeSet<u32>) -> Result<()> {
    clock::wait_for("the agents to be gone", LIMIT, || {
        let is_running = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        };
        Ok((!agents.iter().any(is_running)).then_some(()))
    })?;
    ensure!(!Path::new("/run/xbeat-lab").exists(), "files are left");
    Ok(())
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(child.id())?), signal).context("cannot signal the demonstration")
}

#[test]
fn it_cleans_up_when_interrupted() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let (mut child, agents) = start()?;
    signal(&child, Signal::SIGINT)?;
    let status = clock::wait_for("its end", LIMIT, || Ok(child.try_wait()?))?;
    assert_eq!(status.code(), Some(130));
    expect_gone(&agents)
}

#[test]
fn nothing_stays_when_it_is_killed() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let (mut child, agents) = start()?;
    signal(&child, Signal::SIGKILL)?;
    child.wait()?;
    expect_gone(&agents)
}
