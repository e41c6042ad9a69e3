//! The kernel's neighbour entries of the peers, once an interface carries again. Without a carrier the kernel forgets whom
//! it had resolved; heartbeats go on leaving, so each peer gets an entry that waits for an answer, and is asked for again
//! only a second (`retrans_time`) after the last question. An entry without an answer is taken away: the next heartbeat asks.

use std::net::IpAddr;
use std::time::Duration;

use agent_core::Instant;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use tracing::{debug, warn};

use crate::settings::{Cast, LinkSettings, Settings};
use crate::takeover::message::Message;
use crate::takeover::netlink::{RequestError, Requests};

/// A switch may forward nothing yet when the carrier is back, and a peer may get its own a moment later: looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Looks after a carrier is back. What is not resolved then is asked for as the kernel does it.
const LOOKS: u8 = 15;
/// Entries whose question has no answer.
const UNANSWERED: [NeighbourState; 2] = [NeighbourState::Incomplete, NeighbourState::Failed];

/// The peers that are to be resolved anew.
pub struct Neighbours {
    requests: Option<Requests>,
    waiting: Vec<Waiting>,
}

/// Those on one interface.
struct Waiting {
    index: u32,
    peers: Vec<IpAddr>,
    looks_left: u8,
    look_at: Instant,
}

impl Neighbours {
    /// Opens a socket for it. Without one the kernel asks when it does.
    pub fn open() -> Self {
        let requests = Requests::open()
            .inspect_err(|errno| {
                warn!("peers may be heard a second late after a cut: no route socket: {errno}")
            })
            .ok();
        Self { requests, waiting: Vec::new() }
    }

    /// The interface with `index` carries again: `peers` are asked for at once, and until they are resolved, for a while.
    pub fn ask_anew(&mut self, index: u32, peers: Vec<IpAddr>, now: Instant) {
        self.forget(index);
        if !peers.is_empty() {
            self.waiting.push(Waiting { index, peers, looks_left: LOOKS, look_at: now });
        }
        self.look(now);
    }

    /// It does not carry any more.
    pub fn forget(&mut self, index: u32) {
        self.waiting.retain(|waiting| waiting.index != index);
    }

    /// When to look next.
    pub fn due(&self) -> Instant {
        self.waiting.iter().map(|waiting| waiting.look_at).min().unwrap_or(Instant::NEVER)
    }

    /// Looks where it is time to.
    pub fn look(&mut self, now: Instant) {
        let Some(requests) = &mut self.requests else {
            self.waiting.clear();
            return;
        };
        self.waiting.retain_mut(|waiting| {
            if waiting.look_at > now {
                return true;
            }
            waiting.looks_left = waiting.looks_left.saturating_sub(1);
            waiting.look_at = now.after(LOOK_AGAIN);
            match waiting.look(requests) {
                Ok(resolved) => resolved < waiting.peers.len() && waiting.looks_left > 0,
                Err(error) => {
                    debug!("the peers on interface {} are not asked for anew: {error}", waiting.index);
                    false
                }
            }
        });
    }
}

impl Waiting {
    /// Takes the entries away that have no answer, and says how many peers have one.
    fn look(&self, requests: &mut Requests) -> Result<usize, RequestError> {
        let mut found = Vec::new();
        requests.list(&mut listing(), |message| found.extend(entry(message, self.index)))?;
        let mut resolved = 0;
        for peer in &self.peers {
            let Some((_, state)) = found.iter().find(|(address, _)| address == peer) else { continue };
            // One of an operator's is permanent, and none of them.
            if UNANSWERED.contains(state) {
                debug!("{peer} is asked for anew on interface {}", self.index);
                match requests.request(&mut removal(*peer, self.index)) {
                    // Gone meanwhile is as good.
                    Ok(()) | Err(RequestError::Refused(Errno::ENOENT)) => {}
                    Err(error) => return Err(error),
                }
            } else if *state != NeighbourState::None {
                resolved += 1;
            }
        }
        Ok(resolved)
    }
}

/// The peers of the unicast links on an interface. Who is spoken to by broadcast or multicast needs no entry.
pub fn peers(settings: &Settings, interface: &str) -> Vec<IpAddr> {
    let mut peers = Vec::new();
    let links = settings.links.iter().filter_map(LinkSettings::network);
    for link in links.filter(|link| link.interface == interface && link.cast.reaches(settings.me)) {
        match &link.cast {
            Cast::Unicast { addresses } => {
                let me = settings.me.index();
                let others = addresses.iter().enumerate().filter(|(node, _)| *node != me);
                peers.extend(others.filter_map(|(_, address)| *address));
            }
            Cast::Broadcast | Cast::Multicast { .. } => {}
        }
    }
    // Two links on other ports may go to the same address.
    peers.sort_unstable();
    peers.dedup();
    peers
}

/// Lists the entries of all interfaces and both families: older kernels cannot be asked for those of one.
fn listing() -> Message {
    Message::build(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), NLM_F_DUMP)
}

/// Takes the entry of an address away.
fn removal(address: IpAddr, index: u32) -> Message {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(address.into())];
    Message::build(RouteNetlinkMessage::DelNeighbour(message), NLM_F_ACK)
}

/// Of a listed entry on the interface: whose it is, and what is known.
fn entry(message: &RouteNetlinkMessage, index: u32) -> Option<(IpAddr, NeighbourState)> {
    let RouteNetlinkMessage::NewNeighbour(found) = message else { return None };
    let address = found.attributes.iter().find_map(|attribute| {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) = attribute {
            Some(IpAddr::V4(*v4))
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) = attribute {
            Some(IpAddr::V6(*v6))
        } else {
            None
        }
    })?;
    (found.header.ifindex == index).then_some((address, found.header.state))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, UdpSocket};
    use std::process::Command;
    use std::time::Duration;

    use agent_core::Instant;
    use netlink_packet_route::neighbour::NeighbourState;
    use nix::sched::{CloneFlags, unshare};

    use super::{LOOKS, Neighbours, entry, listing, peers, removal};
    use crate::config;
    use crate::takeover::netlink::Requests;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_removal_names_interface_and_address() {
        let mut message = removal(address("10.0.0.2"), 7);
        let expected = [
            36, 0, 0, 0, // length
            29, 0, 0x05, 0x00, // RTM_DELNEIGH; request, ack
            0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, // sequence, port
            2, 0, 0, 0, 7, 0, 0, 0, // ndmsg: family, padding, index
            0, 0, 0, 0, // state, flags, type
            8, 0, 1, 0, 10, 0, 0, 2, // NDA_DST
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(message.with_sequence(0x1122_3344), expected);
        }
        let mut message = removal(address("fd77::2"), 7);
        let bytes = message.with_sequence(1);
        assert_eq!((bytes.len(), bytes[16]), (16 + 12 + 20, 10));
    }

    #[test]
    fn a_listing_asks_for_all_families() {
        let mut listing = listing();
        let bytes = listing.with_sequence(1);
        assert_eq!(bytes[4..6], 30u16.to_ne_bytes(), "RTM_GETNEIGH");
        assert_eq!(bytes[6..8], 0x301u16.to_ne_bytes(), "request, dump");
        assert!(bytes.len() >= 16 + 12 && bytes[16..28].iter().all(|byte| *byte == 0), "{bytes:?}");
    }

    #[test]
    fn the_peers_of_an_interface_are_those_of_its_unicast_links() {
        let text = "[cluster]\nname = \"m\"\nnode = \"b\"\n[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n\
                    [[node]]\nname = \"c\"\n\
                    [[link]]\ntype = \"ucast\"\ninterface = \"eth0\"\n\
                    peers = { a = \"10.0.0.1\", b = \"10.0.0.2\", c = \"10.0.0.3\" }\n\
                    [[link]]\ntype = \"ucast\"\ninterface = \"eth1\"\n\
                    peers = { a = \"fd77::1\", b = \"fd77::2\", c = \"none\" }\n\
                    [[link]]\ntype = \"bcast\"\ninterface = \"eth2\"\n";
        let (settings, _) = config::parse("m.toml", text, "b").unwrap();
        assert_eq!(peers(&settings, "eth0"), [address("10.0.0.1"), address("10.0.0.3")]);
        assert_eq!(peers(&settings, "eth1"), [address("fd77::1")]);
        assert_eq!(peers(&settings, "eth2"), Vec::<IpAddr>::new());
        assert_eq!(peers(&settings, "eth3"), Vec::<IpAddr>::new());
    }

    /// The entries on an interface of this thread's namespace.
    fn entries(requests: &mut Requests, index: u32) -> Vec<(IpAddr, NeighbourState)> {
        let mut found = Vec::new();
        requests.list(&mut listing(), |message| found.extend(entry(message, index))).expect("a list");
        found
    }

    #[test]
    fn entries_without_an_answer_are_taken_away_and_no_others() {
        let ip = |args: &str| {
            Command::new("ip").args(args.split(' ')).status().is_ok_and(|status| status.success())
        };
        if unshare(CloneFlags::CLONE_NEWNET).is_err() || !ip("link add far type veth peer name near") {
            println!("SKIP: not permitted, or no veth");
            return;
        }
        assert!(ip("link set far up") && ip("link set near up") && ip("addr add 10.9.0.1/24 dev near"));
        assert!(ip("addr add fd79::1/64 dev near nodad"));
        assert!(ip("neigh add 10.9.0.2 dev near lladdr 02:00:00:00:00:02 nud permanent"));
        assert!(ip("neigh add 10.9.0.3 dev near lladdr 02:00:00:00:00:03 nud stale"));
        let index = nix::net::if_::if_nametoindex("near").expect("it is there");
        let (first, second) = (address("10.9.0.4"), address("fd79::4"));
        // No peer.
        let stranger = address("10.9.0.5");
        let v4 = UdpSocket::bind("10.9.0.1:0").expect("bound");
        let v6 = UdpSocket::bind("[fd79::1]:0").expect("bound");
        let send = || {
            for to in [first, stranger] {
                v4.send_to(b"heartbeat", (to, 694)).expect("sent");
            }
            v6.send_to(b"heartbeat", (second, 694)).expect("sent");
        };
        send();
        let mut requests = Requests::open().expect("a route socket");
        let state = |requests: &mut Requests, of: IpAddr| {
            entries(requests, index).into_iter().find(|(address, _)| *address == of).map(|(_, state)| state)
        };
        for waits in [first, second, stranger] {
            assert_eq!(state(&mut requests, waits), Some(NeighbourState::Incomplete), "{waits}");
        }

        let mut neighbours = Neighbours::open();
        let known = [address("10.9.0.2"), address("10.9.0.3")];
        let peers = [known[0], known[1], first, second].to_vec();
        neighbours.ask_anew(index, peers, Instant(1));
        for gone in [first, second] {
            assert_eq!(state(&mut requests, gone), None, "{gone}");
        }
        assert_eq!(state(&mut requests, known[0]), Some(NeighbourState::Permanent));
        assert_eq!(state(&mut requests, known[1]), Some(NeighbourState::Stale));
        assert_eq!(state(&mut requests, stranger), Some(NeighbourState::Incomplete), "it is nobody's peer");

        // Looked at again, until it is enough.
        let mut looks = 1;
        while neighbours.due() != Instant::NEVER {
            send();
            let at = neighbours.due();
            neighbours.look(at);
            looks += 1;
            assert_eq!(state(&mut requests, first), None, "look {looks}");
        }
        assert_eq!(looks, LOOKS);

        // Where all are resolved there is nothing to look at again; where the carrier goes, neither.
        neighbours.ask_anew(index, known.to_vec(), Instant(1));
        assert_eq!(neighbours.due(), Instant::NEVER);
        neighbours.ask_anew(index, [first].to_vec(), Instant(1));
        assert_eq!(neighbours.due(), Instant(1).after(Duration::from_millis(200)));
        neighbours.forget(index);
        assert_eq!(neighbours.due(), Instant::NEVER);
    }
}
