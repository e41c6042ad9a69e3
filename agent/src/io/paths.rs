//! The UDP links as they are on this machine: which socket a link sends from, to whom, and what its frames bear as
//! destination when they arrive here. Made for an interface when it comes; sending allocates nothing.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use agent_common::LinkId;
use agent_common::ids::MAX_LINKS;
use agent_core::Instant;
use nix::sys::socket::SockaddrStorage;

use super::channel::{Channel, ChannelError, Place, socket_address, unspecified};
use super::interface::Interface;
use crate::settings::{Cast, NetworkLink, ReceiveMode, Settings};
use crate::stats::Stats;

/// Where frames of one link arrive on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The link.
    pub link: LinkId,
    /// Interface.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// UDP port.
    pub port: u16,
    /// Destination address: own, broadcast, or the group.
    pub destination: IpAddr,
}

/// Why a link cannot be used now; the others go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The interface is not there.
    #[error("there is no interface {0}: the link is down (compare `ip link`)")]
    NoInterface(String),
    /// No IPv4 broadcast address.
    #[error(
        "interface {0} has no IPv4 broadcast address: the link is down (give it an address with a broadcast address)"
    )]
    NoBroadcast(String),
    /// This node is not among the link's peers.
    #[error("this node has no address on the link")]
    NotOnLink,
    /// The socket.
    #[error("its socket could not be made: {0}")]
    Socket(#[from] ChannelError),
}

impl PathError {
    /// Whether more privilege would have helped.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Socket(error) => error.is_denied(),
            Self::NoInterface(_) | Self::NoBroadcast(_) | Self::NotOnLink => false,
        }
    }
}

impl Arrival {
    /// Where frames of `link` arrive, given its interface.
    ///
    /// # Errors
    /// The link cannot be used.
    pub fn of(
        id: LinkId,
        link: &NetworkLink,
        settings: &Settings,
        interface: Option<&Interface>,
    ) -> Result<Self, PathError> {
        let interface = interface.ok_or_else(|| PathError::NoInterface(link.interface.clone()))?;
        let destination = match &link.cast {
            Cast::Unicast { addresses } => {
                addresses.get(settings.me.index()).copied().flatten().ok_or(PathError::NotOnLink)?
            }
            Cast::Broadcast => {
                let broadcast = interface.broadcast();
                IpAddr::V4(broadcast.ok_or_else(|| PathError::NoBroadcast(link.interface.clone()))?)
            }
            Cast::Multicast { group, .. } => *group,
        };
        let index = interface.index;
        Ok(Self { link: id, interface: link.interface.clone(), index, port: link.port, destination })
    }

    fn place(&self, cast: &Cast) -> Place {
        let local = match cast {
            Cast::Unicast { .. } => self.destination,
            Cast::Broadcast | Cast::Multicast { .. } => unspecified(self.destination),
        };
        Place { interface: self.interface.clone(), index: self.index, local, port: self.port }
    }
}

/// One link, ready to send.
struct Path {
    channel: usize,
    to: Vec<SockaddrStorage>,
}

/// A socket with the links whose frames may arrive on it.
pub struct Socket {
    /// The socket.
    pub channel: Channel,
    /// Whether it receives (no program does on its interface).
    pub receives: bool,
    /// The links.
    pub arrivals: Vec<Arrival>,
    /// Everything that arrived before has been read.
    pub read_until: Instant,
    place: Place,
}

/// The sockets on one interface, and the links that use them. Made and dropped outside of the rt thread.
pub struct Part {
    sockets: Vec<Socket>,
    paths: [Option<Path>; MAX_LINKS],
}

/// All links: a part for each interface that has some, in the order of [`Settings::link_interfaces`].
pub struct Paths {
    parts: [Option<Box<Part>>; MAX_LINKS],
}

/// What became of one sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took at least one copy.
    Some,
    /// The kernel took none.
    None,
}

impl Part {
    /// Opens the sockets of `arrivals`, which are all of one interface that receives by `mode`; a link that fails is left
    /// out and named.
    pub fn open(
        settings: &Settings,
        arrivals: &[Arrival],
        mode: ReceiveMode,
    ) -> (Self, Vec<(LinkId, PathError)>) {
        let mut part = Self { sockets: Vec::new(), paths: std::array::from_fn(|_| None) };
        let mut errors = Vec::new();
        let places: Vec<Place> = arrivals
            .iter()
            .filter_map(|arrival| Some(arrival.place(&network_of(settings, arrival)?.cast)))
            .collect();
        for arrival in arrivals {
            let Some(link) = network_of(settings, arrival) else { continue };
            let receives = mode == ReceiveMode::Socket;
            if let Err(error) = part.open_link(settings, link, arrival, receives, &places) {
                errors.push((arrival.link, error));
            }
        }
        (part, errors)
    }

    fn open_link(
        &mut self,
        settings: &Settings,
        link: &NetworkLink,
        arrival: &Arrival,
        receives: bool,
        places: &[Place],
    ) -> Result<(), PathError> {
        let place = arrival.place(&link.cast);
        let known = self.sockets.iter().position(|socket| socket.place == place);
        let channel = match known {
            Some(known) => known,
            None => {
                let shared = places.iter().any(|other| overlap(other, &place));
                let channel = Channel::open(&place, receives, shared)?;
                let (arrivals, read_until) = (Vec::new(), Instant::ZERO);
                self.sockets.push(Socket { channel, receives, arrivals, read_until, place });
                self.sockets.len() - 1
            }
        };
        let Some(socket) = self.sockets.get_mut(channel) else { return Ok(()) };
        if let Cast::Multicast { group, ttl } = &link.cast {
            socket.channel.join(*group, *ttl)?;
        }
        socket.arrivals.push(arrival.clone());
        let to = destinations(settings, link, arrival);
        if let Some(path) = self.paths.get_mut(arrival.link.index()) {
            *path = Some(Path { channel, to });
        }
        Ok(())
    }

    /// The links that can be used, a bit for each.
    pub fn usable(&self) -> u8 {
        LinkId::all().filter(|link| self.has(*link)).fold(0, |links, link| links | 1 << link.raw())
    }

    /// The sockets that receive.
    pub fn receiving(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().filter(|socket| socket.receives)
    }

    fn has(&self, link: LinkId) -> bool {
        self.paths.get(link.index()).is_some_and(Option::is_some)
    }

    fn path(&self, link: LinkId) -> Option<(&Path, &Socket)> {
        let path = self.paths.get(link.index())?.as_ref()?;
        Some((path, self.sockets.get(path.channel)?))
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| None) }
    }
}

impl Paths {
    /// Puts the part of the interface at `place` in, or takes it away; returns the one before.
    pub fn put(&mut self, place: usize, part: Option<Box<Part>>) -> Option<Box<Part>> {
        match self.parts.get_mut(place) {
            Some(known) => std::mem::replace(known, part),
            None => part,
        }
    }

    /// Whether the link can be used at all.
    pub fn usable(&self, link: LinkId) -> bool {
        self.parts.iter().flatten().any(|part| part.has(link))
    }

    /// The sockets that receive.
    pub fn receiving(&self) -> impl Iterator<Item = &Socket> {
        self.parts.iter().flatten().flat_map(|part| part.receiving())
    }

    /// The same, to read from.
    pub fn receiving_mut(&mut self) -> impl Iterator<Item = &mut Socket> {
        let sockets = self.parts.iter_mut().flatten().flat_map(|part| part.sockets.iter_mut());
        sockets.filter(|socket| socket.receives)
    }

    /// Sends one frame to every destination of `link`, counting each.
    pub fn send(&self, link: LinkId, frame: &[u8], stats: &Stats) -> Sent {
        let found = self.parts.iter().flatten().find_map(|part| part.path(link));
        let Some((path, socket)) = found else { return Sent::None };
        let (mut taken, mut refused) = (0, 0);
        for to in &path.to {
            match socket.channel.send(frame, to) {
                Ok(()) => taken += 1,
                Err(_) => refused += 1,
            }
        }
        if let Some(count) = stats.sent.get(link.index()) {
            count.fetch_add(taken, Ordering::Relaxed);
        }
        if refused > 0
            && let Some(count) = stats.send_failed.get(link.index())
        {
            count.fetch_add(refused, Ordering::Relaxed);
        }
        if taken > 0 || path.to.is_empty() { Sent::Some } else { Sent::None }
    }
}

/// Two sockets of this agent that the kernel would not let be bound beside each other.
fn overlap(one: &Place, other: &Place) -> bool {
    one != other
        && one.port == other.port
        && one.index == other.index
        && one.local.is_ipv4() == other.local.is_ipv4()
        && (one.local.is_unspecified() || other.local.is_unspecified())
}

fn network_of<'s>(settings: &'s Settings, arrival: &Arrival) -> Option<&'s NetworkLink> {
    settings.links.get(arrival.link.index())?.network()
}

fn destinations(settings: &Settings, link: &NetworkLink, arrival: &Arrival) -> Vec<SockaddrStorage> {
    let to = |address: IpAddr| socket_address(address, link.port, arrival.index);
    match &link.cast {
        Cast::Unicast { addresses } => {
            let peers = addresses.iter().enumerate().filter(|(node, _)| *node != settings.me.index());
            peers.filter_map(|(_, address)| address.map(to)).collect()
        }
        Cast::Broadcast | Cast::Multicast { .. } => vec![to(arrival.destination)],
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, overlap};

    #[test]
    fn unicast_and_broadcast_of_one_interface_and_port_overlap() {
        let place = |local: &str, index, port| Place {
            interface: "eth0".to_owned(),
            index,
            local: local.parse().expect("an address"),
            port,
        };
        let any = place("0.0.0.0", 2, 694);
        assert!(overlap(&any, &place("10.0.0.1", 2, 694)));
        assert!(!overlap(&any, &any.clone()), "the same socket serves both links");
        assert!(!overlap(&any, &place("10.0.0.1", 3, 694)));
        assert!(!overlap(&any, &place("10.0.0.1", 2, 695)));
        assert!(!overlap(&any, &place("fe80::1", 2, 694)));
        assert!(!overlap(&place("10.0.0.2", 2, 694), &place("10.0.0.1", 2, 694)));
    }
}
