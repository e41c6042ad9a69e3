//! The decisions of xbeat: who is alive, who owns a group, what to do about it. Values in, values out.
//! Pure: `no_std` + alloc, no IO, no clock, no logging, no randomness but the configured seed.
//!
//! # Contract
//!
//! 1. A round is: read `now`, feed every pending [`Event`] with [`Node::handle`], feed a [`Reading`] of every peer
//!    slot that changed, then [`Node::handle_timeout`], draining [`Node::poll_action`] to `None` after each call,
//!    then arm a timer at [`Node::poll_timeout`].
//! 2. A peer is judged by its newest [`Reading`] only: dead when `read_at` is later than its newest counting stamp plus
//!    its announced deadtime. A reading holds all that arrived before its `read_at`, so an agent that slept
//!    cannot call a peer dead for it (invariants I2, I3). A timeout without a fresh reading judges nobody.
//! 3. Methods are total: no input panics. `now` never goes back (a smaller one is taken as the last).
//! 4. Effects that can fail come back as events that carry the attempt's number. Every effect comes back, at worst as
//!    [`Failure::TimedOut`].
//! 5. Same configuration and events: same actions, byte for byte.
//! 6. No allocation after [`Node::new`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod action;
pub mod answer;
pub mod carried;
pub mod config;
pub mod event;
pub mod mutation;
pub mod snapshot;
pub mod time;

mod command;
mod group;
mod groups;
mod lease;
mod life;
mod link;
mod loss;
mod membership;
mod node;
mod orders;
mod outgoing;
mod pacer;
mod peer;
mod queue;
mod resource;
mod round_trip;
mod rules;
mod timers;

#[cfg(test)]
mod test_lab;

pub use action::{Action, Change, GateBy, ResourceRef, Transition};
pub use answer::{Answer, Refusal};
pub use carried::Carried;
pub use config::Config;
pub use event::{Event, Failure, LinkReading, Operator, Reading};
pub use node::Node;
pub use snapshot::{
    GroupState, GroupView, LeaseReason, LinkState, LinkView, NodeView, PeerState, Reason, Snapshot,
};
pub use time::Instant;

/// A small valid configuration for tests: `nodes` owners of one group with one address, one link; this is node 0.
#[cfg(test)]
pub(crate) fn test_config(nodes: u8) -> Config {
    use alloc::vec;
    use core::time::Duration;

    let id = |raw| agent_common::NodeId::new(raw).unwrap();
    let keepalive = Duration::from_millis(10);
    Config {
        me: id(0),
        name: agent_common::Name::NONE,
        incarnation: 100,
        wall_ms_at_zero: 1_700_000_000_000,
        seed: 1,
        timing: config::Timing {
            keepalive,
            deadtime: Duration::from_millis(50),
            warntime: Duration::from_millis(25),
            initdead: Duration::from_secs(2),
        },
        nodes: vec![config::NodeConfig::default(); usize::from(nodes)],
        links: vec![config::LinkConfig { id: agent_common::LinkId::new(0).unwrap(), keepalive }],
        quorum: config::Quorum { policy: config::Policy::Majority, number: 0, change: None },
        groups: vec![config::GroupConfig {
            prefer: (0..nodes).map(id).collect(),
            auto_failback: false,
            resources: 1,
        }],
        reach_dampening: Duration::from_secs(5),
        start: config::Start::Fresh,
        gate: config::GateKind::Kernel,
        mutated: config::Mutated::default(),
    }
}
