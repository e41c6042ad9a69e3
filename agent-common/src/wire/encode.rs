//! From a heartbeat to a signed frame, and the same heartbeat signed again for the next link.
//! The largest heartbeat without echo and name fits the largest frame, and these two are left out where they do not fit,
//! so writing cannot fail.

use crate::beat::{Beat, Echo};
use crate::frame::SliceFrame;
use crate::hmac::frame_tag;
use crate::ids::{KeyId, LinkId, MAX_GROUPS, MAX_NODES};
use crate::maps::KeyState;
use crate::screen::screen;
use crate::sha256::{self, Work};

use super::{
    ACK_LEN, BODY_MAX, BODY_MIN, CLAIM_LEN, DELAY_LEN, ECHO_HEAD_LEN, FLAGS_MASK, FRAME_MAX, HEADER_LEN,
    MAGIC, SCORE_SHIFT, SECTION_ACKS, SECTION_ECHO, SECTION_NAME, SECTION_VIEW, SECTION_VOTES, TAG_LEN,
    VERSION, at,
};

/// The cluster id: the first four bytes of SHA-256 of the cluster's name, never 0 (which means "not configured").
pub fn cluster_id(name: &str) -> u32 {
    let [a, b, c, d, ..] = sha256::digest(name.as_bytes());
    u32::from_be_bytes([a, b, c, d]).max(1)
}

/// Writes the signed frame of `beat` for `link` into `out` and returns its length. `keepalive_us` is that link's own
/// interval and takes the place of the heartbeat's.
pub fn encode(
    beat: &Beat,
    link: LinkId,
    keepalive_us: u32,
    cluster: u32,
    key_id: KeyId,
    key: &KeyState,
    out: &mut [u8; FRAME_MAX],
) -> usize {
    let mut writer = Writer { out, at: 0 };
    let sections = header(&mut writer, beat, cluster, key_id);
    writer.zero_to(HEADER_LEN);
    if sections & SECTION_ACKS != 0 {
        acks(&mut writer, beat);
    }
    if let Some(view) = beat.view {
        writer.put(view.0.to_be_bytes());
    }
    if sections & SECTION_VOTES != 0 {
        claims(&mut writer, beat);
    }
    if let Some(said) = beat.echo.as_ref().filter(|_| sections & SECTION_ECHO != 0) {
        echo(&mut writer, said);
    }
    if let Some(name) = beat.name.as_str().filter(|_| sections & SECTION_NAME != 0) {
        writer.put([name.len() as u8]);
        writer.put_all(name.as_bytes());
    }
    let body_len = padded(writer.at);
    writer.zero_to(body_len);
    let len = body_len + TAG_LEN;
    resign(out, len, link, keepalive_us, key);
    len
}

/// Makes the frame that [`encode`] wrote one for another link: only link, interval, screen and tag differ. `len` is
/// what [`encode`] returned.
pub fn resign(out: &mut [u8; FRAME_MAX], len: usize, link: LinkId, keepalive_us: u32, key: &KeyState) {
    let len = len.min(FRAME_MAX);
    out[at::LINK] = link.raw();
    out[at::KEEPALIVE..at::DEADTIME].copy_from_slice(&keepalive_us.to_be_bytes());
    if let (Ok(tag), Some(frame)) =
        (frame_tag(key, SliceFrame(&out[..len]), Work::default()), out.get_mut(..len))
        && let Some(place) = frame.last_chunk_mut::<TAG_LEN>()
    {
        for (chunk, word) in place.chunks_exact_mut(4).zip(tag) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
    }
    if let Ok(screen) = screen(key.screen, SliceFrame(&out[..len])) {
        out[at::SCREEN..HEADER_LEN].copy_from_slice(&screen.to_le_bytes());
    }
}

/// The smallest body that holds `used` bytes.
const fn padded(used: usize) -> usize {
    if used <= BODY_MIN { BODY_MIN } else { (used - 55).div_ceil(64) * 64 + 55 }
}

/// Which sections the frame has: of echo and name only what fits beside the rest.
fn sections(beat: &Beat) -> u8 {
    let mut sections = 0;
    let mut used = HEADER_LEN;
    let acks = peers_acked(beat).count();
    if acks != 0 {
        sections |= SECTION_ACKS;
        used += 4 + ACK_LEN * acks;
    }
    if beat.view.is_some() {
        sections |= SECTION_VIEW;
        used += 4;
    }
    if beat.has_claims {
        sections |= SECTION_VOTES;
        used += 1 + CLAIM_LEN * rows(beat).count();
    }
    let echo = beat.echo.as_ref().map(|echo| ECHO_HEAD_LEN + DELAY_LEN * echo.nodes.len());
    if let Some(len) = echo.filter(|len| used + len <= BODY_MAX) {
        sections |= SECTION_ECHO;
        used += len;
    }
    // An echo that was left out leaves no room for a name: the name goes first.
    let name = beat.name.as_str().filter(|_| echo.is_none() || sections & SECTION_ECHO != 0);
    if name.is_some_and(|name| used + 1 + name.len() <= BODY_MAX) {
        sections |= SECTION_NAME;
    }
    sections
}

/// Bytes 0 to 52; returns the sections bits.
fn header(writer: &mut Writer<'_>, beat: &Beat, cluster: u32, key_id: KeyId) -> u8 {
    let sections = sections(beat);
    writer.put(MAGIC);
    writer.put([VERSION, key_id.raw(), beat.node.raw(), 0, beat.state as u8]);
    writer.put(cluster.to_be_bytes());
    writer.put([beat.flags & FLAGS_MASK | beat.score << SCORE_SHIFT, sections]);
    writer.put(beat.vote_number.to_be_bytes());
    writer.put(beat.incarnation.to_be_bytes());
    writer.put(beat.seq.to_be_bytes());
    writer.put(beat.sent_ns.to_be_bytes());
    writer.put(beat.keepalive_us.to_be_bytes());
    writer.put(beat.deadtime_us.to_be_bytes());
    writer.put(beat.votes_version.to_be_bytes());
    sections
}

fn acks(writer: &mut Writer<'_>, beat: &Beat) {
    let mut nodes = beat.acked;
    nodes.remove(beat.node);
    writer.put(nodes.0.to_be_bytes());
    for ack in peers_acked(beat) {
        writer.put(ack.incarnation.to_be_bytes());
        writer.put(ack.seq.to_be_bytes());
        writer.put(ack.table.to_be_bytes());
    }
}

/// Nobody acks itself: that is one row less than there are nodes, and the largest heartbeat fits.
fn peers_acked(beat: &Beat) -> impl Iterator<Item = &crate::beat::Ack> {
    beat.acked.iter().filter(|node| *node != beat.node).filter_map(|node| beat.ack_of(node))
}

fn claims(writer: &mut Writer<'_>, beat: &Beat) {
    writer.put([rows(beat).count() as u8]);
    for (group, claim) in rows(beat) {
        writer.put([group, claim.flags, claim.candidate]);
        writer.put(claim.epoch.to_be_bytes());
    }
}

fn rows(beat: &Beat) -> impl Iterator<Item = (u8, &crate::beat::Claim)> {
    (0u8..).zip(&beat.claims).filter(|(_, claim)| claim.is_some())
}

fn echo(writer: &mut Writer<'_>, echo: &Echo) {
    writer.put([echo.link.raw()]);
    writer.put(echo.nodes.0.to_be_bytes());
    for delay_ns in echo.nodes.iter().filter_map(|node| echo.delay_ns.get(node.index())) {
        writer.put(delay_ns.to_be_bytes());
    }
}

struct Writer<'a> {
    out: &'a mut [u8; FRAME_MAX],
    at: usize,
}

impl Writer<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.put_all(&bytes);
    }

    fn put_all(&mut self, bytes: &[u8]) {
        if let Some(place) = self.out.get_mut(self.at..self.at + bytes.len()) {
            place.copy_from_slice(bytes);
            self.at += bytes.len();
        }
    }

    fn zero_to(&mut self, end: usize) {
        if let Some(place) = self.out.get_mut(self.at..end) {
            place.fill(0);
            self.at = end;
        }
    }
}

const _: () = {
    let largest = HEADER_LEN + 4 + ACK_LEN * (MAX_NODES - 1) + 4 + 1 + CLAIM_LEN * MAX_GROUPS;
    assert!(largest <= BODY_MAX);
    // The longest echo and the longest name fit beside an otherwise empty heartbeat.
    assert!(HEADER_LEN + ECHO_HEAD_LEN + DELAY_LEN * MAX_NODES + 1 + crate::beat::NAME_MAX <= BODY_MAX);
    // A steady heartbeat of three nodes: two acks and a view.
    assert!(HEADER_LEN + 4 + 2 * ACK_LEN + 4 <= BODY_MIN);
};
