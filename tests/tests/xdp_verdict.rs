//! What the programs of arriving packets, XDP and classifier, make of them by `BPF_PROG_TEST_RUN`: the verdict that each must
//! have, and that userspace, running the same validation over the same bytes, comes to the same verdict and slots.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use agent_common::{
    LinkId, Reject,
    ids::MAX_NODES,
    maps::{Counter, LinkSlot, PeerSlot, Rival, name},
    receive::{Keys, receive},
    slot::read_slot,
    window::{PeerWindow, Slots, Windows},
};
use agent_tests::{
    corpus::{Case, corpus},
    frames::{
        INTERFACE, ME, OURS, PEER, Packet, arrival, beat, cluster_config, deliver, frame, key, resigned,
        screened,
    },
    kernel::{DROP, INGRESS, Kernel, Outcome, PASS, PRODUCT, XDP},
    privileged::skip,
};

/// The kernel and userspace, fed the same packets.
struct Pair {
    kernel: Kernel,
    keys: Box<Keys>,
    windows: Box<Windows>,
    slots: Box<Slots>,
}

impl Pair {
    fn new(program: &'static str) -> Self {
        Self {
            kernel: Kernel::product(program).unwrap(),
            keys: Box::new(std::array::from_fn(|id| key(id as u8))),
            windows: Box::new([PeerWindow::default(); 32]),
            slots: Box::new([PeerSlot::EMPTY; 32]),
        }
    }

    /// Submits to both and compares outcome and slots; returns the outcome.
    fn submit(&mut self, name: &str, packet: &[u8]) -> Outcome {
        let kernel = self.kernel.submit(packet).unwrap_or_else(|error| panic!("{name}: {error}"));
        let userspace = self.userspace(packet);
        assert_eq!(kernel, userspace, "{name}: kernel and userspace differ");
        for node in 1..3 {
            let slot = self.kernel.slot(node).unwrap();
            assert_same(name, &slot, &self.slots[usize::from(node)]);
        }
        kernel
    }

    fn userspace(&mut self, packet: &[u8]) -> Outcome {
        let Some(datagram) = deliver(packet).filter(|datagram| datagram.payload.len() >= 4) else {
            return Outcome::Foreign;
        };
        let Some(link) = arrival(&datagram) else { return Outcome::Foreign };
        // A socket has a link; for a frame that names another, any other will do.
        let named = datagram.payload.get(6).copied().unwrap_or(0);
        let seen = link.or(LinkId::new(if named == 7 { 6 } else { 7 })).unwrap();
        let stamp_ns = self.stamp(datagram.payload, seen);
        let config = cluster_config();
        let (windows, slots) = (&mut self.windows, &mut self.slots);
        match receive(datagram.payload, seen, &config, &self.keys, windows, slots, stamp_ns) {
            Ok(accepted) if accepted.newest => Outcome::Newest { news: accepted.news },
            Ok(_) => Outcome::Copy,
            Err(reason) => Outcome::Refused(reason),
        }
    }

    /// The kernel's stamp of the frame, so that slots can be compared whole.
    fn stamp(&mut self, payload: &[u8], link: LinkId) -> u64 {
        match payload.get(5) {
            Some(node @ 1..=2) => self.kernel.slot(*node).unwrap().links[link.index()].stamp_ns,
            Some(_) | None => 0,
        }
    }
}

fn assert_same(name: &str, kernel: &PeerSlot, userspace: &PeerSlot) {
    let head = |slot: &PeerSlot| {
        let PeerSlot { generation, incarnation, seq, heard_ns, counts_ns, acked, accepted, body_len, .. } =
            *slot;
        [generation, incarnation, seq, heard_ns, counts_ns, acked, accepted, body_len]
    };
    assert_eq!(head(kernel), head(userspace), "{name}");
    assert_eq!(kernel.links, userspace.links, "{name}");
    assert_eq!(kernel.body(), userspace.body(), "{name}");
}

/// What an XDP program of this name makes of the corpus, a classifier makes of it too.
fn corpus_has_its_verdicts(program: &'static str) {
    if skip() {
        return;
    }
    let mut pair = Pair::new(program);
    let mut seen: BTreeMap<usize, u32> = BTreeMap::new();
    for Case { name, packet, expected } in corpus() {
        assert_eq!(pair.submit(&name, &packet), expected, "{name}");
        if let Outcome::Refused(reason) = expected {
            *seen.entry(reason.index()).or_default() += 1;
        }
    }
    // The witness: the corpus has a packet for every reason there is.
    assert_eq!(seen.len(), Reject::COUNT, "{seen:?}");
}

#[test]
fn every_packet_of_the_corpus_has_its_verdict() {
    corpus_has_its_verdicts(XDP);
}

#[test]
fn every_packet_of_the_corpus_has_its_verdict_from_the_classifier() {
    corpus_has_its_verdicts(INGRESS);
}

#[test]
fn random_and_damaged_packets_have_the_same_verdict_on_both_sides() {
    same_verdict_on_both_sides(XDP);
}

#[test]
fn random_and_damaged_packets_have_the_same_verdict_from_the_classifier() {
    same_verdict_on_both_sides(INGRESS);
}

fn same_verdict_on_both_sides(program: &'static str) {
    if skip() {
        return;
    }
    let mut pair = Pair::new(program);
    let mut random = Random(0x5eed);
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for round in 0..6000 {
        let packet = random.packet(round);
        let outcome = pair.submit(&format!("round {round}: {packet:02x?}"), &packet);
        *outcomes.entry(format!("{outcome:?}")).or_default() += 1;
    }
    // The witness: all kinds of outcome came up.
    assert_eq!(outcomes.len(), 4 + Reject::COUNT, "{outcomes:?}");
    assert!(outcomes.values().all(|times| *times >= 5), "{outcomes:?}");
}

#[test]
fn without_a_configuration_everything_passes() {
    if skip() {
        return;
    }
    for program in [XDP, INGRESS] {
        let mut kernel = Kernel::unconfigured(PRODUCT, program).unwrap();
        for Case { name, packet, .. } in corpus() {
            assert_eq!(kernel.submit(&packet).unwrap(), Outcome::Foreign, "{name}");
        }
        kernel.configure().unwrap();
        let first = &corpus()[0];
        assert_eq!(
            kernel.submit(&first.packet).unwrap(),
            first.expected,
            "the witness: configured, it is heard"
        );
    }
}

#[test]
fn what_passes_and_what_is_dropped_comes_unchanged() {
    if skip() {
        return;
    }
    for program in [XDP, INGRESS] {
        let kernel = Kernel::product(program).unwrap();
        let mut verdicts = [0; 4];
        for Case { name, packet, .. } in corpus() {
            let (verdict, after) = kernel.output(&packet).unwrap();
            assert_eq!(packet, after, "{name}");
            verdicts[verdict as usize] += 1;
        }
        assert!(verdicts[DROP as usize] > 100 && verdicts[PASS as usize] > 100, "the witness: {verdicts:?}");
    }
}

#[test]
fn steady_heartbeats_tell_nothing() {
    if skip() {
        return;
    }
    let mut kernel = Kernel::new().unwrap();
    for seq in 1..=1000 {
        kernel.submit(&Packet::on(0, frame(&beat(PEER, 5, seq), 0)).bytes()).unwrap();
    }
    assert_eq!(kernel.counters().unwrap()[Counter::Accepted.index()], 1000);
    let news = kernel.take_news().unwrap();
    assert_eq!(news.len(), 1, "the first heartbeat only");
    assert_eq!(news[0].node, u32::from(PEER));
    assert!(news[0].stamp_ns <= kernel.slot(PEER).unwrap().heard_ns);
}

#[test]
fn news_that_found_the_ring_full_are_told_with_the_next_heartbeat() {
    if skip() {
        return;
    }
    let mut kernel = Kernel::new().unwrap();
    let mut seq = 0;
    let mut say = |kernel: &mut Kernel, votes_version: u32| {
        seq += 1;
        let mut beat = beat(PEER, 5, seq);
        beat.votes_version = votes_version;
        kernel.submit(&Packet::on(0, frame(&beat, 0)).bytes()).unwrap()
    };
    let lost = |kernel: &Kernel| kernel.counters().unwrap()[Counter::NewsLost.index()];
    let mut version = 0;
    while lost(&kernel) == 0 {
        version += 1;
        assert!(version < 10_000, "the ring never fills");
        assert_eq!(say(&mut kernel, version), Outcome::Newest { news: true });
    }
    assert_eq!(kernel.take_news().unwrap().len() as u32, version - 1);
    assert_eq!(say(&mut kernel, version), Outcome::Newest { news: true }, "the same content is told now");
    assert_eq!(kernel.take_news().unwrap().len(), 1);
    assert_eq!(say(&mut kernel, version), Outcome::Newest { news: false }, "and only once");
    assert_eq!(lost(&kernel), 1);
    assert_eq!(kernel.slot(PEER).unwrap().seq, u64::from(version) + 2);
}

/// A frame counts only once its incarnation has acked our present one.
#[test]
fn a_stamp_counts_once_our_incarnation_was_acked() {
    if skip() {
        return;
    }
    let mut pair = Pair::new(XDP);
    let mut submit = |change: &dyn Fn(&mut agent_common::Beat), incarnation: u64, seq: u64| {
        let mut beat = beat(PEER, incarnation, seq);
        change(&mut beat);
        let outcome = pair.submit("frame", &Packet::on(0, frame(&beat, 0)).bytes());
        assert!(matches!(outcome, Outcome::Newest { .. }));
        let slot = pair.kernel.slot(PEER).unwrap();
        assert!(slot.heard_ns > 0);
        assert!(slot.counts_ns == 0 || slot.counts_ns == slot.heard_ns);
        (slot.counts_ns != 0, slot.acked != 0)
    };
    let none = |beat: &mut agent_common::Beat| beat.acked = agent_common::NodeSet::EMPTY;
    let stale = |beat: &mut agent_common::Beat| beat.acks[0].incarnation -= 1;
    assert_eq!(submit(&none, 5, 1), (false, false));
    assert_eq!(submit(&stale, 5, 2), (false, false));
    assert_eq!(submit(&|_| {}, 5, 3), (true, true));
    assert_eq!(submit(&none, 5, 4), (true, true), "once acked, it stays so for this incarnation");
    assert_eq!(submit(&none, 6, 1), (false, false), "the next one has to ack again");
    assert_eq!(submit(&|_| {}, 6, 2), (true, true));
}

/// The newest frame with our own id is kept with where it came from; of our own life the highest, and apart.
#[test]
fn who_uses_our_id_is_noted() {
    if skip() {
        return;
    }
    for program in [XDP, INGRESS] {
        let mut kernel = Kernel::product(program).unwrap();
        let mut say = |incarnation, seq, link| {
            let packet = Packet::on(link, frame(&beat(ME, incarnation, seq), link));
            assert_eq!(kernel.submit(&packet.bytes()).unwrap(), Outcome::Refused(Reject::OwnNode));
            let known =
                |rival: Rival| (rival.incarnation, rival.seq, rival.address(), rival.link, rival.frames);
            let [ours, another] = [Rival::OURS, Rival::ANOTHER].map(|kind| kernel.rival(kind).unwrap());
            assert!(ours.generation & 1 == 0 && another.generation & 1 == 0);
            assert_eq!(another.ifindex, if another.frames > 0 { INTERFACE } else { 0 });
            (known(ours), known(another))
        };
        let v4 = Some("10.0.0.2".parse().unwrap());
        let v6 = Some("fd00::2".parse().unwrap());
        let none = (0, 0, None, 0, 0);
        assert_eq!(say(OURS, 50, 0), ((OURS, 50, v4, 0, 1), none));
        assert_eq!(say(OURS, 40, 1), ((OURS, 50, v4, 0, 2), none), "a lower one is no more than we sent");
        assert_eq!(say(OURS, 51, 1), ((OURS, 51, v6, 1, 3), none));
        assert_eq!(say(OURS + 5, 7, 1), ((OURS, 51, v6, 1, 3), (OURS + 5, 7, v6, 1, 1)));
        assert_eq!(say(OURS - 5, 3, 3), ((OURS, 51, v6, 1, 3), (OURS - 5, 3, v4, 3, 2)), "the newest");
        let mut forged = frame(&beat(ME, OURS + 9, 1), 0);
        forged[130] ^= 1;
        kernel.submit(&Packet::on(0, forged).bytes()).unwrap();
        assert_eq!(kernel.rival(Rival::ANOTHER).unwrap().incarnation, OURS - 5, "forged ones are not noted");
        let mut tagged = Packet::on(0, frame(&beat(ME, OURS + 6, 1), 0));
        (tagged.tags, tagged.options) = (vec![0x88a8, 0x8100], 10);
        kernel.submit(&tagged.bytes()).unwrap();
        assert_eq!(kernel.rival(Rival::ANOTHER).unwrap().address(), v4, "under tags and before options");
    }
}

#[test]
fn a_slot_reads_the_same_from_mapped_memory() {
    if skip() {
        return;
    }
    let mut kernel = Kernel::new().unwrap();
    kernel.submit(&Packet::on(0, frame(&beat(PEER, 5, 7), 0)).bytes()).unwrap();
    let expected = kernel.slot(PEER).unwrap();
    let fd = kernel.map_data(name::SLOTS).unwrap().fd();
    let len = std::num::NonZeroUsize::new(size_of::<Slots>()).unwrap();
    let flags = nix::sys::mman::MapFlags::MAP_SHARED;
    // SAFETY: a new mapping, which nothing else in this process refers to.
    let mapped =
        unsafe { nix::sys::mman::mmap(None, len, nix::sys::mman::ProtFlags::PROT_READ, flags, fd, 0) };
    let slots = mapped.unwrap().cast::<PeerSlot>();
    let mut slot = PeerSlot::EMPTY;
    // SAFETY: the mapping holds 32 slots.
    let peer = unsafe { slots.add(usize::from(PEER)) };
    // SAFETY: mapped, and aligned to a page and multiples of eight.
    unsafe { read_slot(peer.as_ptr(), &mut slot) }.unwrap();
    assert_same("mapped", &slot, &expected);
    assert_eq!(slot.seq, 7);
}

/// Two processors get the same numbers, shuffled in small groups: each number is accepted exactly once.
#[test]
fn two_processors_never_accept_a_number_twice() {
    if skip() {
        return;
    }
    const NUMBERS: u64 = 24_000;
    let mut kernel = Kernel::new().unwrap();
    let packets: Vec<Vec<u8>> =
        (1..=NUMBERS).map(|seq| Packet::on(0, frame(&beat(PEER, 5, seq), 0)).bytes()).collect();
    let (shared, packets, arrived) = (&kernel, &packets, &AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                pin(thread);
                for (group, numbers) in (0u64..).zip(packets.chunks(32)) {
                    // Together, but each begins with the other's second half: most of the time both hold a number
                    // that is new, and both records overlap.
                    let mut order: Vec<&Vec<u8>> = numbers.iter().collect();
                    Random(group).shuffle(&mut order);
                    order.rotate_left(16 * thread);
                    meet(arrived, 2 * (group as usize + 1));
                    for packet in order {
                        assert_eq!(shared.run(packet, 1).unwrap().0, DROP);
                    }
                }
            });
        }
    });
    let counters = kernel.counters().unwrap();
    let accepted = counters[Counter::Accepted.index()] + counters[Counter::Copies.index()];
    let refused = counters[Reject::Duplicate.index()] + counters[Reject::TooOld.index()];
    assert_eq!(accepted, NUMBERS, "of {NUMBERS} numbers submitted twice");
    assert_eq!(refused, NUMBERS);
    let slot = kernel.slot(PEER).unwrap();
    assert_eq!((slot.seq, slot.accepted), (NUMBERS, counters[Counter::Accepted.index()]));
    assert_eq!(slot.generation, 2 * NUMBERS, "a writer at a time");
    let link: LinkSlot = slot.links[0];
    assert_eq!((link.seq, link.frames, link.first_seq), (NUMBERS, NUMBERS, 1));
}

/// Puts this thread on the n-th processor that it may use; with one only, nothing overlaps and the test proves less.
fn pin(n: usize) {
    use nix::{
        sched::{CpuSet, sched_getaffinity, sched_setaffinity},
        unistd::Pid,
    };
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).unwrap();
    let usable: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap()).collect();
    let mut one = CpuSet::new();
    one.set(usable[n % usable.len()]).unwrap();
    sched_setaffinity(this, &one).unwrap();
}

/// Waits until `all` have arrived.
fn meet(arrived: &AtomicUsize, all: usize) {
    arrived.fetch_add(1, Ordering::AcqRel);
    let mut spins = 0;
    while arrived.load(Ordering::Acquire) < all {
        spins += 1;
        if spins % 10_000 == 0 {
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// A heartbeat, more or less: often right, often damaged somewhere, sometimes noise.
    fn packet(&mut self, round: u64) -> Vec<u8> {
        let link = [0, 1, 3, 0, 1, 3, 0, 2][self.below(8) as usize];
        let node = [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1, 0, 3][self.below(16) as usize];
        let mut beat = beat(node, 5 + round / 500 - self.below(10) / 9, 1 + round % 500 + self.below(100));
        beat.votes_version = (self.below(16) / 15) as u32;
        beat.has_claims = self.below(4) == 0;
        let groups = self.below(65) as usize;
        for claim in beat.claims.iter_mut().take(groups) {
            *claim = agent_common::Claim { epoch: 1, candidate: 1, flags: 0 };
        }
        if self.below(4) == 0 {
            let nodes = agent_common::NodeSet(self.next() as u32);
            beat.echo = Some(agent_common::Echo { link: LinkId::FIRST, nodes, delay_ns: [1; MAX_NODES] });
        }
        if self.below(4) == 0 {
            let name = "n".repeat(1 + self.below(63) as usize);
            beat.name = agent_common::Name::new(&name).unwrap();
        }
        let mut payload = frame(&beat, link);
        if self.below(4) == 0 {
            // Not the upper half of the incarnation: no later one would be heard any more.
            let place = (20 + self.below(payload.len() as u64 - 16)) as usize % (payload.len() - 16);
            let value = self.next() as u8;
            payload = resigned(payload, |body| {
                if !(16..24).contains(&place) {
                    body[place] = value
                }
            });
        }
        if self.below(8) == 0 {
            let place = 60 + self.below(payload.len() as u64 - 60) as usize;
            payload = screened(payload, |frame| frame[place] ^= 1);
        }
        if self.below(20) == 0 {
            payload.truncate(self.below(payload.len() as u64) as usize);
        }
        let mut packet = Packet::on(if self.below(16) == 0 { self.below(4) as u8 } else { link }, payload);
        packet.tags = vec![0x8100; (self.below(8) / 5) as usize];
        packet.padding = (self.below(8) / 7 * 9) as usize;
        let mut bytes = packet.bytes();
        if self.below(3) == 0 {
            for _ in 0..=self.below(3) {
                // Nearer to the start, where the meaning is.
                let place = self.below(bytes.len() as u64).min(self.below(bytes.len() as u64)) as usize;
                bytes[place] = self.next() as u8;
            }
        }
        if self.below(30) == 0 {
            bytes.truncate(14 + self.below(bytes.len() as u64 - 14) as usize);
        }
        bytes
    }
}
