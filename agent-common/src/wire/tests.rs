//! Golden frames, round trips, and arbitrary bytes.

use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::beat::{Ack, Beat, Claim, Echo, Name, NodeState};
use crate::ids::{KeyId, LinkId, MAX_GROUPS, MAX_LINKS, MAX_NODES, NodeId, NodeSet};
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

/// The steady heartbeat with all that is said now and then.
fn talkative() -> Beat {
    let mut beat = steady();
    beat.score = 0xa;
    let mut echo = Echo { link: LinkId::new(2).unwrap(), nodes: NodeSet(0b110), delay_ns: [0; MAX_NODES] };
    echo.delay_ns[1] = -0x0102_0304_0506_0708;
    echo.delay_ns[2] = 300_000;
    beat.echo = Some(echo);
    beat.name = Name::new("alpha").unwrap();
    beat
}

fn body(beat: &Beat) -> Vec<u8> {
    let mut bytes = frame(beat, 0);
    bytes.truncate(bytes.len() - TAG_LEN);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| std::format!("{byte:02x}")).collect()
}

/// The format does not change by accident. A change on purpose needs another [`VERSION`].
#[test]
fn golden_frames_stand() {
    assert_eq!(hex(&frame(&steady(), 2)), include_str!("golden/steady.hex").replace(['\n', ' '], ""));
    assert_eq!(hex(&frame(&largest(), 0)), include_str!("golden/largest.hex").replace(['\n', ' '], ""));
    assert_eq!(hex(&frame(&talkative(), 1)), include_str!("golden/talkative.hex").replace(['\n', ' '], ""));
}

#[test]
fn a_steady_heartbeat_of_three_nodes_is_three_compressions() {
    assert_eq!(frame(&steady(), 0).len(), 119 + TAG_LEN);
    let mut scored = steady();
    scored.score = 15;
    assert_eq!(frame(&scored, 0).len(), 119 + TAG_LEN, "a score takes no room");
    assert!(frame(&largest(), 0).len() <= FRAME_MAX);
}

#[test]
fn the_score_is_the_flags_upper_half() {
    let mut beat = steady();
    (beat.flags, beat.score) = (Beat::MAINTENANCE, 15);
    assert_eq!(body(&beat)[at::FLAGS], 0xf1);
    assert_eq!(decode(&body(&beat)), Ok(beat));
}

/// Golden too, but readable: what stands where.
#[test]
fn echo_and_name_stand_after_the_votes() {
    let mut beat = talkative();
    beat.has_claims = true;
    beat.claims[7] = Claim { epoch: 9, candidate: 1, flags: Claim::HELD };
    let bytes = body(&beat);
    let echo_at = HEADER_LEN + 4 + 2 * ACK_LEN + 4 + 1 + CLAIM_LEN;
    assert_eq!(bytes[at::SECTIONS], SECTIONS);
    assert_eq!(bytes[echo_at..echo_at + 5], [2, 0, 0, 0, 6]);
    let delay = |row: usize| bytes[echo_at + 5 + 8 * row..][..8].to_vec();
    assert_eq!(delay(0), (-0x0102_0304_0506_0708i64).to_be_bytes());
    assert_eq!(delay(1), 300_000i64.to_be_bytes());
    assert_eq!(bytes[echo_at + 21..][..6], *b"\x05alpha");
    assert!(bytes[echo_at + 27..].iter().all(|byte| *byte == 0));
}

/// The name goes first, then the echo, and nothing else ever does.
#[test]
fn what_does_not_fit_is_left_out() {
    let full = Echo { link: LinkId::FIRST, nodes: NodeSet(u32::MAX), delay_ns: [-1; MAX_NODES] };
    let said = |claims: usize, echo: Option<Echo>, name: usize| {
        let mut beat = largest();
        beat.claims[claims..].fill(Claim::default());
        beat.echo = echo;
        beat.name = Name::new(&"n".repeat(name)).unwrap_or(Name::NONE);
        let read = decode(&body(&beat)).unwrap();
        assert_eq!((read.acks, read.claims, read.view), (beat.acks, beat.claims, beat.view));
        assert!(read.echo.is_none() || read.echo == beat.echo);
        assert!(read.name == Name::NONE || read.name == beat.name);
        (read.echo.is_some(), read.name != Name::NONE)
    };
    // Header, 31 acks, view, and the count of rows take 689 bytes; 710 are left, of which an echo of all takes 261.
    assert_eq!(said(34, Some(full), 63), (true, true), "449 less 374 is 75");
    assert_eq!(said(35, Some(full), 63), (true, true), "and 64 exactly");
    assert_eq!(said(36, Some(full), 63), (true, false));
    assert_eq!(said(36, Some(full), 52), (true, true), "53 bytes are left");
    assert_eq!(said(36, Some(full), 53), (true, false));
    assert_eq!(said(40, Some(full), 63), (true, false));
    assert_eq!(said(41, Some(full), 1), (false, false), "no name where the echo did not fit");
    assert_eq!(said(58, None, 63), (false, true));
    assert_eq!(said(59, None, 63), (false, false));
    assert_eq!(said(64, None, 5), (false, true), "6 bytes are left");
    assert_eq!(said(64, None, 6), (false, false));
}

#[test]
fn an_echo_or_a_name_that_no_encoder_writes_is_refused() {
    let bytes = body(&talkative());
    let echo_at = HEADER_LEN + 4 + 2 * ACK_LEN + 4;
    let name_at = echo_at + ECHO_HEAD_LEN + 2 * DELAY_LEN;
    let changed = |at: usize, with: &[u8]| {
        let mut body = bytes.clone();
        body[at..at + with.len()].copy_from_slice(with);
        decode(&body).map(|_| ())
    };
    assert_eq!(changed(echo_at, &[MAX_LINKS as u8]), Err(Reject::Sections), "a link beyond all");
    assert_eq!(changed(echo_at, &[MAX_LINKS as u8 - 1]), Ok(()), "the witness");
    assert_eq!(changed(echo_at + 1, &[255; 4]), Err(Reject::Sections), "more rows than there is room");
    assert_eq!(changed(name_at, &[0]), Err(Reject::Sections), "an empty name");
    assert_eq!(changed(name_at, &[64]), Err(Reject::Sections), "longer than a name");
    assert_eq!(changed(name_at, &[63]), Err(Reject::Sections), "longer than the body");
    assert_eq!(changed(name_at + 1, &[0xff]), Err(Reject::Sections), "not in UTF-8");
    assert_eq!(changed(name_at + 1, "\u{e4}".as_bytes()), Ok(()), "the witness");
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
    assert_eq!(changed(at::SECTIONS, 32), Err(Reject::Sections));
    assert_eq!(changed(at::SECTIONS, 128), Err(Reject::Sections));
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
    let echo = proptest::option::of((0..MAX_LINKS as u8, any::<u32>(), any::<[i64; MAX_NODES]>()));
    let extras = (0..16u8, echo, proptest::option::of("\\PC{1,63}"));
    (header, acks, view, claims, extras).prop_map(|((sender, state, rest), acks, view, claims, extras)| {
        let mut beat = Beat::empty(node(sender));
        let (score, echo, name) = extras;
        beat.score = score;
        beat.echo = echo.map(|(link, nodes, mut delay_ns)| {
            let nodes = NodeSet(nodes);
            for silent in NodeId::all().filter(|node| !nodes.contains(*node)) {
                delay_ns[silent.index()] = 0;
            }
            Echo { link: LinkId::new(link).unwrap(), nodes, delay_ns }
        });
        beat.name = name.and_then(|name| Name::new(&name)).unwrap_or(Name::NONE);
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
        beat.flags &= FLAGS_MASK;
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
        let read = decode(&bytes[..bytes.len() - TAG_LEN]).unwrap();
        let mut expected = beat.clone();
        if read.name == Name::NONE {
            expected.name = Name::NONE;
        }
        if read.echo.is_none() {
            expected.echo = None;
        }
        prop_assert_eq!(&read, &expected);
        // Nothing was left out that there was room for.
        prop_assert!(bytes.len() + DELAY_LEN * MAX_NODES + 2 * 64 > FRAME_MAX || expected == beat);
    }

    #[test]
    fn what_userspace_reads_the_kernel_lets_through(
        beat in beats(),
        damage in proptest::collection::vec((HEADER_LEN..BODY_MAX, any::<u8>()), 0..8),
    ) {
        let mut bytes = frame(&beat, 0);
        let end = bytes.len() - TAG_LEN;
        for (place, value) in damage {
            bytes[HEADER_LEN + (place - HEADER_LEN) % (end - HEADER_LEN)] = value;
        }
        let inspected = crate::sections::inspect(crate::frame::SliceFrame(&bytes), 3);
        if decode(&bytes[..end]).is_ok() {
            prop_assert!(inspected.is_ok());
        }
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
