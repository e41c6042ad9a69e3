//! The processes of one node of a peer's software, in namespaces of their own that end with them, and when they said what: each
//! line of their log is stamped as it is read, by a realtime thread, which is a fraction of a millisecond after it was written.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use agent_tests::lab::netns::Netns;
use agent_tests::lab::{clock, process, realtime};
use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Above ordinary work, below everything measured.
const PRIORITY: i32 = 40;
/// Most lines kept for a failure's message.
const LINES_MAX: usize = 200;
/// What is between this program and the software: it does nothing while that runs.
const HELPERS: [&str; 6] = ["unshare", "sh", "bash", "cat", "chrt", "taskset"];

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

/// Understands the lines of one node's log, in their order.
pub type Reader = Box<dyn FnMut(&str) -> Option<Said> + Send>;

/// Is told of everything that a node says, by the thread that read it.
pub type Told = Arc<dyn Fn(Said) + Send + Sync>;

/// Running processes. They end with this, or with the thread that started them.
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
    /// Runs `script` on a host, with mounts, a name, processes and shared memory of its own, on one CPU where one is given.
    /// The shell stays and is the first of its processes: all others end with it, also those that left their parent.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(host: &Netns, cpu: Option<usize>, script: &str, read: Reader, told: &Told) -> Result<Self> {
        let mut command = match cpu {
            Some(cpu) => {
                let mut command = host.command("taskset");
                command.args(["-c", &cpu.to_string(), "unshare"]);
                command
            }
            None => host.command("unshare"),
        };
        command.args(["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]);
        command.args(["--propagation", "private", "bash", "-c", script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start taskset and unshare (package util-linux)")?;
        let log = Log::default();
        let read = Arc::new(Mutex::new(read));
        if let Some(stdout) = child.stdout.take() {
            log.follow(stdout, Arc::clone(&read), Arc::clone(told))?;
        }
        if let Some(stderr) = child.stderr.take() {
            log.follow(stderr, read, Arc::clone(told))?;
        }
        Ok(Self { child, log })
    }

    /// The processes of the software itself, parents first.
    pub fn processes(&self) -> Vec<u32> {
        let is_helper = |pid: &u32| {
            let name = name_of(*pid);
            name.is_empty() || HELPERS.contains(&name.as_str())
        };
        let mut all = self.tree();
        // Who has ended and was not waited for has no memory.
        all.retain(|pid| !is_helper(pid) && process::resident_kib(*pid).is_ok());
        all
    }

    /// All processes that this started, and all that they did.
    fn tree(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            next += 1;
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
            all.extend(lists.flat_map(|list| {
                list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
            }));
        }
        all
    }

    /// Signals all processes of the software, children first.
    pub fn signal(&self, signal: Signal) {
        for pid in self.processes().into_iter().rev() {
            send(pid, signal);
        }
    }

    /// Ends the process `leader`, and so all of the software, in order (SIGTERM).
    pub fn stop(&self, leader: &str) {
        if let Some(pid) = self.processes().into_iter().find(|pid| name_of(*pid) == leader) {
            send(pid, Signal::SIGTERM);
        }
    }

    /// Ends all of it at once (SIGKILL): the kernel kills what is in a process namespace with its first process.
    pub fn kill(&self) {
        match self.tree().get(1) {
            Some(first) => send(*first, Signal::SIGKILL),
            None => send(self.child.id(), Signal::SIGKILL),
        }
    }

    /// Kills what still runs and waits for the end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn reap(&mut self) -> Result<()> {
        if self.child.try_wait().context("cannot ask for a peer's process")?.is_none() {
            self.kill();
            self.child.wait().context("cannot wait for a peer's process")?;
        }
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

/// Empty for one that ended.
fn name_of(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn send(pid: u32, signal: Signal) {
    // One that has ended by itself needs no signal.
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

impl Log {
    fn follow(&self, from: impl Read + Send + 'static, read: Arc<Mutex<Reader>>, told: Told) -> Result<()> {
        let log = self.clone();
        let follow = move || {
            realtime::fifo(PRIORITY);
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let now_ns = clock::now_ns();
                let line = String::from_utf8_lossy(&line).into_owned();
                let said = (read.lock().unwrap_or_else(PoisonError::into_inner))(&line);
                if let Some(said) = said {
                    log.say(now_ns, said);
                    told(said);
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

    fn say(&self, at_ns: u64, said: Said) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push((at_ns, said));
    }

    /// What was said since `from_ns`.
    pub fn since(&self, from_ns: u64) -> Vec<(u64, Said)> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let start = said.partition_point(|(at_ns, _)| *at_ns < from_ns);
        said.get(start..).unwrap_or_default().to_vec()
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
