//! The control socket's language: a client writes one JSON object on a line, the agent answers with lines.
//! The first line of an answer says whether the request was understood.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::status::Status;

/// Longest request.
pub const REQUEST_MAX: u64 = 4096;

/// How long the agent waits for what becomes of a command before it says that it does not know.
pub const RESULT_PATIENCE: Duration = Duration::from_secs(60);

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// A [`Status`].
    Status,
    /// Hand a group over, or all, and do not take it again.
    Standby {
        /// Its name; all without it.
        #[serde(default)]
        group: Option<String>,
    },
    /// Take a group, or all that this node may own.
    Takeover {
        /// Its name; all without it.
        #[serde(default)]
        group: Option<String>,
    },
    /// Suspend decisions, or take them up again.
    Maintenance {
        /// Suspend.
        on: bool,
    },
    /// Put the binary on disk in the place of the running process.
    Restart,
    /// Read keys and configuration again.
    Reload,
    /// Take in a node that the configuration file does not list, or say more of it.
    NodeAdd {
        /// Its name.
        name: String,
        /// Its id on the wire; a free one, or the one that it has, without it.
        #[serde(default)]
        id: Option<u8>,
        /// Its addresses by link, for links of type ucast.
        #[serde(default)]
        addresses: BTreeMap<String, IpAddr>,
    },
    /// Remove a node that joined; it may not join again by itself.
    NodeRemove {
        /// Its name.
        name: String,
        /// Even though it is heard.
        #[serde(default)]
        force: bool,
    },
    /// Events, one on each line after the answer.
    Events {
        /// Whether to go on with what happens from now on.
        #[serde(default)]
        follow: bool,
        /// How many past events to begin with; all without it.
        #[serde(default)]
        lines: Option<u32>,
    },
}

/// The first line of every answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status {
        /// The status.
        status: Box<Status>,
    },
    /// To [`Request::Events`]: the events follow.
    Events,
    /// To a command: it is done.
    Done,
    /// To [`Request::Restart`] and [`Request::Reload`]: another process comes, whose status has a later `started_ns`.
    Replacing {
        /// Where it will answer.
        socket: PathBuf,
        /// When the process that goes was started.
        started_ns: u64,
        /// How many restarts it had given up.
        failures: u64,
        /// The parts of the configuration that change.
        parts: Vec<String>,
    },
    /// The request was not carried out; nothing has changed.
    Refused {
        /// Why.
        error: String,
    },
}
