//! The events of one node over all lives of its agent, read from its control socket. Each connection begins with the past, so
//! that nothing is missed between the start of an agent and the connection to it.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::events::Event;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// How often the thread looks whether it should end, and how soon it connects again.
const LOOK: Duration = Duration::from_millis(20);
/// Most events that wait to be taken; there are a few for each fault.
const WAITING_MAX: usize = 100_000;
/// How long a status may take: a stopped agent does not answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// A running reader.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    waiting: Mutex<VecDeque<Event>>,
    connections: AtomicU64,
    missed: AtomicU64,
}

impl Stream {
    /// Reads from the socket in an agent's directory, whenever there is somebody.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(directory: &Path) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let (path, reading) = (socket(directory), Arc::clone(&shared));
        let thread = thread::Builder::new().name("stream".into()).spawn(move || read(&path, &reading))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes out what came since the last time.
    pub fn drain(&self) -> Vec<Event> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// How often it connected: once for each process of the agent.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Events that the agent says it could not deliver, or that could not be kept.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the reader has been printed already.
            let _ = thread.join();
        }
    }
}

/// `status` of the agent with its files in `directory`, without starting a process.
///
/// # Errors
/// It does not answer.
pub fn status(directory: &Path) -> Result<Value> {
    let mut reader = connect(directory.join("xbeat.sock").as_path(), "{\"command\":\"status\"}\n", PATIENCE)?;
    let mut line = String::new();
    reader.read_line(&mut line).context("the agent does not answer")?;
    let mut answer: Value = serde_json::from_str(&line).context("no JSON")?;
    match answer.get_mut("status") {
        Some(status) => Ok(status.take()),
        None => bail!("no status: {line}"),
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("xbeat.sock")
}

fn connect(path: &Path, request: &str, patience: Duration) -> Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(path).context("no agent answers")?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request.as_bytes())?;
    Ok(BufReader::new(stream))
}

fn read(path: &Path, shared: &Shared) {
    // Of the processes before.
    let mut newest_ns = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let request = "{\"command\":\"events\",\"follow\":true}\n";
        if let Ok(reader) = connect(path, request, LOOK) {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            newest_ns = follow(reader, newest_ns, shared);
        }
        clock::sleep_until(clock::now_ns() + clock::ns(LOOK));
    }
}

/// Until the agent ends. Says when the newest event was.
fn follow(mut reader: BufReader<UnixStream>, before_ns: u64, shared: &Shared) -> u64 {
    let mut newest_ns = before_ns;
    let mut line = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) if line.ends_with(b"\n") => {
                if let Some(event) = event(&line).filter(|event| event.at_ns > before_ns) {
                    newest_ns = newest_ns.max(event.at_ns);
                    shared.keep(event);
                }
                line.clear();
            }
            // The rest of the line is to come, or the end.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => break,
        }
    }
    newest_ns
}

fn event(line: &[u8]) -> Option<Event> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let at_ns = value.get("t_ns")?.as_u64()?;
    value.get("event")?.as_str()?;
    Some(Event { at_ns, value })
}

impl Shared {
    fn keep(&self, event: Event) {
        let missed = event.value.get("dropped").and_then(Value::as_u64).unwrap_or(0);
        self.missed.fetch_add(missed, Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX {
            waiting.push_back(event);
        } else {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
