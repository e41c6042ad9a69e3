//! The model of the kernel's counting against the code that the kernel runs, frame by frame.

#![allow(clippy::unwrap_used, reason = "tests")]

use agent_common::ids::{MAX_LINKS, MAX_NODES};
use agent_common::maps::{ClusterConfig, KeyState, PeerSlot};
use agent_common::window::PeerWindow;
use agent_common::wire::{FRAME_MAX, cluster_id, encode};
use agent_common::{Ack, Beat, KeyId, LinkId, NodeId, NodeState, receive};
use agent_core::Instant;

use crate::sim::Rng;

use super::Kernel;
use crate::cluster::packet::{LINKS, Packet};

const INITDEAD_US: u32 = 1000;

/// A heartbeat near to what was heard: copies, reordering within and beyond the window, other incarnations, wrong deadtimes.
fn beat(rng: &mut Rng, step: u64) -> Beat {
    let mut beat = Beat::empty(NodeId::new(rng.below(3) as u8).unwrap());
    beat.state = [NodeState::Joining, NodeState::Up][usize::from(rng.chance(900))];
    beat.incarnation = 10 + step / 300 - rng.below(20) / 19;
    beat.seq = (step % 300 + rng.below(4)).saturating_sub(if rng.chance(200) { rng.below(90) } else { 0 });
    beat.keepalive_us = 100;
    beat.deadtime_us = if rng.chance(10) { INITDEAD_US + 1 } else { 500 };
    beat.votes_version = 1 + rng.below(40) as u32 / 39;
    if rng.chance(500) {
        beat.acked.insert(NodeId::FIRST);
        beat.acks[0] = Ack { incarnation: 7 + rng.below(2), seq: step, table: 0 };
    }
    beat
}

#[test]
fn the_model_counts_as_the_kernel_does() {
    let mut rng = Rng::new(1);
    let key = KeyState::from_secret(&[7; 32]);
    let mut keys = Box::new([KeyState::default(); 256]);
    keys[1] = key;
    let config = ClusterConfig {
        cluster: cluster_id("sim"),
        nodes: 0b111,
        incarnation: 7,
        deadtime_max_us: INITDEAD_US,
        me: 0,
    };
    let mut windows = Box::new([PeerWindow::default(); MAX_NODES]);
    let mut slots = Box::new([PeerSlot::EMPTY; MAX_NODES]);
    let mut model = Kernel::new(0, INITDEAD_US, false);
    (model.nodes, model.ours) = (config.nodes, config.incarnation);
    let (mut newest, mut copies, mut refused, mut counted) = (0, 0, 0, 0);
    for step in 1..30_000_u64 {
        let beat = beat(&mut rng, step / 5);
        let link = rng.below(LINKS as u64) as u8;
        let id = LinkId::new(link).unwrap();
        let mut frame = [0; FRAME_MAX];
        let len = encode(&beat, id, 100, config.cluster, KeyId::new(1).unwrap(), &key, &mut frame);
        let stamp = 1000 + step;
        let real = receive(&frame[..len], id, &config, &keys, &mut windows, &mut slots, stamp);
        let taken = model.receive(&Packet::of(&beat), link, Instant(stamp));
        let expected = real.map_or((false, false, false), |real| (true, real.newest, real.news));
        assert_eq!((taken.accepted, taken.newest, taken.news), expected, "step {step}: {beat:?}");
        for (peer, slot) in slots.iter().enumerate().take(3).skip(1) {
            let reading = model.read(peer as u8, Instant(stamp));
            let counts = (slot.counts_ns != 0).then_some(Instant(slot.counts_ns));
            assert_eq!((reading.counts_at, reading.heard_at.0), (counts, slot.heard_ns), "step {step}");
            assert_eq!(reading.accepted, slot.accepted);
            for (shown, link) in reading.links.iter().zip(&slot.links).take(MAX_LINKS) {
                assert_eq!(
                    (shown.seq, shown.frames, shown.first_seq),
                    (link.seq, link.frames, link.first_seq)
                );
            }
        }
        match taken {
            taken if taken.newest => newest += 1,
            taken if taken.accepted => copies += 1,
            _ => refused += 1,
        }
        counted += u32::from(model.truth(1).counts.is_some());
    }
    assert!(
        newest > 1000 && copies > 1000 && refused > 1000 && counted > 1000,
        "{newest} {copies} {refused}"
    );
}
