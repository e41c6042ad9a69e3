//! The rt thread when another thread is gone: without the control thread nobody can stop the agent, without the takeover
//! thread no address can be given back. Either way it does not stay.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use agent_core::PeerState;
use common::{agent, peer_states, rounds};
use xbeat::rt::Ended;

/// Heartbeats that say that a node goes.
const LEAVING_SENDS: u8 = 3;

#[test]
fn without_the_control_thread_it_leaves_in_order() {
    let (mut alpha, mut beta) = (agent(0, 5, 46_961), agent(1, 5, 46_961));
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| agent.heard() >= 20));
    peer_states(&mut alpha);

    let common::Agent { mut rt, commands, jobs, .. } = beta;
    assert_eq!(jobs.slots(), 0, "alpha is preferred: nothing is to be given back first");
    drop(commands);
    assert_eq!(rt.run(), Ended::Finished);
    let heard = alpha.heard();
    rounds(&mut [&mut alpha], |agents| agents[0].heard() >= heard + u64::from(LEAVING_SENDS));
    assert!(peer_states(&mut alpha).contains(&PeerState::Leaving));
}

#[test]
fn without_the_takeover_thread_it_ends_at_once() {
    let alpha = agent(0, 5, 46_962);
    let common::Agent { mut rt, jobs, commands, .. } = alpha;
    drop(jobs);
    assert_eq!(rt.run(), Ended::NoTakeover);
    drop(commands);
}
