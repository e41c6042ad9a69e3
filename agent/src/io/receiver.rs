//! The socket path: datagrams with the kernel's receive stamps, through the validation that XDP runs, into slots of the
//! same shape in ordinary memory. Used for links on interfaces that carry no XDP program.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use agent_common::frame::SliceFrame;
use agent_common::maps::{ClusterConfig, Counter, PeerSlot};
use agent_common::rival::{self, Origin, Rivals};
use agent_common::window::{PeerWindow, Slots, Windows};
use agent_common::wire::at;
use agent_common::{Accepted, Keys, LinkId, NodeId, Reject, receive};
use agent_core::Instant;

use super::datagram::{Batch, Datagram};
use super::paths::{Arrival, Paths, Socket};
use super::stamp::{Clocks, arrival};
use crate::bridge::Keyring;
use crate::rt::clock;
use crate::stats::Stats;

/// Batches read from one socket in one go; a flood must not keep the rt thread from its own heartbeats.
const BATCHES_MAX: usize = 8;

/// The state of the socket path.
pub struct Receiver {
    config: ClusterConfig,
    keys: Box<Keys>,
    windows: Box<Windows>,
    slots: Box<Slots>,
    rivals: Rivals,
    batch: Batch,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        crate::keys::wipe(&mut *self.keys);
    }
}

impl Receiver {
    /// A receiver that has heard nothing.
    pub fn new(config: ClusterConfig, keyring: &Keyring) -> Self {
        let mut receiver = Self {
            config,
            keys: Box::new([agent_common::maps::KeyState::default(); 256]),
            windows: Box::new([PeerWindow::default(); agent_common::ids::MAX_NODES]),
            slots: Box::new([PeerSlot::EMPTY; agent_common::ids::MAX_NODES]),
            rivals: Rivals::default(),
            batch: Batch::new(),
        };
        receiver.set_keys(keyring);
        receiver
    }

    /// Uses these keys from the next datagram on.
    pub fn set_keys(&mut self, keyring: &Keyring) {
        for (place, state) in self.keys.iter_mut().zip(&keyring.states) {
            *place = *state;
        }
    }

    /// This node starts over with another incarnation.
    pub fn set_incarnation(&mut self, incarnation: u64) {
        self.config.incarnation = incarnation;
    }

    /// The slot of `node`.
    pub fn slot(&self, node: NodeId) -> Option<&PeerSlot> {
        self.slots.get(node.index())
    }

    /// The newest heartbeats with this node's own id.
    pub const fn rivals(&self) -> &Rivals {
        &self.rivals
    }

    /// Reads every receiving socket, within bounds. Returns the moment up to which nothing is left unread: datagrams
    /// are read in order of arrival, so it is that of the last one where a socket was not emptied.
    pub fn drain(&mut self, paths: &mut Paths, stats: &Stats) -> Instant {
        let mut complete = Instant::NEVER;
        for socket in paths.receiving_mut() {
            socket.read_until = self.drain_one(socket, socket.read_until, stats);
            complete = complete.min(socket.read_until);
        }
        complete
    }

    /// Takes one frame that was read from a serial line of `link` at `at`.
    ///
    /// # Errors
    /// Why it does not count; it was counted as such.
    pub fn take(
        &mut self,
        frame: &[u8],
        link: LinkId,
        at: Instant,
        stats: &Stats,
    ) -> Result<Accepted, Reject> {
        let (windows, slots) = (&mut self.windows, &mut self.slots);
        let outcome = receive(frame, link, &self.config, &self.keys, windows, slots, at.0);
        count(outcome, stats);
        let from = Origin { stamp_ns: at.0, source: [0; 4], ifindex: 0 };
        note_rival(&mut self.rivals, self.config.incarnation, frame, outcome, from);
        outcome
    }

    fn drain_one(&mut self, socket: &Socket, before: Instant, stats: &Stats) -> Instant {
        let mut until = before;
        for _ in 0..BATCHES_MAX {
            let emptied = clock::now();
            let full = self.batch.receive(socket.channel.as_fd());
            let clocks = Clocks { now: clock::now(), wall_ns: clock::wall_ns() };
            for place in 0..self.batch.len() {
                let Some(datagram) = self.batch.get(place) else { continue };
                let at = arrival(datagram.stamp_wall_ns.unwrap_or(clocks.wall_ns), clocks, before);
                until = until.max(at);
                let link = link_seen(&socket.arrivals, &datagram);
                let outcome = receive(
                    datagram.payload,
                    link,
                    &self.config,
                    &self.keys,
                    &mut self.windows,
                    &mut self.slots,
                    at.0,
                );
                count(outcome, stats);
                let from = Origin {
                    stamp_ns: at.0,
                    source: datagram.source.map_or([0; 4], rival::source),
                    ifindex: datagram.index.unwrap_or(0),
                };
                note_rival(&mut self.rivals, self.config.incarnation, datagram.payload, outcome, from);
            }
            if !full {
                return emptied;
            }
        }
        until
    }
}

/// Keeps what was refused for nothing but this node's own id.
fn note_rival(rivals: &mut Rivals, ours: u64, frame: &[u8], outcome: Result<Accepted, Reject>, from: Origin) {
    let frame = SliceFrame(frame);
    if outcome == Err(Reject::OwnNode)
        && let Some(entry) = rivals.get_mut(rival::entry(frame, ours))
    {
        rival::note(entry, frame, ours, &from);
    }
}

/// The link that this datagram arrived on, as the kernel's program finds it: the one that it names, provided that its
/// frames arrive on this interface at this address. Otherwise any other, so that it is refused for it.
fn link_seen(arrivals: &[Arrival], datagram: &Datagram<'_>) -> LinkId {
    let named = datagram.payload.get(at::LINK).copied().unwrap_or(0);
    let fits = arrivals.iter().find(|arrival| {
        arrival.link.raw() == named
            && Some(arrival.destination) == datagram.destination
            && Some(arrival.index) == datagram.index
    });
    match fits {
        Some(arrival) => arrival.link,
        None => LinkId::all().find(|link| link.raw() != named).unwrap_or(FIRST_LINK),
    }
}

const FIRST_LINK: LinkId = match LinkId::new(0) {
    Some(link) => link,
    None => panic!("zero is below every bound"),
};

fn count(outcome: Result<Accepted, Reject>, stats: &Stats) {
    let add = |index: usize| {
        if let Some(counter) = stats.socket.get(index) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    };
    match outcome {
        Ok(accepted) => {
            add(if accepted.newest { Counter::Accepted.index() } else { Counter::Copies.index() });
            if accepted.news {
                add(Counter::News.index());
            }
        }
        Err(reason) => add(reason.index()),
    }
}

#[cfg(test)]
mod tests {
    use agent_common::LinkId;
    use agent_common::wire::at;

    use super::{Arrival, Datagram, link_seen};

    #[test]
    fn only_the_named_link_at_its_own_address_and_interface_is_seen() {
        let link = LinkId::new(3).expect("in range");
        let own: std::net::IpAddr = "10.0.0.1".parse().expect("an address");
        let arrivals =
            [Arrival { link, interface: "eth0".to_owned(), index: 2, port: 694, destination: own }];
        let mut payload = [0; 64];
        payload[at::LINK] = 3;
        let datagram = |destination, index| Datagram {
            payload: &payload,
            stamp_wall_ns: None,
            destination: Some(destination),
            index: Some(index),
            source: None,
        };
        assert_eq!(link_seen(&arrivals, &datagram(own, 2)), link);
        assert_ne!(link_seen(&arrivals, &datagram(own, 9)), link);
        let broadcast = "10.0.0.255".parse().expect("an address");
        assert_ne!(link_seen(&arrivals, &datagram(broadcast, 2)), link);
        assert_ne!(link_seen(&[], &datagram(own, 2)), link);
    }
}
