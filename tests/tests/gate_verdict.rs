//! What the gate makes of packets, by `BPF_PROG_TEST_RUN`: both directions, every kind of packet that concerns an
//! address, every reason for a gate to be shut, and the heartbeats that raise a bar.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::{Ipv4Addr, Ipv6Addr};

use agent_common::maps::{Direction, GATE_ADDRESSES_MAX, Gate};
use agent_common::{Beat, Claim};
use agent_tests::corpus::corpus;
use agent_tests::frames::{ME, PEER, Packet, beat, frame, resigned};
use agent_tests::gate::{Fate, GateKernel, arp, ethernet, ipv4, ipv6, neighbour};
use agent_tests::kernel::{INGRESS, Outcome, XDP};
use agent_tests::privileged::skip;
use nix::time::{ClockId, clock_gettime};

const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const OTHER_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);
/// The solicited-node address of [`V6`], and a link-local one.
const SOLICITED: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x100);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ZERO_V4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const GROUP: u32 = 5;
/// Above everything that a test puts into a bar.
const EPOCH: u64 = 1 << 50;

/// CLOCK_MONOTONIC, ns.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

fn guarded() -> GateKernel {
    guarded_by(XDP)
}

/// By the program of this name as to what arrives.
fn guarded_by(program: &'static str) -> GateKernel {
    let mut gate = GateKernel::arriving_at(program).unwrap();
    gate.guard(V4.into(), GROUP, 0).unwrap();
    gate.guard(V6.into(), GROUP, 1).unwrap();
    gate
}

fn open(epoch: u64) -> Gate {
    Gate { epoch, expiry_ns: now() + 3_600_000_000_000 }
}

/// A packet and its fate at a shut gate.
struct Case {
    name: &'static str,
    kind: u16,
    packet: Vec<u8>,
    /// Bytes of the packet without which it is nobody's.
    needed: usize,
    arriving: Fate,
    leaving: Fate,
}

fn cases() -> Vec<Case> {
    use Fate::{Dropped, Passed};
    let v4 = |name, from, to, fragment, arriving, leaving| Case {
        name,
        kind: 0x0800,
        packet: ipv4(from, to, 6, fragment, &[0; 60]),
        needed: 20,
        arriving,
        leaving,
    };
    let arp = |name, op, sender, target, arriving, leaving| Case {
        name,
        kind: 0x0806,
        packet: arp(op, sender, target),
        needed: 28,
        arriving,
        leaving,
    };
    let v6 = |name, from, to, next, arriving, leaving| Case {
        name,
        kind: 0x86dd,
        packet: ipv6(from, to, next, &[0; 60]),
        needed: 40,
        arriving,
        leaving,
    };
    let nd = |name, kind, from, to, target, arriving, leaving| Case {
        name,
        kind: 0x86dd,
        packet: neighbour(kind, from, to, target),
        needed: 64,
        arriving,
        leaving,
    };
    vec![
        v4("IPv4 to it", OTHER_V4, V4, 0, Dropped, Passed),
        v4("IPv4 from it", V4, OTHER_V4, 0, Passed, Dropped),
        v4("an IPv4 fragment to it", OTHER_V4, V4, 0x0010, Dropped, Passed),
        v4("an IPv4 fragment from it", V4, OTHER_V4, 0x2010, Passed, Dropped),
        v4("IPv4 between others", OTHER_V4, Ipv4Addr::new(10, 0, 0, 101), 0, Passed, Passed),
        arp("an ARP request for it", 1, OTHER_V4, V4, Dropped, Passed),
        arp("an ARP probe for it", 1, ZERO_V4, V4, Dropped, Passed),
        arp("an ARP request by it", 1, V4, OTHER_V4, Passed, Dropped),
        arp("its gratuitous ARP request", 1, V4, V4, Passed, Dropped),
        arp("its gratuitous ARP reply", 2, V4, V4, Passed, Dropped),
        arp("an ARP reply by it", 2, V4, OTHER_V4, Passed, Dropped),
        arp("an ARP reply to it", 2, OTHER_V4, V4, Passed, Passed),
        arp("an ARP request between others", 1, OTHER_V4, Ipv4Addr::new(10, 0, 0, 8), Passed, Passed),
        v6("TCP over IPv6 to it", OTHER_V6, V6, 6, Dropped, Passed),
        v6("TCP over IPv6 from it", V6, OTHER_V6, 6, Passed, Dropped),
        v6("an IPv6 fragment to it", OTHER_V6, V6, 44, Dropped, Passed),
        v6("IPv6 between others", OTHER_V6, LINK_LOCAL, 17, Passed, Passed),
        nd("a solicitation for it", 135, OTHER_V6, SOLICITED, V6, Dropped, Passed),
        nd("a unicast solicitation for it", 135, OTHER_V6, V6, V6, Dropped, Passed),
        nd("a solicitation by it", 135, V6, ALL_NODES, OTHER_V6, Passed, Dropped),
        nd("a solicitation for another", 135, OTHER_V6, SOLICITED, OTHER_V6, Passed, Passed),
        nd("an advertisement of it", 136, LINK_LOCAL, ALL_NODES, V6, Passed, Dropped),
        nd("an advertisement by it", 136, V6, ALL_NODES, V6, Passed, Dropped),
        nd("an advertisement of another", 136, OTHER_V6, ALL_NODES, OTHER_V6, Passed, Passed),
    ]
}

const TAGS: [&[u16]; 4] = [&[], &[0x8100], &[0x88a8, 0x8100], &[0x8100, 0x8100]];

#[test]
fn every_packet_has_its_fate_at_a_shut_gate_and_passes_an_open_one() {
    fates_at_a_gate(XDP);
}

#[test]
fn every_packet_has_its_fate_at_a_shut_gate_and_passes_an_open_one_of_the_classifier() {
    fates_at_a_gate(INGRESS);
}

fn fates_at_a_gate(program: &'static str) {
    if skip() {
        return;
    }
    let mut gate = guarded_by(program);
    // The next group's gate stands open: it is not asked.
    gate.set(GROUP + 1, open(EPOCH)).unwrap();
    for tags in TAGS {
        for Case { name, kind, packet, arriving, leaving, .. } in cases() {
            let packet = ethernet(tags, kind, &packet);
            gate.set(GROUP, Gate::default()).unwrap();
            assert_eq!(gate.arrive(&packet).unwrap(), arriving, "{name}, arriving, {} tags", tags.len());
            assert_eq!(gate.leave(&packet).unwrap(), leaving, "{name}, leaving, {} tags", tags.len());
            gate.set(GROUP, open(EPOCH)).unwrap();
            assert_eq!(gate.arrive(&packet).unwrap(), Fate::Passed, "{name}, open, {} tags", tags.len());
            assert_eq!(gate.leave(&packet).unwrap(), Fate::Passed, "{name}, open, {} tags", tags.len());
        }
    }
    let three = [0x88a8, 0x8100, 0x8100];
    gate.set(GROUP, Gate::default()).unwrap();
    for Case { name, kind, packet, .. } in cases() {
        let packet = ethernet(&three, kind, &packet);
        assert_eq!(gate.arrive(&packet).unwrap(), Fate::Passed, "{name}, three tags");
        assert_eq!(gate.leave(&packet).unwrap(), Fate::Passed, "{name}, three tags");
    }
}

#[test]
fn a_packet_that_is_cut_short_is_nobodys() {
    cut_short(XDP);
}

#[test]
fn a_packet_that_is_cut_short_is_nobodys_of_the_classifier() {
    cut_short(INGRESS);
}

fn cut_short(program: &'static str) {
    if skip() {
        return;
    }
    let mut gate = guarded_by(program);
    let mut dropped = 0;
    for tags in TAGS {
        for Case { name, kind, packet, needed, arriving, leaving } in cases() {
            let whole = ethernet(tags, kind, &packet);
            let header = whole.len() - packet.len();
            for len in 14..whole.len() {
                let cut = &whole[..len];
                let at = format!("{name}, {} tags, cut to {len}", tags.len());
                let (arrived, left) = (gate.arrive(cut).unwrap(), gate.leave(cut).unwrap());
                if len >= header + needed {
                    assert_eq!((arrived, left), (arriving, leaving), "{at}");
                } else if len < header + needed.min(40) {
                    assert_eq!((arrived, left), (Fate::Passed, Fate::Passed), "{at}");
                }
                dropped += u32::from(arrived == Fate::Dropped) + u32::from(left == Fate::Dropped);
            }
        }
    }
    assert!(dropped > 1000, "the witness: {dropped}");
}

#[test]
fn a_gate_shuts_when_its_time_is_over_and_when_its_bar_is_above_it() {
    if skip() {
        return;
    }
    let mut gate = guarded();
    let packet = ethernet(&[], 0x0800, &ipv4(OTHER_V4, V4, 6, 0, &[0; 40]));
    let fate = |gate: &mut GateKernel, set: Gate, bar: u64| {
        gate.set(GROUP, set).unwrap();
        gate.set_bar(GROUP, bar).unwrap();
        gate.arrive(&packet).unwrap()
    };
    assert_eq!(fate(&mut gate, Gate::default(), 0), Fate::Dropped, "never opened");
    assert_eq!(fate(&mut gate, open(7), 0), Fate::Passed);
    assert_eq!(fate(&mut gate, open(7), 7), Fate::Passed, "a bar as high as the epoch");
    assert_eq!(fate(&mut gate, open(7), 8), Fate::Dropped, "a bar above the epoch");
    assert_eq!(fate(&mut gate, open(9), 8), Fate::Passed, "a later epoch");
    assert_eq!(fate(&mut gate, open(u64::MAX), u64::MAX), Fate::Passed);
    assert_eq!(fate(&mut gate, Gate { epoch: 9, expiry_ns: 0 }, 0), Fate::Dropped, "shut");
    assert_eq!(fate(&mut gate, Gate { epoch: 9, expiry_ns: now() }, 0), Fate::Dropped, "over");
    // Nobody writes any more: the clock alone shuts it.
    let soon = Gate { epoch: 9, expiry_ns: now() + 200_000_000 };
    let mut passed = 0;
    while fate(&mut gate, soon, 8) == Fate::Passed {
        passed += 1;
        assert!(now() < soon.expiry_ns + 1_000_000_000, "open beyond its time");
    }
    assert!(now() >= soon.expiry_ns, "shut before its time");
    assert!(passed > 0, "the witness: it was open");
}

#[test]
fn drops_are_counted_for_each_address_and_direction() {
    if skip() {
        return;
    }
    let mut gate = guarded();
    let last = GATE_ADDRESSES_MAX as u32 - 1;
    gate.guard(OTHER_V4.into(), 63, last).unwrap();
    let v4 = |from, to| ethernet(&[], 0x0800, &ipv4(from, to, 6, 0, &[0; 40]));
    let elsewhere = Ipv4Addr::new(192, 0, 2, 1);
    for _ in 0..3 {
        gate.arrive(&v4(elsewhere, V4)).unwrap();
    }
    gate.leave(&v4(V4, elsewhere)).unwrap();
    gate.leave(&v4(OTHER_V4, elsewhere)).unwrap();
    gate.leave(&v4(OTHER_V4, elsewhere)).unwrap();
    gate.leave(&v4(elsewhere, V4)).unwrap();
    let mut drops = |place| {
        let mut count = |direction| gate.drops(place, direction).unwrap();
        (count(Direction::Ingress), count(Direction::Egress))
    };
    assert_eq!((drops(0), drops(1), drops(last)), ((3, 1), (0, 0), (0, 2)));
}

#[test]
fn nothing_passes_changed_and_nothing_foreign_is_touched() {
    if skip() {
        return;
    }
    let mut gate = GateKernel::new().unwrap();
    for Case { name, kind, packet, .. } in cases() {
        let packet = ethernet(&[], kind, &packet);
        assert_eq!(gate.arrive(&packet).unwrap(), Fate::Passed, "{name}");
        assert_eq!(gate.leave(&packet).unwrap(), Fate::Passed, "{name}");
    }
    let mut gate = guarded();
    let mut foreign = 0;
    for case in corpus().into_iter().filter(|case| case.expected == Outcome::Foreign) {
        let (_, after) = gate.kernel.output(&case.packet).unwrap();
        assert_eq!(after, case.packet, "{}", case.name);
        assert_eq!(gate.arrive(&case.packet).unwrap(), Fate::Passed, "{}", case.name);
        assert_eq!(gate.leave(&case.packet).unwrap(), Fate::Passed, "{}", case.name);
        foreign += 1;
    }
    assert!(foreign > 100, "the witness: {foreign}");
}

/// A heartbeat of [`PEER`] whose table says something of [`GROUP`].
fn claiming(seq: u64, epoch: u64, candidate: u8, flags: u8) -> Beat {
    let mut beat = beat(PEER, 5, seq);
    beat.has_claims = true;
    beat.claims[GROUP as usize] = Claim { epoch, candidate, flags };
    beat
}

fn hear(gate: &mut GateKernel, beat: &Beat) -> Outcome {
    gate.kernel.submit(&Packet::on(0, frame(beat, 0)).bytes()).unwrap()
}

#[test]
fn a_heartbeat_that_counts_and_holds_at_a_higher_epoch_raises_the_bar() {
    bar_raised(XDP);
}

#[test]
fn a_heartbeat_that_counts_and_holds_at_a_higher_epoch_raises_the_bar_of_the_classifier() {
    bar_raised(INGRESS);
}

fn bar_raised(program: &'static str) {
    if skip() {
        return;
    }
    let mut gate = guarded_by(program);
    let packet = ethernet(&[], 0x0806, &arp(1, OTHER_V4, V4));
    gate.set(GROUP, open(100)).unwrap();
    let mut step = |beat: &Beat| {
        let outcome = hear(&mut gate, beat);
        (outcome, gate.bar(GROUP).unwrap(), gate.arrive(&packet).unwrap())
    };
    let newest = Outcome::Newest { news: true };
    let passed = Fate::Passed;
    let mut not_counting = claiming(1, 200, PEER, Claim::HELD);
    not_counting.acked = agent_common::NodeSet::EMPTY;
    assert_eq!(step(&not_counting), (newest, 0, passed), "it has not acked us: it does not count");
    let mut beat = claiming(2, 200, PEER, 0);
    beat.votes_version = 1;
    assert_eq!(step(&beat).1, 0, "it asks");
    assert_eq!(step(&claiming(3, 200, PEER, Claim::WANT)).1, 0, "it wants");
    assert_eq!(step(&claiming(4, 200, ME, 0)).1, 0, "it votes for us");
    assert_eq!(step(&claiming(5, 200, ME, Claim::HELD)).1, 0, "nobody holds for another");
    assert_eq!(step(&claiming(6, 90, PEER, Claim::HELD)), (newest_or(false), 90, passed), "a lower epoch");
    assert_eq!(step(&claiming(7, 100, PEER, Claim::HELD)), (newest_or(false), 100, passed), "an equal one");
    let mut elsewhere = claiming(8, 0, 0, 0);
    elsewhere.claims[GROUP as usize + 1] = Claim { epoch: 900, candidate: PEER, flags: Claim::HELD };
    assert_eq!(step(&elsewhere).1, 100, "another group");
    let higher = claiming(9, 0x1234_5678_9abc_de01, PEER, Claim::HELD | Claim::WANT);
    assert_eq!(step(&higher), (newest_or(false), 0x1234_5678_9abc_de01, Fate::Dropped), "a higher one");
    assert_eq!(step(&claiming(10, 300, PEER, Claim::HELD)).1, 0x1234_5678_9abc_de01, "it only rises");
    let mut no_table = claiming(11, u64::MAX, PEER, Claim::HELD);
    no_table.has_claims = false;
    assert_eq!(step(&no_table).1, 0x1234_5678_9abc_de01);
    assert_eq!(gate.bar(GROUP + 1).unwrap(), 900);
}

/// The kernel tells of changed terms only; these tables come without a new version.
const fn newest_or(news: bool) -> Outcome {
    Outcome::Newest { news }
}

#[test]
fn copies_replays_and_forgeries_raise_nothing() {
    if skip() {
        return;
    }
    let mut gate = guarded();
    let recorded = claiming(50, 500, PEER, Claim::HELD);
    assert!(matches!(hear(&mut gate, &claiming(60, 10, PEER, Claim::HELD)), Outcome::Newest { .. }));
    assert_eq!(gate.bar(GROUP).unwrap(), 10);
    assert_eq!(hear(&mut gate, &recorded), Outcome::Copy, "late: it counts for its link only");
    let forged = resigned(frame(&claiming(61, 600, PEER, Claim::HELD), 0), |_| {});
    let mut forged = Packet::on(0, forged).bytes();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(matches!(gate.kernel.submit(&forged).unwrap(), Outcome::Refused(_)));
    let earlier = Beat { incarnation: 4, ..claiming(99, 700, PEER, Claim::HELD) };
    assert!(matches!(hear(&mut gate, &earlier), Outcome::Refused(_)));
    assert_eq!(gate.bar(GROUP).unwrap(), 10);
}

#[test]
fn a_whole_table_raises_every_bar() {
    if skip() {
        return;
    }
    let mut gate = GateKernel::new().unwrap();
    let mut beat = beat(PEER, 5, 1);
    beat.has_claims = true;
    for (claim, group) in beat.claims.iter_mut().zip(1u64..) {
        let flags = if group % 7 == 0 { 0 } else { Claim::HELD };
        *claim = Claim { epoch: group << 8 | 1, candidate: PEER, flags };
    }
    hear(&mut gate, &beat);
    for group in 0..64u32 {
        let expected = if (group + 1) % 7 == 0 { 0 } else { u64::from(group + 1) << 8 | 1 };
        assert_eq!(gate.bar(group).unwrap(), expected, "group {group}");
    }
}

/// Two peers are heard on two processors at once, each at rising epochs: no bar is ever lowered.
#[test]
fn bars_never_fall_between_processors() {
    if skip() {
        return;
    }
    const BEATS: u64 = 4000;
    let mut gate = GateKernel::new().unwrap();
    let packets = |node: u8| -> Vec<Vec<u8>> {
        let packet = |seq: u64| {
            let mut beat = beat(node, 5, seq);
            beat.has_claims = true;
            let epoch = seq << 8 | u64::from(node);
            beat.claims[0] = Claim { epoch, candidate: node, flags: Claim::HELD };
            Packet::on(0, frame(&beat, 0)).bytes()
        };
        (1..=BEATS).map(packet).collect()
    };
    let sent = [packets(1), packets(2)];
    let kernel = &gate.kernel;
    std::thread::scope(|scope| {
        for packets in &sent {
            scope.spawn(move || {
                for packet in packets {
                    kernel.run(packet, 1).unwrap();
                }
            });
        }
    });
    assert_eq!(gate.bar(0).unwrap(), BEATS << 8 | 2);
}

/// Random packets around the two addresses meet the fate that a plain reader of packets gives them.
#[test]
fn random_packets_meet_the_fate_that_a_plain_reader_gives_them() {
    if skip() {
        return;
    }
    let mut gate = guarded();
    let mut random = Random(0x6a7e);
    let mut fates = [0u32; 4];
    for round in 0..20_000 {
        let packet = random.packet();
        let arriving = read(&packet).is_some_and(|seen| seen.0);
        let leaving = read(&packet).is_some_and(|seen| seen.1);
        let fate = |shut| if shut { Fate::Dropped } else { Fate::Passed };
        assert_eq!(gate.arrive(&packet).unwrap(), fate(arriving), "round {round}, arriving: {packet:02x?}");
        assert_eq!(gate.leave(&packet).unwrap(), fate(leaving), "round {round}, leaving: {packet:02x?}");
        fates[usize::from(arriving) + 2 * usize::from(leaving)] += 1;
    }
    assert!(fates.iter().all(|times| *times > 200), "the witness: {fates:?}");
}

/// Whether a packet is (for, from) one of the two addresses, by a reader that knows nothing of verifiers.
fn read(packet: &[u8]) -> Option<(bool, bool)> {
    let be16 = |bytes: &[u8], at: usize| bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let mut rest = packet.get(12..)?;
    let mut tags = 0;
    while tags < 2 && matches!(be16(rest, 0)?, 0x8100 | 0x88a8) {
        tags += 1;
        rest = rest.get(4..)?;
    }
    let kind = be16(rest, 0)?;
    let body = rest.get(2..)?;
    let ours = |address: &[u8]| address == V4.octets() || address == V6.octets();
    match kind {
        0x0800 if body.len() >= 20 => Some((ours(&body[16..20]), ours(&body[12..16]))),
        0x0806 if body.len() >= 28 => {
            let (sender, target) = (&body[14..18], &body[24..28]);
            Some((be16(body, 6)? == 1 && sender != target && ours(target), ours(sender)))
        }
        0x86dd if body.len() >= 40 => {
            let (mut from, mut to) = (&body[8..24], &body[24..40]);
            if body.len() >= 64 && body[6] == 58 {
                match body[40] {
                    135 => to = &body[48..64],
                    136 => from = &body[48..64],
                    _ => {}
                }
            }
            Some((ours(to), ours(from)))
        }
        _ => None,
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound) as usize
    }

    /// A packet between the addresses of the tests, sometimes damaged, sometimes cut.
    fn packet(&mut self) -> Vec<u8> {
        let v4 = [V4, V4, OTHER_V4, ZERO_V4];
        let v6 = [V6, V6, OTHER_V6, SOLICITED];
        let tags = TAGS[self.below(4)];
        let (a, b, c) = (self.below(4), self.below(4), self.below(4));
        let (kind, body) = match self.below(4) {
            0 => (0x0800, ipv4(v4[a], v4[b], 17, 0, &[0; 40])),
            1 => (0x0806, arp(1 + c as u16 % 3, v4[a], v4[b])),
            2 => (0x86dd, ipv6(v6[a], v6[b], 6, &[0; 40])),
            _ => (0x86dd, neighbour(134 + c as u8 % 4, v6[a], v6[b], v6[c])),
        };
        let mut packet = ethernet(tags, kind, &body);
        if self.below(4) == 0 {
            let place = 12 + self.below(packet.len() as u64 - 12);
            packet[place] = self.below(256) as u8;
        }
        if self.below(8) == 0 {
            packet.truncate(14 + self.below(packet.len() as u64 - 14));
        }
        packet
    }
}
