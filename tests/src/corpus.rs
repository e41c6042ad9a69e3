//! The corpus: every kind of packet that the XDP program must tell apart, in an order in which each has its verdict.
//! The state that a case relies on is what the cases before it left.

use agent_common::{
    Beat, Claim, Echo, LinkId, Name, NodeSet, Reject,
    ids::MAX_NODES,
    wire::{
        ACK_LEN, DELAY_LEN, ECHO_HEAD_LEN, HEADER_LEN, SECTION_ECHO, SECTION_NAME, SECTION_VOTES, TAG_LEN, at,
    },
};

use crate::{
    frames::{ME, OURS, PEER, Packet, beat, frame, resigned, screened},
    kernel::Outcome,
};

/// A packet and what it must come to.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is.
    pub name: String,
    /// The bytes on the wire.
    pub packet: Vec<u8>,
    /// What it must come to.
    pub expected: Outcome,
}

/// A steady heartbeat, above everything before and nothing new in it.
const NEWEST: Outcome = Outcome::Newest { news: false };
/// A heartbeat that says something new.
const NEWS: Outcome = Outcome::Newest { news: true };

/// Collects the cases and counts the sequence numbers.
struct Corpus {
    cases: Vec<Case>,
    seq: u64,
}

/// All cases in order.
pub fn corpus() -> Vec<Case> {
    let mut corpus = Corpus { cases: Vec::new(), seq: 1000 };
    corpus.order();
    corpus.headers();
    corpus.own_id();
    corpus.fields();
    corpus.authenticity();
    corpus.sections();
    corpus.echoes_and_names();
    corpus.packets();
    corpus.lengths();
    corpus.sizes();
    corpus.cases
}

impl Corpus {
    fn add(&mut self, name: impl Into<String>, packet: &Packet, expected: Outcome) {
        self.cases.push(Case { name: name.into(), packet: packet.bytes(), expected });
    }

    fn on(&mut self, name: &str, link: u8, payload: Vec<u8>, expected: Outcome) {
        self.add(name, &Packet::on(link, payload), expected);
    }

    fn refused(&mut self, name: &str, payload: Vec<u8>, reason: Reject) {
        self.on(name, 0, payload, Outcome::Refused(reason));
    }

    /// The next steady frame of the peer on link 0.
    fn next(&mut self) -> Vec<u8> {
        self.seq += 1;
        frame(&beat(PEER, 6, self.seq), 0)
    }

    /// Incarnations and sequence numbers.
    fn order(&mut self) {
        let at = |incarnation: u64, seq: u64, link: u8| frame(&beat(PEER, incarnation, seq), link);
        self.on("the first heartbeat", 0, at(5, 100, 0), NEWS);
        self.refused("the same again", at(5, 100, 0), Reject::Duplicate);
        self.on("its copy on another link", 1, at(5, 100, 1), Outcome::Copy);
        self.on("the copy again", 1, at(5, 100, 1), Outcome::Refused(Reject::Duplicate));
        self.on("the next on the other link", 1, at(5, 101, 1), NEWEST);
        self.on("its copy on the first", 0, at(5, 101, 0), Outcome::Copy);
        self.on("one that comes late", 0, at(5, 99, 0), Outcome::Copy);
        self.refused("late and again", at(5, 99, 0), Reject::Duplicate);
        self.on("the last of the window", 0, at(5, 101 - 63, 0), Outcome::Copy);
        self.refused("below the window", at(5, 101 - 64, 0), Reject::TooOld);
        self.on("on a link not heard before", 3, at(5, 3, 3), Outcome::Copy);
        self.refused("number zero", at(5, 0, 0), Reject::TooOld);
        self.refused("an earlier incarnation", at(4, 200, 0), Reject::Incarnation);
        self.refused("no incarnation", at(0, 200, 0), Reject::Incarnation);
        self.on("a jump of 63", 0, at(5, 164, 0), NEWEST);
        self.refused("seen before the jump", at(5, 101, 0), Reject::Duplicate);
        self.on("a jump of 64", 0, at(5, 228, 0), NEWEST);
        self.on("not seen before the jump", 0, at(5, 165, 0), Outcome::Copy);
        self.on("a far jump", 0, at(5, 5000, 0), NEWEST);
        self.on("a higher incarnation", 0, at(6, 1, 0), NEWS);
        self.refused("the lower one's next", at(5, 5001, 0), Reject::Incarnation);
        self.on("the higher one's next", 1, at(6, 2, 1), NEWEST);
        self.on("another node", 0, frame(&beat(2, 9, 1), 0), NEWS);
    }

    /// What one change of the header makes of a frame, signed again.
    fn headers(&mut self) {
        let mut change = |name: &str, place: usize, bytes: &[u8], reason: Reject| {
            let frame = resigned(self.next(), |body| body[place..place + bytes.len()].copy_from_slice(bytes));
            self.refused(name, frame, reason);
        };
        change("no magic", 0, b"ABC", Reject::Magic);
        change("half a magic", 2, b"X", Reject::Magic);
        change("version 0", 3, &[0], Reject::Version);
        change("version 2", 3, &[2], Reject::Version);
        change("another cluster", at::CLUSTER, &[1, 2, 3, 4], Reject::Cluster);
        change("a node that is not configured", at::NODE, &[3], Reject::Node);
        change("a node beyond all", at::NODE, &[32], Reject::Node);
        change("a node far beyond", at::NODE, &[255], Reject::Node);
        change("our own id", at::NODE, &[0], Reject::OwnNode);
        change("the link of another address", at::LINK, &[1], Reject::Link);
        change("the link of another interface", at::LINK, &[2], Reject::Link);
        change("a link that is not configured", at::LINK, &[5], Reject::Link);
        change("a link beyond all", at::LINK, &[8], Reject::Link);
        change("a link far beyond", at::LINK, &[255], Reject::Link);
        change("key zero", at::KEY, &[0], Reject::Key);
        change("a key that we do not have", at::KEY, &[3], Reject::Key);
        change("no keepalive", at::KEEPALIVE, &[0; 4], Reject::Timing);
        change("no deadtime", at::DEADTIME, &[0; 4], Reject::Timing);
        change("a deadtime above the bound", at::DEADTIME, &2_000_001u32.to_be_bytes(), Reject::Timing);
        change("the largest deadtime", at::DEADTIME, &[255; 4], Reject::Timing);
        let bound = resigned(self.next(), |body| {
            body[at::DEADTIME..at::DEADTIME + 4].copy_from_slice(&2_000_000u32.to_be_bytes());
        });
        self.on("a deadtime at the bound", 0, bound, NEWS);
        let back = self.next();
        self.on("and back", 0, back, NEWS);
        let other = frame(&beat(PEER, 6, self.seq + 1), 2);
        self.on("right address, other interface", 2, other, Outcome::Refused(Reject::Link));
        let swapped = frame(&beat(PEER, 6, self.seq + 1), 1);
        self.refused("sent for link 1, arrived on link 0", swapped, Reject::Link);
    }

    /// Our own id is the last thing that is looked at: any other reason goes first, and no order is kept.
    fn own_id(&mut self) {
        let own = |incarnation: u64, seq: u64, link: u8| frame(&beat(ME, incarnation, seq), link);
        self.refused("our own id and life", own(OURS, 9, 0), Reject::OwnNode);
        self.refused("the same again", own(OURS, 9, 0), Reject::OwnNode);
        self.refused("a later life of ours", own(OURS + 1, 1, 0), Reject::OwnNode);
        self.refused("an earlier one", own(OURS - 1, 500, 0), Reject::OwnNode);
        self.refused("no life at all", own(0, 0, 0), Reject::OwnNode);
        self.on("by IPv6", 1, own(OURS + 1, 2, 1), Outcome::Refused(Reject::OwnNode));
        self.refused("our id on another link", own(OURS + 1, 3, 1), Reject::Link);
        for (name, place, reason) in [
            ("our id, screen damaged", at::SCREEN, Reject::Screen),
            ("our id, seq damaged", at::SEQ, Reject::Screen),
            ("our id, tag damaged", 119 + 3, Reject::Screen),
        ] {
            let mut bad = own(OURS + 1, 4, 0);
            bad[place] ^= 1;
            self.refused(name, bad, reason);
        }
        let bad = resigned(own(OURS + 1, 4, 0), |body| body[at::SECTIONS] = 64);
        self.refused("our id, unknown sections", bad, Reject::Sections);
    }

    /// What is news and what is not.
    fn fields(&mut self) {
        let mut say = |name: &str, expected: Outcome, change: &dyn Fn(&mut Beat)| {
            self.seq += 1;
            let mut beat = beat(PEER, 6, self.seq);
            change(&mut beat);
            self.on(name, 0, frame(&beat, 0), expected);
        };
        say("nothing new", NEWEST, &|_| {});
        say("another state", NEWS, &|beat| beat.state = agent_common::NodeState::Leaving);
        say("the former state", NEWS, &|_| {});
        say("another flag", NEWS, &|beat| beat.flags = Beat::MAINTENANCE);
        say("another score", NEWS, &|beat| beat.score = 3);
        say("the former score", NEWS, &|_| {});
        say("an echo", NEWEST, &|beat| beat.echo = Some(echo(NodeSet(5))));
        say("a name", NEWEST, &|beat| beat.name = name("beta"));
        say("another view", NEWS, &|beat| beat.view = Some(NodeSet(4)));
        say("no view", NEWS, &|beat| beat.view = None);
        say("another version of the votes", NEWS, &|beat| beat.votes_version = 1);
        say("another number of the votes", NEWS, &|beat| beat.vote_number = 1);
        say("another deadtime", NEWS, &|beat| beat.deadtime_us = 60_000);
        say("all as before", NEWS, &|_| {});
        say("another send time", NEWEST, &|beat| beat.sent_ns = 1);
        say("another keepalive", NEWEST, &|beat| beat.keepalive_us = 20_000);
        say("no ack any more: once acked stays acked", NEWEST, &|beat| beat.acked = NodeSet::EMPTY);
        say("an ack of an earlier life of ours", NEWEST, &|beat| beat.acks[0].incarnation = 1);
        self.seq += 10;
        let mut silent = beat(2, 10, 1);
        silent.acked = NodeSet::EMPTY;
        self.on("a life that has not acked ours", 0, frame(&silent, 0), NEWS);
        self.on("which then acks it", 0, frame(&beat(2, 10, 2), 0), NEWS);
    }

    /// Damage and forgery.
    fn authenticity(&mut self) {
        let good = self.next();
        for place in [at::STATE, at::FLAGS, at::SENT, at::VOTES_VERSION, at::SCREEN, at::SCREEN + 7] {
            let mut bad = good.clone();
            bad[place] ^= 1;
            self.refused(&format!("byte {place} damaged"), bad, Reject::Screen);
        }
        for place in (HEADER_LEN..good.len()).step_by(7).chain(good.len() - TAG_LEN..good.len()) {
            let mut bad = good.clone();
            bad[place] ^= 0x80;
            self.refused(&format!("byte {place} damaged"), bad.clone(), Reject::Screen);
            self.refused(&format!("byte {place} damaged, screened"), screened(bad, |_| ()), Reject::Digest);
        }
        let mut other_key = good.clone();
        other_key[at::KEY] = 2;
        self.refused("the id of another key", other_key, Reject::Screen);
        self.on("the same undamaged", 0, good, NEWEST);
    }

    /// Authentic, and malformed.
    fn sections(&mut self) {
        let mut change = |name: &str, change: &dyn Fn(&mut [u8])| {
            let frame = resigned(self.next(), change);
            self.refused(name, frame, Reject::Sections);
        };
        for unknown in [32, 64, 128] {
            change("an unknown section", &|body| body[at::SECTIONS] |= unknown);
        }
        change("more acks than there is room", &|body| body[HEADER_LEN..HEADER_LEN + 4].fill(255));
        change("acks that leave no room for the view", &|body| {
            body[HEADER_LEN..HEADER_LEN + 4].copy_from_slice(&[0, 0, 0, 7]);
        });
        change("more rows than there are groups", &|body| {
            body[at::SECTIONS] |= 4;
            body[HEADER_LEN + 4 + ACK_LEN + 4] = 65;
        });
        change("rows beyond the end", &|body| {
            body[at::SECTIONS] |= 4;
            body[HEADER_LEN + 4 + ACK_LEN + 4] = 3;
        });
        change("the most that a byte can claim", &|body| {
            body[at::SECTIONS] |= 4;
            body[HEADER_LEN + 4 + ACK_LEN + 4] = 255;
        });
        let fitting = resigned(self.next(), |body| {
            body[at::SECTIONS] |= 4;
            body[HEADER_LEN + 4 + ACK_LEN + 4] = 2;
        });
        self.on("as many rows as fit", 0, fitting, NEWEST);
    }

    /// What is said now and then: at its bounds, and beyond them.
    fn echoes_and_names(&mut self) {
        // Behind one ack and a view.
        const FREE: usize = HEADER_LEN + 4 + ACK_LEN + 4;
        let mut change = |name: &str, expected: Outcome, section: u8, place: usize, bytes: &[u8]| {
            let frame = resigned(self.next(), |body| {
                body[at::SECTIONS] |= section;
                body[place..place + bytes.len()].copy_from_slice(bytes);
            });
            self.on(name, 0, frame, expected);
        };
        let bad = Outcome::Refused(Reject::Sections);
        change("an echo of nobody", NEWEST, SECTION_ECHO, FREE, &[0; 5]);
        change("an echo of the last link", NEWEST, SECTION_ECHO, FREE, &[7]);
        change("an echo of a link beyond all", bad, SECTION_ECHO, FREE, &[8]);
        change("an echo of a link far beyond", bad, SECTION_ECHO, FREE, &[255]);
        change("as many rows as fit", NEWEST, SECTION_ECHO, FREE, &[0, 0, 0, 0, 0b111]);
        change("a row more than fits", bad, SECTION_ECHO, FREE, &[0, 0, 0, 0, 0b1111]);
        change("all rows, of which few fit", bad, SECTION_ECHO, FREE, &[0, 255, 255, 255, 255]);
        change("a name without a byte", bad, SECTION_NAME, FREE, &[0]);
        change("a name of one", NEWEST, SECTION_NAME, FREE, b"\x01b");
        change("the longest that fits", NEWEST, SECTION_NAME, FREE, &[30]);
        change("one byte more", bad, SECTION_NAME, FREE, &[31]);
        change("longer than names are", bad, SECTION_NAME, FREE, &[64]);
        change("the longest that a byte can claim", bad, SECTION_NAME, FREE, &[255]);
        let both = SECTION_ECHO | SECTION_NAME;
        let name_at = FREE + ECHO_HEAD_LEN;
        change("a name behind an echo", NEWEST, both, name_at, b"\x01b");
        change("which leaves it room", NEWEST, both, name_at, &[25]);
        change("and not for more", bad, both, name_at, &[26]);
        let all = both | SECTION_VOTES;
        change("an echo behind no votes", NEWEST, all, FREE + 1 + ECHO_HEAD_LEN, b"\x01b");
        change("a bad link behind them", bad, all, FREE, &[0, 8]);
        self.refused_longest();
    }

    /// The longest of both in a body that holds them to the last byte, and then one row more.
    fn refused_longest(&mut self) {
        self.seq += 1;
        let mut beat = beat(PEER, 6, self.seq);
        beat.echo = Some(echo(NodeSet(u32::MAX)));
        beat.name = name(&"n".repeat(63));
        self.on("an echo of all and the longest name", 0, frame(&beat, 0), NEWEST);
        self.seq += 1;
        beat.seq = self.seq;
        // Header 60, ack 24, view 4, then 5 + 8 * 17, and 1 + 17: 247, without a byte to spare.
        (beat.echo, beat.name) = (Some(echo(NodeSet(0x1_ffff))), name(&"n".repeat(17)));
        let full = frame(&beat, 0);
        let echo_at = HEADER_LEN + 4 + ACK_LEN + 4;
        let mut grown = resigned(full.clone(), |body| body[echo_at + 2] = 3);
        let name_at = echo_at + ECHO_HEAD_LEN + 18 * DELAY_LEN;
        self.refused("a row too many before a name", grown.clone(), Reject::Sections);
        grown = resigned(grown, |body| body[name_at] = 9);
        self.on("which is a shorter name then", 0, grown, NEWEST);
        self.seq += 1;
        beat.seq = self.seq;
        self.on("to the last byte", 0, frame(&beat, 0), NEWEST);
        self.seq += 1;
        beat.seq = self.seq;
        let longer = resigned(frame(&beat, 0), |body| body[name_at - DELAY_LEN] = 18);
        self.refused("a byte too many", longer, Reject::Sections);
    }

    /// What surrounds the datagram.
    fn packets(&mut self) {
        let mut add = |name: &str, link: u8, expected: Outcome, change: &dyn Fn(&mut Packet)| {
            self.seq += 1;
            let mut packet = Packet::on(link, frame(&beat(PEER, 6, self.seq), link));
            change(&mut packet);
            self.add(name, &packet, expected);
        };
        for (name, link) in [("IPv4", 0), ("IPv6", 1)] {
            let foreign = Outcome::Foreign;
            add(&format!("{name}, a VLAN tag"), link, NEWEST, &|p| p.tags = vec![0x8100]);
            add(&format!("{name}, two VLAN tags"), link, NEWEST, &|p| p.tags = vec![0x88a8, 0x8100]);
            add(&format!("{name}, three VLAN tags"), link, foreign, &|p| p.tags = vec![0x8100; 3]);
            add(&format!("{name}, Ethernet padding"), link, NEWEST, &|p| p.padding = 20);
            add(&format!("{name}, not UDP"), link, foreign, &|p| p.protocol = 6);
            add(&format!("{name}, no protocol"), link, foreign, &|p| p.protocol = 0);
            add(&format!("{name}, another port"), link, foreign, &|p| p.port = 695);
            add(&format!("{name}, UDP shorter than IP"), link, foreign, &|p| p.udp_len_error = -1);
            add(&format!("{name}, UDP longer than IP"), link, foreign, &|p| p.udp_len_error = 1);
            add(&format!("{name}, IP longer than the frame"), link, foreign, &|p| {
                (p.udp_len_error, p.ip_len_error) = (1, 1);
            });
            add(&format!("{name}, UDP length of none"), link, foreign, &|p| {
                p.udp_len_error = -8 - p.payload.len() as i32;
            });
        }
        for options in 1..=10 {
            add(&format!("{options} words of options"), 0, NEWEST, &|p| p.options = options);
        }
        add("options under two VLAN tags", 0, NEWEST, &|p| (p.options, p.tags) = (10, vec![0x8100; 2]));
        add("don't fragment", 0, NEWEST, &|p| p.fragment = 0x4000);
        add("more fragments", 0, Outcome::Foreign, &|p| p.fragment = 0x2000);
        add("a fragment's offset", 0, Outcome::Foreign, &|p| p.fragment = 1);
        add("the last fragment", 0, Outcome::Foreign, &|p| p.fragment = 0x1fff);
        // Of another interface, which may be on top of this one and then hears it without its tag.
        add("another interface's link, tagged", 2, Outcome::Foreign, &|p| p.tags = vec![0x8100]);
        add("another interface's link", 2, Outcome::Refused(Reject::Link), &|_| {});
        add("another link of this one, tagged", 0, Outcome::Refused(Reject::Link), &|p| {
            let other = Packet::on(3, Vec::new());
            (p.tags, p.destination, p.port) = (vec![0x8100], other.destination, other.port);
        });
        add("another address", 0, Outcome::Foreign, &|p| p.destination = [10, 0, 0, 9].into());
        add("a group's address", 3, NEWEST, &|_| {});
        for (name, place, value) in
            [("IP version 5", 14, 0x55), ("a header of 16 bytes", 14, 0x44), ("another ethertype", 12, 0x88)]
        {
            let mut packet = Packet::on(0, self.next()).bytes();
            packet[place] = value;
            self.cases.push(Case { name: name.into(), packet, expected: Outcome::Foreign });
        }
    }

    /// Every length: the packet cut off, and the datagram of that length.
    fn lengths(&mut self) {
        for link in [0, 1] {
            let payload = frame(&beat(PEER, 6, self.seq + 1), link);
            let whole = Packet::on(link, payload.clone()).bytes();
            for len in 14..whole.len() {
                let name = format!("link {link}, packet cut to {len}");
                self.cases.push(Case { name, packet: whole[..len].to_vec(), expected: Outcome::Foreign });
            }
            for len in 0..payload.len() {
                let expected = if len < 4 { Outcome::Foreign } else { Outcome::Refused(Reject::Length) };
                self.on(&format!("link {link}, datagram of {len}"), link, payload[..len].to_vec(), expected);
            }
        }
        for len in (136..1460).filter(|len| len % 64 != 7 || *len > 1415) {
            let mut payload = self.next();
            payload.resize(len, 0);
            self.refused(&format!("datagram of {len}"), payload, Reject::Length);
        }
        self.refused("somebody else's datagram", vec![0x55; 300], Reject::Length);
        self.refused("somebody else's of our length", vec![0x55; 135], Reject::Magic);
    }

    /// Every size of body, and all sections full.
    fn sizes(&mut self) {
        for groups in 0..=64u8 {
            self.seq += 1;
            let mut beat = beat(PEER, 6, self.seq);
            beat.has_claims = true;
            for claim in beat.claims.iter_mut().take(usize::from(groups)) {
                *claim = Claim { epoch: self.seq << 8, candidate: PEER, flags: Claim::HELD };
            }
            for node in agent_common::NodeId::all().take(usize::from(groups) / 2).skip(2) {
                beat.acked.insert(node);
            }
            let payload = frame(&beat, 0);
            let mut damaged = payload.clone();
            let last = damaged.len() - TAG_LEN - 1;
            damaged[last] ^= 1;
            let name = format!("{groups} groups, the body's last byte damaged");
            self.refused(&name, damaged.clone(), Reject::Screen);
            self.refused(&name, screened(damaged, |_| ()), Reject::Digest);
            let mut cut = payload.clone();
            *cut.last_mut().unwrap_or(&mut 0) ^= 1;
            self.refused(&format!("{groups} groups, the tag's last byte damaged"), cut, Reject::Screen);
            self.on(&format!("{groups} groups, {} bytes", payload.len()), 0, payload, NEWEST);
        }
    }
}

fn echo(nodes: NodeSet) -> Echo {
    Echo { link: LinkId::FIRST, nodes, delay_ns: [-250_000; MAX_NODES] }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap_or(Name::NONE)
}
