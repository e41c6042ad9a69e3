//! Echo requests and replies of ICMP (RFC 792) and ICMPv6 (RFC 4443, section 4). A request carries a number that only this
//! process knows, so that what others send, or ask for, is never taken for an answer.

use std::net::IpAddr;

/// Of a message: type, code, checksum, identifier, sequence number.
const HEADER_LEN: usize = 8;
/// Nonce, sequence number, place.
const PAYLOAD_LEN: usize = 24;
/// A whole message.
pub const PACKET_LEN: usize = HEADER_LEN + PAYLOAD_LEN;

const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

/// What one request is about, and its reply repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Place of the group.
    pub group: u8,
    /// Place of the target in its group.
    pub target: u8,
    /// Counts the requests to the target.
    pub sequence: u64,
}

/// What makes requests this process's own.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Random.
    pub nonce: u64,
    /// The identifier; an unprivileged socket puts its own in its place.
    pub id: u16,
}

impl Mark {
    /// A request to `to`, checksum and all. The kernel fills in that of ICMPv6, which covers the addresses.
    pub fn request(&self, to: IpAddr, echo: Echo) -> [u8; PACKET_LEN] {
        let mut packet = [0; PACKET_LEN];
        let kind = if to.is_ipv4() { REQUEST_V4 } else { REQUEST_V6 };
        let [sequence_high, sequence_low] = (echo.sequence as u16).to_be_bytes();
        let [id_high, id_low] = self.id.to_be_bytes();
        let parts: [&[u8]; 4] = [
            &[kind, 0, 0, 0, id_high, id_low, sequence_high, sequence_low],
            &self.nonce.to_be_bytes(),
            &echo.sequence.to_be_bytes(),
            &[echo.group, echo.target],
        ];
        for (to, from) in packet.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        if to.is_ipv4() {
            let [high, low] = checksum(&packet).to_be_bytes();
            (packet[2], packet[3]) = (high, low);
        }
        packet
    }

    /// What a message from a host of `from`'s family answers, if it answers a request of this process. The kernel has
    /// checked its checksum.
    pub fn answered(&self, from: IpAddr, message: &[u8]) -> Option<Echo> {
        let message: &[u8; PACKET_LEN] = message.try_into().ok()?;
        let (header, payload) = message.split_at(HEADER_LEN);
        let reply = if from.is_ipv4() { REPLY_V4 } else { REPLY_V6 };
        if header.first() != Some(&reply) || header.get(1) != Some(&0) {
            return None;
        }
        let (nonce, rest) = payload.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (&[group, target], padding) = rest.split_first_chunk::<2>()?;
        let sound = u64::from_be_bytes(*nonce) == self.nonce && padding.iter().all(|byte| *byte == 0);
        sound.then_some(Echo { group, target, sequence: u64::from_be_bytes(*sequence) })
    }
}

/// RFC 1071; the field itself is zero.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| {
        u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The ICMP message in an IPv4 packet, as raw sockets hand it out.
pub fn without_ip_header(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    (first >> 4 == 4).then(|| packet.get(usize::from(first & 0x0f) * 4..)).flatten()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Echo, Mark, PACKET_LEN, checksum, without_ip_header};

    const MARK: Mark = Mark { nonce: 0x0123_4567_89ab_cdef, id: 0xbeef };
    const ECHO: Echo = Echo { group: 3, target: 15, sequence: 0x0001_0002_0003_0004 };

    fn hosts() -> [IpAddr; 2] {
        ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]
    }

    /// What the host makes of a request.
    fn reply(host: IpAddr, mut packet: [u8; PACKET_LEN]) -> [u8; PACKET_LEN] {
        packet[0] = if host.is_ipv4() { 0 } else { 129 };
        packet
    }

    #[test]
    fn a_reply_says_what_was_asked() {
        for host in hosts() {
            let request = MARK.request(host, ECHO);
            assert_eq!(request[0], if host.is_ipv4() { 8 } else { 128 });
            assert_eq!(request[4..8], [0xbe, 0xef, 0x00, 0x04]);
            assert_eq!(MARK.answered(host, &reply(host, request)), Some(ECHO));
            // The request itself, heard on loopback, is no answer.
            assert_eq!(MARK.answered(host, &request), None);
        }
    }

    #[test]
    fn nothing_else_is_taken_for_an_answer() {
        for host in hosts() {
            let good = reply(host, MARK.request(host, ECHO));
            for place in [0, 1, 8, 15, 26, 31] {
                let mut bad = good;
                bad[place] ^= 1;
                assert_eq!(MARK.answered(host, &bad), None, "byte {place}");
            }
            assert_eq!(MARK.answered(host, &good[..PACKET_LEN - 1]), None);
            assert_eq!(MARK.answered(host, &[&good[..], &[0]].concat()), None);
            let other = Mark { nonce: MARK.nonce + 1, ..MARK };
            assert_eq!(other.answered(host, &good), None);
            let [v4, v6] = hosts();
            let other_family = if host.is_ipv4() { v6 } else { v4 };
            assert_eq!(MARK.answered(other_family, &good), None);
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // RFC 1071, section 3: the sum of these words is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        let [v4, _] = hosts();
        // Over a whole message it is zero.
        assert_eq!(checksum(&MARK.request(v4, ECHO)), 0);
    }

    #[test]
    fn a_raw_socket_shows_the_ip_header() {
        let mut packet = vec![0x46; 1];
        packet.extend([0; 23]);
        packet.extend([1, 2, 3]);
        assert_eq!(without_ip_header(&packet), Some(&[1, 2, 3][..]));
        assert_eq!(without_ip_header(&[]), None);
        assert_eq!(without_ip_header(&[0x60; 40]), None);
        assert_eq!(without_ip_header(&[0x4f; 8]), None);
    }
}
