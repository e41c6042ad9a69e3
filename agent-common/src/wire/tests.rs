//! Golden frames, round trips, and arbitrary bytes.

use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::beat::{Ack, Beat, Claim, NodeState};
use crate::ids::{KeyId, LinkId, MAX_GROUPS, MAX_NODES, NodeId, NodeSet};
use crate::maps::KeyState;
use crate::reject::Reject;

const SECRET: &[u8] = b"a secret of thirty-two bytes....";

fn node(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

fn frame(beat: &Beat, link: u8) -> Vec<u8> {
    let mut out = [0xee; FRAME_MAX];
    let key = KeyState::from_secret(SECRET);
    let len = encode(
        beat,
        LinkId::new(link).unwrap(),
        10_000,
        cluster_id("web"),
        KeyId::new(1).unwrap(),
        &key,
        &mut out,
    );
    out[..len].to_vec()
}

/// What node 0 of three sends all day.
fn steady() -> Beat {
    let mut beat = Beat::empty(node(0));
    beat.state = NodeState::Up;
    beat.incarnation = 0x0102_0304_0506_0708;
    beat.seq = 0x1112_1314_1516_1718;
    beat.sent_ns = 0x2122_2324_2526_2728;
    beat.keepalive_us = 10_000;
    beat.deadtime_us = 50_000;
    beat.votes_version = 3;
    beat.vote_number = 1;
    for peer in [1, 2] {
        beat.acked.insert(node(peer));
        beat.acks[usize::from(peer)] = Ack { incarnation: 5, seq: 0x100 + u64::from(peer), table: 2 };
    }
    beat.view = Some(NodeSet::EMPTY);
    beat
}

/// Everything at its largest.
fn largest() -> Beat {
    let mut beat = steady();
    beat.flags = Beat::MAINTENANCE;
    beat.state = NodeState::Leaving;
    beat.has_claims = true;
    for peer in NodeId::all().skip(1) {
        beat.acked.insert(peer);
        beat.acks[peer.index()] = Ack { incarnation: u64::MAX, seq: u64::MAX - 1, table: u32::MAX };
    }
    beat.view = Some(NodeSet(u32::MAX));
    beat.claims = [Claim { epoch: u64::MAX, candidate: 31, flags: Claim::HELD | Claim::WANT }; MAX_GROUPS];
    beat
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| std::format!("{byte:02x}")).collect()
}

/// The format does not change by accident. A change on purpose needs another [`VERSION`].
#[test]
fn golden_frames_stand() {
    assert_eq!(hex(&frame(&steady(), 2)), include_str!("golden/steady.hex").replace(['\n', ' '], ""));
    assert_eq!(hex(&frame(&largest(), 0)), include_str!("golden/largest.hex").replace(['\n', ' '], ""));
}

#[test]
fn a_steady_heartbeat_of_three_nodes_is_three_compressions() {
    assert_eq!(frame(&steady(), 0).len(), 119 + TAG_LEN);
    assert!(frame(&largest(), 0).len() <= FRAME_MAX);
}

#[test]
fn the_cluster_id_is_the_names_hash() {
    assert_eq!(cluster_id("abc"), 0xba78_16bf);
    assert_ne!(cluster_id("web"), cluster_id("Web"));
}

#[test]
fn a_node_never_acks_itself() {
    let mut beat = steady();
    beat.acked.insert(beat.node);
    let bytes = frame(&beat, 0);
    assert_eq!(decode(&bytes[..bytes.len() - TAG_LEN]).unwrap().acked, NodeSet(0b110));
}

#[test]
fn another_link_gets_the_same_frame_signed_again() {
    let key = KeyState::from_secret(SECRET);
    let mut out = [0; FRAME_MAX];
    let first = frame(&steady(), 0);
    out[..first.len()].copy_from_slice(&first);
    resign(&mut out, first.len(), LinkId::new(3).unwrap(), 10_000, &key);
    assert_eq!(out[..first.len()], frame(&steady(), 3)[..]);
    assert_ne!(out[..first.len()], first[..]);
}

#[test]
fn bodies_that_no_encoder_writes_are_refused() {
    let bytes = frame(&largest(), 0);
    let body = &bytes[..bytes.len() - TAG_LEN];
    let votes_at = HEADER_LEN + 4 + 31 * ACK_LEN + 4;
    let changed = |at: usize, value: u8| {
        let mut body = body.to_vec();
        body[at] = value;
        decode(&body).map(|_| ())
    };
    assert_eq!(decode(&body[..118]).map(|_| ()), Err(Reject::Length));
    assert_eq!(decode(&bytes).map(|_| ()), Err(Reject::Length));
    assert_eq!(changed(0, b'Y'), Err(Reject::Magic));
    assert_eq!(changed(3, 2), Err(Reject::Version));
    assert_eq!(changed(at::NODE, 32), Err(Reject::Node));
    assert_eq!(changed(at::STATE, 0), Err(Reject::Sections));
    assert_eq!(changed(at::SECTIONS, 8), Err(Reject::Sections));
    assert_eq!(changed(votes_at, 65), Err(Reject::Sections));
    assert_eq!(changed(votes_at + 1 + CLAIM_LEN, 0), Err(Reject::Sections), "group 0 twice");
    assert_eq!(changed(votes_at + 3, 32), Err(Reject::Sections), "candidate out of range");
    assert_eq!(changed(at::FLAGS, 0), Ok(()), "the witness: this one parses");
}

#[test]
fn a_refused_body_leaves_the_heartbeat_as_it_was() {
    let bytes = frame(&largest(), 0);
    let mut body = bytes[..bytes.len() - TAG_LEN].to_vec();
    let mut beat = steady();
    body[HEADER_LEN + 4 + 31 * ACK_LEN + 4 + 3] = 99;
    assert_eq!(decode_into(&body, &mut beat), Err(Reject::Sections));
    assert_eq!(beat, steady());
}

fn beats() -> impl Strategy<Value = Beat> {
    let header = (0..MAX_NODES as u8, 1..=4u8, any::<(u8, u16, u64, u64, u64, u32, u32)>());
    let acks = proptest::collection::btree_map(0..MAX_NODES as u8, any::<(u64, u64, u32)>(), 0..MAX_NODES);
    let view = any::<Option<u32>>();
    let claims = proptest::option::of(proptest::collection::btree_map(
        0..MAX_GROUPS as u8,
        (1..u64::MAX, 0..MAX_NODES as u8, any::<u8>()),
        0..=MAX_GROUPS,
    ));
    (header, acks, view, claims).prop_map(|((sender, state, rest), acks, view, claims)| {
        let mut beat = Beat::empty(node(sender));
        beat.state = NodeState::from_raw(state).unwrap();
        (
            beat.flags,
            beat.vote_number,
            beat.incarnation,
            beat.seq,
            beat.sent_ns,
            beat.deadtime_us,
            beat.votes_version,
        ) = rest;
        beat.keepalive_us = 10_000;
        for (peer, (incarnation, seq, table)) in acks.into_iter().filter(|(peer, _)| *peer != sender) {
            beat.acked.insert(node(peer));
            beat.acks[usize::from(peer)] = Ack { incarnation, seq, table };
        }
        beat.view = view.map(NodeSet);
        beat.has_claims = claims.is_some();
        for (group, (epoch, candidate, flags)) in claims.into_iter().flatten() {
            beat.claims[usize::from(group)] = Claim { epoch, candidate, flags };
        }
        beat
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(beat in beats(), link in 0..8u8) {
        let bytes = frame(&beat, link);
        prop_assert_eq!(decode(&bytes[..bytes.len() - TAG_LEN]), Ok(beat));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn damaged_bodies_never_panic(
        beat in beats(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let bytes = frame(&beat, 0);
        let mut body = bytes[..bytes.len() - TAG_LEN].to_vec();
        for (place, value) in damage {
            let place = place.index(body.len());
            body[place] = value;
        }
        let _ = decode(&body);
    }
}
