//! A process of a peer's software, in a namespace, and when it said what: each line of its log is stamped as it is read, by a
//! realtime thread, which is a fraction of a millisecond after it was written.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Above ordinary work, below everything measured.
const PRIORITY: i32 = 40;
/// Most lines kept for a failure's message.
const LINES_MAX: usize = 200;

/// What a line of a log says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// The other node is dead.
    Dead,
    /// The other node is there.
    Alive,
    /// This node may serve, or does.
    Serves,
    /// This node does not serve any more.
    Yields,
}

/// A running process.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Log,
}

/// What a node's processes said, in order.
#[derive(Clone, Debug, Default)]
pub struct Log {
    said: Arc<Mutex<Vec<(u64, Said)>>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// Starts `command` and understands its lines on both outputs by `read`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command, read: fn(&str) -> Option<Said>) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let log = Log::default();
        if let Some(stdout) = child.stdout.take() {
            log.follow(stdout, read)?;
        }
        if let Some(stderr) = child.stderr.take() {
            log.follow(stderr, read)?;
        }
        Ok(Self { child, log })
    }

    /// Its process and all that descend from it.
    pub fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            next += 1;
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            all.extend(
                children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        all
    }

    /// Signals all of them, children first.
    pub fn signal(&self, signal: Signal) {
        for pid in self.processes().into_iter().rev() {
            // One that has ended by itself needs no signal.
            let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
        }
    }

    /// Waits for the end of a process that was told to end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn reap(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL);
        self.child.wait().context("cannot wait for a peer's process")?;
        Ok(())
    }

    /// What it said.
    pub const fn log(&self) -> &Log {
        &self.log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.reap();
    }
}

impl Log {
    fn follow(&self, from: impl Read + Send + 'static, read: fn(&str) -> Option<Said>) -> Result<()> {
        let log = self.clone();
        let follow = move || {
            realtime::fifo(PRIORITY);
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let now_ns = clock::now_ns();
                if let Some(said) = read(&line) {
                    log.said.lock().unwrap_or_else(PoisonError::into_inner).push((now_ns, said));
                }
                let mut lines = log.lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() < LINES_MAX {
                    lines.push(line);
                }
            }
        };
        thread::Builder::new().name("peer-log".into()).spawn(follow)?;
        Ok(())
    }

    /// What was said since `from_ns`.
    pub fn since(&self, from_ns: u64) -> Vec<(u64, Said)> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().filter(|(at_ns, _)| *at_ns >= from_ns).copied().collect()
    }

    /// The newest of two opposite things that was said.
    pub fn newest(&self, one: Said, other: Said) -> Option<Said> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().rev().map(|(_, said)| *said).find(|said| *said == one || *said == other)
    }

    /// Its first lines, for a message.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
