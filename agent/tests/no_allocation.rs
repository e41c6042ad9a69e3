//! The rt loop allocates nothing once it runs: two loops heartbeat over loopback sockets under a counting allocator, one
//! falls silent, and the other declares it dead and orders the takeover.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use agent_core::PeerState;
use common::{agent, peer_states, rounds};
use xbeat::links::Wire;
use xbeat::rt::waker::Woken;
use xbeat::takeover::Task;

const PORT: u16 = 46_950;
const OTHER_PORT: u16 = 46_952;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what this thread asks for and gives back.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn heartbeats_a_death_and_a_takeover_allocate_nothing() {
    let (mut alpha, mut beta) = (agent(0, 5, PORT), agent(1, 5, PORT));
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| agent.heard() >= 20));
    assert!(peer_states(&mut beta).contains(&PeerState::Up));

    let before = ALLOCATIONS.with(Cell::get);
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| agent.heard() >= 220));
    let steady = ALLOCATIONS.with(Cell::get) - before;
    assert!(beta.sent() >= 200 && beta.stats.lateness.read().0.iter().sum::<u64>() >= 200);

    // Alpha is heard no more.
    let before = ALLOCATIONS.with(Cell::get);
    rounds(&mut [&mut beta], |agents| agents.iter().all(|agent| agent.jobs.slots() > 0));
    let takeover = ALLOCATIONS.with(Cell::get) - before;
    assert!(peer_states(&mut beta).contains(&PeerState::Dead));
    assert!(matches!(beta.jobs.pop().map(|job| job.task), Ok(Task::Acquire { .. })));
    assert_eq!(beta.stats.overshoot.read().0.iter().sum::<u64>(), 1);

    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(vec![1u8; 16]));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 2, "the count works");
    assert_eq!((steady, takeover), (0, 0));
}

/// Sockets are made and closed by the follower: the loop takes them, uses them and gives them back.
#[test]
fn sockets_come_and_go_without_an_allocation() {
    let (mut alpha, mut beta) = (agent(0, 5, OTHER_PORT), agent(1, 5, OTHER_PORT));
    rounds(&mut [&mut alpha, &mut beta], |agents| agents.iter().all(|agent| agent.heard() >= 20));

    let before = ALLOCATIONS.with(Cell::get);
    assert!(alpha.follower.hand(Wire::Part { place: 0, part: None }).is_ok());
    alpha.rt.round(Woken { timer: true, receive: false });
    let part = alpha.follower.take_back().unwrap();
    let sent = alpha.sent();
    let silent = beta.heard();
    rounds(&mut [&mut alpha, &mut beta], |agents| agents[1].sent() > 100);
    assert_eq!(alpha.sent(), sent, "there is nothing to send on");
    assert!(beta.heard() <= silent + 5, "what was under way");

    assert!(alpha.follower.hand(Wire::Part { place: 0, part: Some(part) }).is_ok());
    rounds(&mut [&mut alpha, &mut beta], |agents| agents[1].heard() > silent + 50);
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert!(alpha.follower.take_back().is_none(), "there was nothing to give back");
}
