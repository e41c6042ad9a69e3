//! QEMU's own word on a machine (docs/interop/qmp-spec): its events, and the few commands that are needed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::lab::clock;

/// How long QEMU may take to make its socket, and to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection to one machine's QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    events: Vec<Event>,
    answers: usize,
}

/// Something that QEMU told.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was read, by the host's CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Its name, as `RESET`.
    pub name: String,
}

impl Qmp {
    /// Connects, as soon as the socket is there.
    ///
    /// # Errors
    /// It does not come, or does not talk QMP.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = clock::wait_for("QEMU's control socket", LIMIT, || Ok(UnixStream::connect(path).ok()))?;
        let heard = Arc::<Mutex<Heard>>::default();
        let (reader, told) = (BufReader::new(stream.try_clone()?), Arc::clone(&heard));
        thread::Builder::new().name("qmp".into()).spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                told.lock().unwrap_or_else(PoisonError::into_inner).take(&line);
            }
        })?;
        let mut qmp = Self { stream, heard };
        qmp.command("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Carries out a command and waits for the answer.
    ///
    /// # Errors
    /// QEMU does not answer in time.
    pub fn command(&mut self, name: &str, arguments: &Value) -> Result<()> {
        let before = self.lock().answers;
        let mut line = serde_json::to_vec(&json!({ "execute": name, "arguments": arguments }))?;
        line.push(b'\n');
        self.stream.write_all(&line).context("QEMU is gone")?;
        clock::wait_for(name, LIMIT, || Ok((self.lock().answers > before).then_some(())))
    }

    /// Takes the cable out of the network card, or puts it in.
    ///
    /// # Errors
    /// As [`Qmp::command`].
    pub fn set_link(&mut self, up: bool) -> Result<()> {
        self.command("set_link", &json!({ "name": super::machine::CARD, "up": up }))
    }

    /// Waits for an event since `since_ns` of the host's clock.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn wait(&self, name: &str, since_ns: u64, limit: Duration) -> Result<Event> {
        clock::wait_for(&format!("QEMU's event {name}"), limit, || Ok(self.find(name, since_ns)))
    }

    /// The first event of that name since `since_ns`.
    pub fn find(&self, name: &str, since_ns: u64) -> Option<Event> {
        let heard = self.lock();
        heard.events.iter().find(|event| event.at_ns >= since_ns && event.name == name).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn take(&mut self, line: &str) {
        let Ok(value) = serde_json::from_str::<Value>(line) else { return };
        if let Some(name) = value.get("event").and_then(Value::as_str) {
            self.events.push(Event { at_ns: clock::now_ns(), name: name.to_owned() });
        } else if value.get("return").is_some() || value.get("error").is_some() {
            self.answers += 1;
        }
    }
}
