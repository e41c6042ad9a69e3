//! `xbeat events --follow --json` of one agent, collected while it runs.
//! Times are the agent's own (`t_ns`, CLOCK_MONOTONIC): when it happened, not when it was read.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::clock;

/// A running `xbeat events --follow --json`.
#[derive(Debug)]
pub struct Events {
    name: String,
    child: Child,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    malformed: Vec<String>,
}

/// One line.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// When it happened.
    pub at_ns: u64,
    /// The whole object.
    pub value: Value,
}

impl Events {
    pub(crate) fn follow(mut command: Command, name: &str) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run xbeat events")?;
        let seen = Arc::<Mutex<Seen>>::default();
        if let Some(stdout) = child.stdout.take() {
            let seen = Arc::clone(&seen);
            thread::Builder::new().name("events".into()).spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).take(line);
                }
            })?;
        }
        Ok(Self { name: name.to_owned(), child, seen })
    }

    /// Everything since `from_ns`.
    pub fn since(&self, from_ns: u64) -> Vec<Event> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.events.iter().filter(|event| event.at_ns >= from_ns).cloned().collect()
    }

    /// Lines that are not an object with `t_ns` and `event`.
    pub fn malformed(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).malformed.clone()
    }

    /// The first event since `from_ns` with these fields.
    pub fn find(&self, from_ns: u64, fields: &[(&str, &str)]) -> Option<Event> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.events.iter().find(|event| event.at_ns >= from_ns && event.has(fields)).cloned()
    }

    /// Waits for the first event since `from_ns` with these fields.
    ///
    /// # Errors
    /// It did not come within `limit`.
    pub fn wait(&self, from_ns: u64, fields: &[(&str, &str)], limit: Duration) -> Result<Event> {
        clock::wait_for(&format!("{fields:?} of {}", self.name), limit, || Ok(self.find(from_ns, fields)))
    }
}

impl Event {
    /// Whether all of these fields have these values.
    pub fn has(&self, fields: &[(&str, &str)]) -> bool {
        fields.iter().all(|(key, wanted)| self.text(key) == Some(wanted))
    }

    /// A text field.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.value.get(key)?.as_str()
    }
}

impl Seen {
    fn take(&mut self, line: String) {
        let parsed = serde_json::from_str::<Value>(&line).ok().and_then(|value| {
            let at_ns = value.get("t_ns")?.as_u64()?;
            value.get("event")?.as_str()?;
            Some(Event { at_ns, value })
        });
        match parsed {
            Some(event) => self.events.push(event),
            None => self.malformed.push(line),
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It ends by itself with its agent.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
