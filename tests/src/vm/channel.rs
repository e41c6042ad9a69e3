//! The host's end of the serial line on which a machine takes its orders.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::protocol::{Order, Reply, Request};
use crate::lab::clock;

/// How long QEMU may take to make its socket.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The line to one machine.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    heard: Arc<Mutex<Vec<Reply>>>,
    next: u64,
}

impl Channel {
    /// Connects, as soon as the socket is there.
    ///
    /// # Errors
    /// It does not come.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream =
            clock::wait_for("the line to the machine", CONNECT_LIMIT, || Ok(UnixStream::connect(path).ok()))?;
        let heard = Arc::<Mutex<Vec<Reply>>>::default();
        let (reader, told) = (BufReader::new(stream.try_clone()?), Arc::clone(&heard));
        thread::Builder::new().name("orders".into()).spawn(move || {
            for line in reader.split(b'\n').map_while(Result::ok) {
                // What the firmware or a dying kernel leaves on the line is none.
                if let Ok(reply) = serde_json::from_slice(&line) {
                    told.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
                }
            }
        })?;
        Ok(Self { stream, heard, next: 1 })
    }

    /// Waits until a machine has booted that is not `known`: its release and the name of this boot.
    ///
    /// # Errors
    /// It has not booted in time.
    pub fn ready(&self, known: Option<&str>, limit: Duration) -> Result<(String, String)> {
        clock::wait_for("the machine's boot", limit, || {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            // The newest says how it is; those before it are of earlier boots.
            let newest = heard.iter().rev().find_map(|reply| match reply {
                Reply::Ready { release, boot } => Some((release.clone(), boot.clone())),
                Reply::Done { .. } | Reply::Failed { .. } => None,
            });
            Ok(newest.filter(|(_, boot)| known != Some(boot.as_str())))
        })
    }

    /// Gives an order and waits for what it gives.
    ///
    /// # Errors
    /// The machine could not carry it out, or does not answer in time.
    pub fn order(&mut self, order: Order, limit: Duration) -> Result<Value> {
        let what = format!("{order:?}");
        let id = self.send(order)?;
        self.wait(id, &what, limit)
    }

    /// Gives an order that is not answered, or whose answer is waited for later: its number.
    ///
    /// # Errors
    /// The line is gone.
    pub fn send(&mut self, order: Order) -> Result<u64> {
        let id = self.next;
        self.next += 1;
        let mut line = serde_json::to_vec(&Request { id, order })?;
        line.push(b'\n');
        self.stream.write_all(&line).context("the machine is gone")?;
        Ok(id)
    }

    /// Waits for what an order gives.
    ///
    /// # Errors
    /// As [`Channel::order`].
    pub fn wait(&self, id: u64, what: &str, limit: Duration) -> Result<Value> {
        let what: String = what.chars().take(60).collect();
        let reply = clock::wait_for(&what, limit, || {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let place = heard.iter().position(|reply| match reply {
                Reply::Done { id: of, .. } | Reply::Failed { id: of, .. } => *of == id,
                Reply::Ready { .. } => false,
            });
            Ok(place.map(|place| heard.remove(place)))
        })?;
        match reply {
            Reply::Done { value, .. } => Ok(value),
            Reply::Failed { why, .. } => bail!("{what}: {why}"),
            Reply::Ready { .. } => bail!("{what}: the machine booted instead"),
        }
    }
}
