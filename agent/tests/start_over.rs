//! A node whose generation went back (a restored disk, a clock that was set): its peer still knows the later life, refuses
//! the frames of the earlier one, and says so in its acks. The node starts over above all of it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use agent_common::Reject;
use agent_core::PeerState;
use common::{agent, peer_states, rounds};
use std::sync::atomic::Ordering;
use xbeat::rt::Ended;
use xbeat::takeover::Task;

const PORT: u16 = 46_951;

#[test]
fn a_life_below_an_earlier_one_starts_over_above_it() {
    let (mut alpha, mut beta) = (agent(0, 5, PORT), agent(1, 5, PORT));
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| agent.heard() >= 20));
    drop(alpha);

    let mut again = agent(0, 3, PORT);
    let refused =
        |agent: &common::Agent| agent.stats.socket[Reject::Incarnation.index()].load(Ordering::Relaxed);
    rounds(&mut [&mut again, &mut beta], |agents| agents[0].heard() > 0 && refused(agents[1]) > 0);
    assert_eq!(again.rt.run(), Ended::Outlived(6));

    // Whatever the life that ends may have held is given back before the next one decides anything.
    while again.jobs.pop().is_ok() {}
    again.rt.start_over(6).unwrap();
    assert!(matches!(again.jobs.pop().map(|job| job.task), Ok(Task::Release { .. })));

    peer_states(&mut again);
    let before = (again.heard(), beta.heard());
    rounds(&mut [&mut again, &mut beta], |agents| {
        agents[0].heard() >= before.0 + 20 && agents[1].heard() >= before.1 + 20
    });
    assert!(peer_states(&mut again).contains(&PeerState::Up));
}

/// A generation that went back by one start: the new life bears the number of the last one, and its heartbeats, counted
/// from the beginning, look like replays.
#[test]
fn a_life_with_an_earlier_ones_number_starts_over_above_it() {
    let (mut alpha, mut beta) = (agent(0, 5, PORT + 1), agent(1, 5, PORT + 1));
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| agent.heard() >= 200));
    drop(alpha);

    let mut again = agent(0, 5, PORT + 1);
    let refused = |agent: &common::Agent| agent.stats.socket[Reject::TooOld.index()].load(Ordering::Relaxed);
    rounds(&mut [&mut again, &mut beta], |agents| agents[0].heard() > 0 && refused(agents[1]) > 0);
    assert_eq!(again.rt.run(), Ended::Outlived(6));
}
