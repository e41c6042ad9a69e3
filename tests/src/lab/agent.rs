//! One agent of the laboratory: the real `xbeat` as a child process, with its own configuration, keys, socket and state.
//! It is ended by its process id, and with the thread that started it at the latest.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::clock;
use super::events::Events;
use super::netns::Netns;

/// Most lines of an agent's log that are kept.
const LOG_LINES_MAX: usize = 10_000;
/// How long a command that talks to the agent may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// An agent, running or not.
#[derive(Debug)]
pub struct Agent {
    name: String,
    directory: PathBuf,
    binary: Option<PathBuf>,
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    /// An agent that is not yet started, with its files in `directory`.
    ///
    /// # Errors
    /// The files could not be written.
    pub fn new(name: &str, directory: &Path, config: &str, keys: &str) -> Result<Self> {
        fs::create_dir_all(directory.join("state")).context("cannot make the agent's directory")?;
        fs::write(directory.join("xbeat.toml"), config).context("cannot write the agent's configuration")?;
        let (name, directory) = (name.to_owned(), directory.to_owned());
        let agent = Self { name, directory, binary: None, child: None, log: Arc::default() };
        agent.write_keys(keys)?;
        Ok(agent)
    }

    /// Its node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets its next starts run another binary.
    pub fn set_binary(&mut self, binary: &Path) {
        self.binary = Some(binary.to_owned());
    }

    /// The directory with its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its configuration.
    pub fn config_path(&self) -> PathBuf {
        self.directory.join("xbeat.toml")
    }

    /// Writes its key file anew; it reads it at start and on SIGHUP.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write_keys(&self, keys: &str) -> Result<()> {
        let path = self.directory.join("keys.toml");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(keys.as_bytes()).context("cannot write the key file")
    }

    /// Starts it in `netns`.
    ///
    /// # Errors
    /// It runs already, or the binary is missing.
    pub fn start(&mut self, netns: &Netns) -> Result<()> {
        if self.child.is_some() {
            bail!("the agent of {} runs already", self.name);
        }
        let mut child = netns
            .command(self.binary.clone().map_or_else(xbeat_binary, Ok)?)
            .args(["run", "--config"])
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start xbeat")?;
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&self.log);
            thread::Builder::new().name("log".into()).spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    if log.len() < LOG_LINES_MAX {
                        log.push(line);
                    }
                }
            })?;
        }
        self.child = Some(child);
        Ok(())
    }

    /// Its process id while it runs.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        self.child.as_ref().map(Child::id).ok_or_else(|| anyhow!("the agent of {} does not run", self.name))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid()?)?), signal)
            .with_context(|| format!("cannot send {signal} to the agent of {}", self.name))
    }

    /// Sends SIGKILL without waiting; [`Agent::reap`] afterwards.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Waits for its end, at most `limit`.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn reap(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        let child = self.child.as_mut().ok_or_else(|| anyhow!("the agent of {name} does not run"))?;
        let status =
            clock::wait_for(&format!("the end of the agent of {name}"), limit, || Ok(child.try_wait()?))?;
        self.child = None;
        Ok(status)
    }

    /// SIGTERM, and waits for the orderly end.
    ///
    /// # Errors
    /// It did not end in time, or with another code than 0.
    pub fn stop(&mut self, limit: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.reap(limit)?;
        if !status.success() {
            bail!("the agent of {} ended with {status} on SIGTERM", self.name);
        }
        Ok(())
    }

    /// Whether it ended by itself.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        match self.child.as_mut() {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// `xbeat ARGS --config F`: its standard output.
    ///
    /// # Errors
    /// Another exit code than 0.
    pub fn ask(&self, args: &[&str]) -> Result<String> {
        let output =
            run_limited(Command::new(xbeat_binary()?).args(args).arg("--config").arg(self.config_path()))?;
        if !output.0.success() {
            bail!("xbeat {} for {}: {}: {}", args.join(" "), self.name, output.0, output.2.trim());
        }
        Ok(output.1)
    }

    /// `xbeat status --json`.
    ///
    /// # Errors
    /// The agent does not answer, or not in JSON.
    pub fn status(&self) -> Result<Value> {
        let text = self.ask(&["status", "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("status --json is not JSON: {text}"))
    }

    /// `xbeat events --follow --json`.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn events(&self, netns: &Netns) -> Result<Events> {
        let mut command = netns.command(xbeat_binary()?);
        command.args(["events", "--follow", "--json", "--config"]).arg(self.config_path());
        Events::follow(command, &self.name)
    }

    /// What it logged, of all its lives.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a line of its log contains `text`.
    pub fn has_logged(&self, text: &str) -> bool {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| line.contains(text))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The daemon: `XBEAT_BINARY`, or beside this executable (tests are one directory below).
///
/// # Errors
/// It was not built.
pub fn xbeat_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("XBEAT_BINARY") {
        return Ok(path.into());
    }
    let me = std::env::current_exe().context("cannot find this executable")?;
    let candidates = me.ancestors().skip(1).take(2).map(|directory| directory.join("xbeat"));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        anyhow!("there is no xbeat beside {}: build it with `cargo xtask build`", me.display())
    })
}

/// A new key file as `xbeat keygen` makes it.
///
/// # Errors
/// `xbeat keygen` failed.
pub fn new_keys(directory: &Path) -> Result<String> {
    let path = directory.join(format!("keygen-{}.toml", clock::now_ns()));
    let output = run_limited(Command::new(xbeat_binary()?).args(["keygen", "--out"]).arg(&path))?;
    if !output.0.success() {
        bail!("xbeat keygen: {}: {}", output.0, output.2.trim());
    }
    let keys = fs::read_to_string(&path).context("xbeat keygen wrote no file")?;
    fs::remove_file(&path).context("cannot remove the key file")?;
    Ok(keys)
}

/// Exit status, standard output, standard error.
fn run_limited(command: &mut Command) -> Result<(ExitStatus, String, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run xbeat")?;
    // Output of these commands fits the pipes (64 KiB), so waiting before reading cannot block them.
    let status = match clock::wait_for("an answer of xbeat", ANSWER_LIMIT, || Ok(child.try_wait()?)) {
        Ok(status) => status,
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    };
    let output = child.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status, text(output.stdout), text(output.stderr)))
}
