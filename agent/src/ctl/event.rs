//! Events as `xbeat events --json` prints them, one object a line: an interface that only grows.
//! Made from the notes of the realtime threads by `teller.rs`; the same event gives the line of the log.

use agent_common::NodeId;
use agent_core::Instant;
use serde::{Deserialize, Serialize};

use super::own::Own;

/// One event. `t_ns` is when it happened, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub t_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A peer's state changed, or (`from` = `to`) the peer started anew.
    Peer {
        /// Its name.
        peer: String,
        /// State before.
        from: String,
        /// State after.
        to: String,
        /// How long nothing that counts had been heard.
        silent_ms: u64,
        /// The same, finer.
        silent_us: u64,
        /// The deadtime that the peer had announced.
        deadtime_ms: u64,
        /// Its new incarnation, when it started anew.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        incarnation: Option<u64>,
    },
    /// The state of a link to a peer changed.
    Link {
        /// The peer.
        peer: String,
        /// The link, as `status` names it.
        link: String,
        /// State before.
        from: String,
        /// State after.
        to: String,
    },
    /// A group's state on this node or its owner changed.
    Group {
        /// Its name.
        group: String,
        /// State before.
        from: String,
        /// State after.
        to: String,
        /// Who owns it in this node's view.
        owner: Option<String>,
        /// Its epoch, 0 for none.
        epoch: u64,
    },
    /// Something was done to a service address, or failed.
    Address {
        /// The address.
        address: String,
        /// `added`, `deleted`, `announced`, `failed` or `vanished`.
        to: String,
        /// Its group.
        group: String,
        /// Why it failed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
        /// Tries so far, when it failed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        attempts: Option<u32>,
    },
    /// This node's lease of a group was won or lost.
    Lease {
        /// The group.
        group: String,
        /// `held` or `lost`.
        to: String,
        /// Why.
        reason: String,
    },
    /// The gate of a service address was opened or shut.
    Gate {
        /// The address.
        address: String,
        /// `open` or `closed`.
        to: String,
        /// `agent` or `kernel`.
        by: String,
        /// Its group.
        #[serde(default)]
        group: String,
    },
    /// This node's vote for a group.
    Vote {
        /// The group.
        group: String,
        /// The epoch that it votes for, 0 for none.
        epoch: u64,
        /// Whom it votes for.
        candidate: Option<String>,
    },
    /// A network interface of the configuration went, returned or changed on this node.
    Interface {
        /// Its name.
        interface: String,
        /// `gone`, `back`, `up`, `down`, or `renewed`: its sockets or its gate are other ones.
        to: String,
        /// Its index, 0 when it is not there.
        index: u32,
        /// How it receives; nothing when it is not there, or carries no link.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        receives: Option<String>,
        /// `kernel`, `userspace` or `missing`: who guards the service addresses on it, if it has any.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        gate: Option<String>,
    },
    /// A serial line of this node was opened or lost.
    Line {
        /// Its device.
        device: String,
        /// Its link, as `status` names it.
        link: String,
        /// `open` or `lost`.
        to: String,
        /// Why it was lost.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// A node that the configuration file does not list.
    Node {
        /// Its name.
        node: String,
        /// Its id on the wire.
        id: u8,
        /// `joined`, `added`, `removed` or `refused`.
        to: String,
        /// Why it was refused.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// This node was to be fenced.
    Fence {
        /// Who.
        node: String,
        /// `unavoidable`: a lost lease could not be withdrawn, and the watchdog is petted no more.
        to: String,
        /// Why.
        reason: String,
    },
    /// A ping group answers, or does no more.
    Ping {
        /// Its name.
        group: String,
        /// State before.
        from: String,
        /// State after.
        to: String,
    },
    /// The configuration or the keys were read again.
    Config {
        /// What was read: `keys` or `configuration`.
        what: String,
        /// `reloaded`, `refused`, or that a restart takes it up.
        to: String,
        /// Why it was refused.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// Something about this agent itself.
    #[serde(rename = "self")]
    Own(Own),
}

impl What {
    /// The agent's own life.
    pub fn own(to: &str) -> Self {
        Self::Own(Own { to: Some(to.to_owned()), ..Own::default() })
    }

    /// A node beyond the list.
    pub fn node(name: &str, id: NodeId, to: &str, reason: Option<String>) -> Self {
        Self::Node { node: name.to_owned(), id: id.raw(), to: to.to_owned(), reason }
    }

    /// The configuration or the keys.
    pub fn config(what: &str, to: &str, reason: Option<String>) -> Self {
        Self::Config { what: what.to_owned(), to: to.to_owned(), reason }
    }

    /// A reader was too slow.
    pub fn dropped(count: u64) -> Self {
        Self::Own(Own { dropped: Some(count), ..Own::default() })
    }
}

impl Event {
    /// An event of now.
    pub const fn at(at: Instant, what: What) -> Self {
        Self { t_ns: at.0, what }
    }

    /// One line, without a newline.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
