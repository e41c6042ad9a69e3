//! What the rt thread's side passes on, and what not; and up to when it has heard everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use agent_common::ids::MAX_LINKS;
use agent_common::maps::{ClusterConfig, KeyState};
use agent_common::wire::{FRAME_MAX, encode};
use agent_common::{Beat, KeyId, LinkId, NodeId, NodeState, Reject};
use agent_core::Instant;

use super::super::{Frame, Heard, NOT_READING, Order, ROOM, Shared, event};
use super::{Ends, LinkLines, NEIGHBOUR_FOR, READING_MAX};
use crate::bridge::Keyring;
use crate::io::paths::Sent;
use crate::io::receiver::Receiver;
use crate::stats::Stats;

const CLUSTER: u32 = 7;
const NOW: Instant = Instant(100_000_000_000);
/// Five nodes and one more.
const HOPS: u8 = 6;

fn node(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

/// The serial link: the second of the configuration.
fn link() -> LinkId {
    LinkId::new(1).unwrap()
}

fn key() -> KeyState {
    KeyState::from_secret(&[7; 32])
}

/// Node 0 of five, with three lines on one link, and the serial thread's ends.
struct Lab {
    ends: Ends,
    receiver: Receiver,
    stats: Stats,
    heard: rtrb::Producer<Heard>,
    orders: rtrb::Consumer<Order>,
    shared: Arc<Shared>,
}

impl Lab {
    fn new() -> Self {
        let (orders_in, orders) = rtrb::RingBuffer::new(ROOM);
        let (heard, heard_out) = rtrb::RingBuffer::new(ROOM);
        let shared =
            Arc::new(Shared { ready: AtomicU32::new(0), reading_since: AtomicU64::new(NOT_READING) });
        let mut links = [LinkLines::default(); MAX_LINKS];
        links[1] = LinkLines { lines: 0b111, hops: HOPS };
        let (orders_ready, heard_ready) = (Arc::new(event().unwrap()), Arc::new(event().unwrap()));
        let ends = Ends::new(links, orders_in, orders_ready, heard_out, heard_ready, Arc::clone(&shared));
        let mut states = vec![KeyState::default(); 256];
        states[1] = key();
        let keyring = Keyring { sign_with: KeyId::new(1).unwrap(), states };
        let config = ClusterConfig {
            cluster: CLUSTER,
            nodes: 0b11111,
            incarnation: 9,
            deadtime_max_us: 1_000_000,
            me: 0,
        };
        let receiver = Receiver::new(config, &keyring);
        Self { ends, receiver, stats: Stats::default(), heard, orders, shared }
    }

    /// A frame is read from a line; the orders that come of it, as lines and hops.
    fn hear(&mut self, line: u8, hops: u8, heartbeat: &[u8], at: Instant) -> Vec<(u32, u8)> {
        let frame = Frame::new(heartbeat).unwrap();
        assert!(self.heard.push(Heard { at, link: link(), line, hops, frame }).is_ok());
        assert_eq!(self.ends.drain(&mut self.receiver, at, &self.stats), at);
        self.orders(heartbeat)
    }

    fn orders(&mut self, heartbeat: &[u8]) -> Vec<(u32, u8)> {
        let mut orders = Vec::new();
        while let Ok(order) = self.orders.pop() {
            assert_eq!(order.frame.bytes(), heartbeat);
            orders.push((order.lines, order.hops));
        }
        orders
    }

    fn refused(&self, reason: Reject) -> u64 {
        self.stats.socket_counter(reason.index())
    }
}

fn heartbeat(from: u8, seq: u64) -> Vec<u8> {
    let beat = Beat {
        incarnation: 5,
        seq,
        sent_ns: 1,
        deadtime_us: 500_000,
        state: NodeState::Up,
        ..Beat::empty(node(from))
    };
    let mut frame = [0; FRAME_MAX];
    let length = encode(&beat, link(), 100_000, CLUSTER, KeyId::new(1).unwrap(), &key(), &mut frame);
    frame[..length].to_vec()
}

#[test]
fn a_heartbeat_goes_out_of_the_other_lines_once() {
    let mut lab = Lab::new();
    let first = heartbeat(2, 1);
    assert_eq!(lab.hear(0, 4, &first, NOW), [(0b110, 3)]);
    // Round the ring it comes again, from the other side and from the same.
    assert_eq!(lab.hear(1, 3, &first, NOW), []);
    assert_eq!(lab.hear(0, 4, &first, NOW), []);
    assert_eq!(lab.refused(Reject::Duplicate), 2);
    // The next may come the other way round first.
    assert_eq!(lab.hear(1, 3, &heartbeat(2, 2), NOW), [(0b101, 2)]);
}

#[test]
fn nothing_goes_to_the_node_that_it_is_of() {
    let mut lab = Lab::new();
    // All its hops left: node 1 is at the other end of line 0.
    assert_eq!(lab.hear(0, HOPS, &heartbeat(1, 1), NOW), [(0b110, HOPS - 1)]);
    assert_eq!(lab.hear(1, HOPS - 2, &heartbeat(1, 2), NOW), [(0b100, HOPS - 3)]);
    assert_eq!(lab.hear(1, HOPS - 2, &heartbeat(3, 1), NOW), [(0b101, HOPS - 3)], "others do");
    // The cable leads elsewhere now: who was there is believed to be for a while.
    let later = NOW.after(NEIGHBOUR_FOR + Duration::from_secs(1));
    assert_eq!(lab.hear(1, HOPS - 2, &heartbeat(1, 3), later), [(0b101, HOPS - 3)]);
    // What a line made of the hops is no more than there can be.
    assert_eq!(lab.hear(2, 255, &heartbeat(4, 1), later), [(0b011, HOPS - 1)]);
}

#[test]
fn a_frame_ends_when_its_hops_are_used_up() {
    let mut lab = Lab::new();
    assert_eq!(lab.hear(0, 2, &heartbeat(2, 1), NOW), [(0b110, 1)]);
    assert_eq!(lab.hear(0, 1, &heartbeat(2, 2), NOW), []);
    assert_eq!(lab.hear(0, 0, &heartbeat(2, 3), NOW), []);
    assert_eq!(lab.stats.lines[0].dropped.load(Ordering::Relaxed), 2);
    assert!(lab.receiver.slot(node(2)).is_some_and(|slot| slot.seq == 3), "heard all the same");
}

#[test]
fn only_what_is_authentic_and_of_others_is_passed_on() {
    let mut lab = Lab::new();
    let mut forged = heartbeat(2, 1);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(lab.hear(0, 4, &forged, NOW), []);
    assert_eq!(lab.refused(Reject::Screen), 1);
    assert_eq!(lab.hear(0, 4, &heartbeat(0, 1), NOW), []);
    assert_eq!(lab.stats.lines[0].returned.load(Ordering::Relaxed), 1);
    // The same heartbeat, signed for another link.
    let mut moved = heartbeat(2, 1);
    moved[agent_common::wire::at::LINK] = 0;
    assert_eq!(lab.hear(0, 4, &moved, NOW), []);
    assert_eq!(lab.refused(Reject::Link), 1);
    assert_eq!(lab.hear(0, 4, &heartbeat(2, 1), NOW), [(0b110, 3)]);
}

#[test]
fn what_is_being_read_is_not_heard_yet() {
    let mut lab = Lab::new();
    let now = |lab: &mut Lab, at| lab.ends.drain(&mut lab.receiver, at, &lab.stats);
    assert_eq!(now(&mut lab, NOW), NOW);
    lab.shared.reading_since.store(NOW.0, Ordering::SeqCst);
    assert_eq!(now(&mut lab, NOW.after(Duration::from_millis(5))), NOW);
    // A thread that hangs keeps nobody alive.
    let late = NOW.after(READING_MAX + Duration::from_millis(1));
    assert_eq!(now(&mut lab, late), late);
    lab.shared.reading_since.store(NOT_READING, Ordering::SeqCst);
    assert_eq!(now(&mut lab, late), late);
}

#[test]
fn a_heartbeat_is_sent_where_a_line_can_take_it() {
    let mut lab = Lab::new();
    let own = heartbeat(0, 1);
    assert!(lab.ends.usable(link()) && !lab.ends.usable(LinkId::new(0).unwrap()));
    assert_eq!(lab.ends.send(link(), &own, &lab.stats), Sent::None, "no line is open");
    assert_eq!(lab.stats.send_failed[1].load(Ordering::Relaxed), 1);
    lab.shared.ready.store(0b100, Ordering::Relaxed);
    assert_eq!(lab.ends.send(link(), &own, &lab.stats), Sent::Some);
    assert_eq!(lab.orders(&own), [(0b111, HOPS), (0b111, HOPS)]);
    // Nobody takes the orders.
    while lab.ends.send(link(), &own, &lab.stats) == Sent::Some {}
    assert_eq!(lab.stats.dropped.load(Ordering::Relaxed), 1);
    assert_eq!(lab.orders(&own).len(), ROOM);
}
