//! The agent in a machine: the real `xbeat run` as a child, its log on the machine's console, its events collected.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::clock;
use crate::lab::events::Events;

const BINARY: &str = "/bin/xbeat";
const CONFIG: &str = "/etc/xbeat/xbeat.toml";
/// How long the control socket, and an orderly end, may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A running agent.
pub(super) struct Agent {
    child: Child,
    events: Events,
}

impl Agent {
    /// Starts it, and waits until it answers.
    pub(super) fn start(config: &str) -> Result<Self> {
        fs::write(CONFIG, config).context("cannot write the configuration")?;
        let mut child = Command::new(BINARY)
            .args(["run", "--config", CONFIG])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start xbeat")?;
        clock::wait_for("the agent's answer", LIMIT, || {
            let ended = child.try_wait()?;
            ensure!(ended.is_none(), "the agent ended: {ended:?}; its words are on the console");
            Ok(ask(&["status", "--json"]).ok())
        })?;
        let mut command = Command::new(BINARY);
        command.args(["events", "--follow", "--json", "--config", CONFIG]);
        Ok(Self { child, events: Events::follow(command, "the agent")? })
    }

    pub(super) fn status(&self) -> Result<Value> {
        serde_json::from_str(&ask(&["status", "--json"])?).context("the status is not JSON")
    }

    pub(super) fn events(&self, since_ns: u64) -> Value {
        self.events.since(since_ns).into_iter().map(|event| event.value).collect()
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its end.
    pub(super) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let status = clock::wait_for("the agent's end", LIMIT, || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(args: &[&str]) -> Result<String> {
    let output = Command::new(BINARY).args(args).args(["--config", CONFIG]).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}
