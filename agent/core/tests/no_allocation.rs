//! A node allocates nothing after it was made: a counting allocator watches it through heartbeats, deaths, takeovers, failures
//! and snapshots, in the largest everyday cluster.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use agent_common::{Ack, Beat, Claim, NodeState};
use agent_core::{Action, Event, Failure, Instant, Node, Reading, ResourceRef, Snapshot};
use common::{config, id};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what this thread asks for.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NODES: u8 = 16;
const GROUPS: u8 = 64;
const START: Instant = Instant(1_000_000_000);

/// Answers effects until none is left; fails each `every`-th.
fn drain(
    node: &mut Node,
    effects: &mut Vec<(bool, ResourceRef, u32)>,
    now: Instant,
    every: u64,
    acted: &mut u64,
) {
    loop {
        while let Some(action) = node.poll_action() {
            match action {
                Action::Acquire { resource, attempt } => effects.push((true, resource, attempt)),
                Action::Release { resource, attempt } => effects.push((false, resource, attempt)),
                Action::Send { .. }
                | Action::Announce { .. }
                | Action::Gate { .. }
                | Action::SelfFence { .. }
                | Action::Fence { .. }
                | Action::Answer { .. }
                | Action::PetWatchdog
                | Action::Transition(_)
                | Action::Finished => {}
            }
        }
        let Some((acquires, resource, attempt)) = effects.pop() else { return };
        *acted += 1;
        let result = if acted.is_multiple_of(every) { Err(Failure::TimedOut) } else { Ok(()) };
        node.handle(
            if acquires {
                Event::Acquired { resource, attempt, result }
            } else {
                Event::Released { resource, attempt, result }
            },
            now,
        );
        if effects.is_empty() {
            while let Some(action) = node.poll_action() {
                assert!(!matches!(action, Action::Send { .. }));
            }
            node.handle_timeout(now);
        }
    }
}

/// Votes for whatever `mine` asks for.
fn vote(theirs: &mut Beat, mine: &Beat) {
    for (row, ask) in theirs.claims.iter_mut().zip(&mine.claims) {
        if ask.epoch != 0 && ask.candidate == 0 && row.epoch != ask.epoch {
            *row = Claim { epoch: ask.epoch, candidate: 0, flags: row.flags & Claim::WANT };
            theirs.votes_version += 1;
        }
    }
}

#[test]
fn nothing_is_allocated_after_new() {
    let mut config = config(NODES, GROUPS, 2, true);
    // Each group belongs to a peer, which asks for it whenever it is there; this node stands in.
    for (group, peer) in config.groups.iter_mut().zip((1..NODES).cycle()) {
        group.prefer = vec![id(peer), id(0)];
    }
    let mut slots: Vec<Reading> = (0..NODES).map(|raw| Reading::silent(id(raw), START)).collect();
    for (group, peer) in (0..usize::from(GROUPS)).zip((1..NODES).cycle()) {
        slots[usize::from(peer)].beat.claims[group] = Claim { epoch: 0, candidate: peer, flags: Claim::WANT };
    }
    let mut effects = Vec::with_capacity(1024);
    let mut node = Node::new(&config, START);
    let mut snapshot = Snapshot::default();
    node.snapshot_into(&mut snapshot, START);
    let (mut acted, mut dead, mut echoes) = (0, 0, 0_u64);

    let before = ALLOCATIONS.with(Cell::get);
    for step in 0..3000_u64 {
        let now = START.after(Duration::from_millis(10 * step));
        for (slot, raw) in slots.iter_mut().zip(0_u64..).skip(1) {
            // Each peer is silent for a while now and then, and starts anew once.
            let silent = (step / 100) % 16 == raw;
            if !silent {
                slot.heard = true;
                (slot.heard_at, slot.counts_at) = (now, Some(now));
                slot.beat.incarnation = 7 + u64::from(step > 1500);
                slot.beat.seq += 1;
                slot.beat.state = NodeState::Up;
                slot.beat.deadtime_us = 50_000;
                slot.beat.votes_version = slot.beat.votes_version.max(1);
                slot.beat.has_claims = true;
                slot.beat.acked.insert(id(0));
                slot.beat.acks[0] = Ack { incarnation: 100, seq: node.outgoing().seq, table: 1 };
                vote(&mut slot.beat, node.outgoing());
                slot.links[0].at = Some(now);
                slot.links[0].seq = slot.beat.seq;
                slot.links[0].frames += 1;
                slot.links[0].sent_ns = now.0 - 1000;
                slot.beat.score = u8::try_from(step / 200).unwrap();
            }
            slot.read_at = now;
            node.handle(Event::Reading(slot), now);
            drain(&mut node, &mut effects, now, 50, &mut acted);
        }
        node.handle(Event::Reach { score: u8::try_from(step % 3).unwrap() }, now);
        node.handle_timeout(now);
        drain(&mut node, &mut effects, now, 50, &mut acted);
        echoes += u64::from(node.outgoing().echo.is_some());
        node.snapshot_into(&mut snapshot, now);
        dead += snapshot.nodes.iter().filter(|node| node.state == agent_core::PeerState::Dead).count();
    }
    let allocated = ALLOCATIONS.with(Cell::get) - before;

    assert!(acted > 100 && dead > 100, "{acted} effects, {dead} deaths seen");
    assert!(echoes > 100, "{echoes} heartbeats told what was measured of a link");
    assert_eq!(allocated, 0);
    effects.reserve(10_000);
    assert!(ALLOCATIONS.with(Cell::get) > before, "the counter counts");
}
