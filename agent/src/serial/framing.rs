//! Frames on a line: consistent overhead byte stuffing (Cheshire and Baker, 1997) of `[hops][heartbeat]`, a zero before
//! and after. Whatever a line makes of it, the next zero begins anew.

use agent_common::wire::{BODY_MIN, FRAME_MAX, MAGIC, TAG_LEN};
use cobs::CobsEncoder;

/// Bytes of the largest frame before it is stuffed: the hop limit and the heartbeat.
const PLAIN_MAX: usize = 1 + FRAME_MAX;
/// Bytes of the largest frame between its zeroes.
const STUFFED_MAX: usize = cobs::max_encoding_length(PLAIN_MAX);
/// Bytes of the largest frame on the line.
pub const LINE_MAX: usize = STUFFED_MAX + 2;

/// How many bytes a heartbeat of `len` bytes takes on the line, at most.
pub const fn line_length(len: usize) -> usize {
    cobs::max_encoding_length(1 + len) + 2
}

/// Writes the frame of `heartbeat` into `out` and returns its length; 0 for a heartbeat that is larger than any.
pub fn encode(hops: u8, heartbeat: &[u8], out: &mut [u8; LINE_MAX]) -> usize {
    out[0] = 0;
    let mut encoder = CobsEncoder::new(&mut out[1..]);
    if heartbeat.len() > FRAME_MAX || encoder.push(&[hops]).is_err() || encoder.push(heartbeat).is_err() {
        return 0;
    }
    let stuffed = encoder.finalize();
    match out.get_mut(1 + stuffed) {
        Some(end) => *end = 0,
        None => return 0,
    }
    stuffed + 2
}

/// What stood between two zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// What looks like a heartbeat; nothing in it is authentic yet.
    Frame {
        /// How many more nodes may pass it on.
        hops: u8,
        /// The heartbeat.
        heartbeat: &'a [u8],
    },
    /// Something else: a damaged frame, the second half of one, another program's output.
    Noise,
    /// More than any frame has; all of it was dropped.
    Overlong,
}

/// Finds frames in what is read from a line, piece by piece.
#[derive(Debug)]
pub struct Deframer {
    piece: Box<[u8; STUFFED_MAX]>,
    used: usize,
    is_overlong: bool,
}

impl Default for Deframer {
    fn default() -> Self {
        Self { piece: Box::new([0; STUFFED_MAX]), used: 0, is_overlong: false }
    }
}

impl Deframer {
    /// Takes what was read, and tells of everything that ended in it.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Found<'_>)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            let (piece, rest) = bytes.split_at(end);
            self.keep(piece);
            if let Some(found) = self.end() {
                each(found);
            }
            self.reset();
            bytes = rest.get(1..).unwrap_or(&[]);
        }
        self.keep(bytes);
    }

    /// Forgets what was begun: the line is another one now.
    pub fn reset(&mut self) {
        (self.used, self.is_overlong) = (0, false);
    }

    fn keep(&mut self, bytes: &[u8]) {
        match self.piece.get_mut(self.used..self.used + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.used += bytes.len();
            }
            None => self.is_overlong = true,
        }
    }

    fn end(&mut self) -> Option<Found<'_>> {
        if self.is_overlong {
            return Some(Found::Overlong);
        }
        let piece = self.piece.get_mut(..self.used).filter(|piece| !piece.is_empty())?;
        let Ok(length) = cobs::decode_in_place(piece) else { return Some(Found::Noise) };
        let frame = piece.get(..length).and_then(<[u8]>::split_first);
        Some(match frame {
            Some((hops, heartbeat)) if is_likely(heartbeat) => Found::Frame { hops: *hops, heartbeat },
            Some(_) | None => Found::Noise,
        })
    }
}

/// A heartbeat's length, and its first bytes: anything else is not worth the rt thread's time.
fn is_likely(heartbeat: &[u8]) -> bool {
    let beyond = heartbeat.len().checked_sub(BODY_MIN + TAG_LEN);
    beyond.is_some_and(|beyond| beyond.is_multiple_of(64)) && heartbeat.starts_with(&MAGIC)
}

#[cfg(test)]
mod tests {
    use super::{Deframer, FRAME_MAX, Found, LINE_MAX, MAGIC, STUFFED_MAX, encode, line_length};
    use proptest::prelude::*;

    /// What is found, as values.
    #[derive(Debug, PartialEq, Eq, Clone)]
    enum Seen {
        Frame(u8, Vec<u8>),
        Noise,
        Overlong,
    }

    fn fed(deframer: &mut Deframer, bytes: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        deframer.feed(bytes, |found| {
            seen.push(match found {
                Found::Frame { hops, heartbeat } => Seen::Frame(hops, heartbeat.to_vec()),
                Found::Noise => Seen::Noise,
                Found::Overlong => Seen::Overlong,
            });
        });
        seen
    }

    fn on_line(hops: u8, heartbeat: &[u8]) -> Vec<u8> {
        let mut out = [0xaa; LINE_MAX];
        let length = encode(hops, heartbeat, &mut out);
        assert!(length > 0);
        out[..length].to_vec()
    }

    fn heartbeat(blocks: usize, fill: impl Fn(usize) -> u8) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..71 + 64 * blocks).map(fill).collect();
        bytes[..3].copy_from_slice(&MAGIC);
        bytes
    }

    #[test]
    fn the_largest_frame_fits_and_a_larger_one_is_refused() {
        for fill in [0, 1, 0xff] {
            let largest = heartbeat(21, |_| fill);
            assert_eq!(largest.len(), FRAME_MAX);
            let line = on_line(9, &largest);
            assert!(line.len() <= line_length(FRAME_MAX) && line.len() <= LINE_MAX);
            assert_eq!(fed(&mut Deframer::default(), &line), [Seen::Frame(9, largest)]);
        }
        assert_eq!(encode(1, &[1; FRAME_MAX + 1], &mut [0; LINE_MAX]), 0);
    }

    #[test]
    fn a_half_frame_costs_only_itself() {
        let (one, two) = (heartbeat(1, |at| at as u8), heartbeat(2, |_| 0));
        let (half, whole) = (on_line(3, &one), on_line(4, &two));
        // The line was opened in the middle of a frame; and a frame breaks off, as when its sender was unplugged.
        for at in 1..half.len() - 1 {
            let mut deframer = Deframer::default();
            let mut bytes = half[at..].to_vec();
            bytes.extend(&whole);
            assert_eq!(fed(&mut deframer, &bytes).last(), Some(&Seen::Frame(4, two.clone())));
            let mut deframer = Deframer::default();
            let mut bytes = half[..at].to_vec();
            bytes.extend(&whole);
            assert_eq!(fed(&mut deframer, &bytes).last(), Some(&Seen::Frame(4, two.clone())));
        }
    }

    #[test]
    fn a_flood_is_bounded_and_counted_once() {
        let mut deframer = Deframer::default();
        for _ in 0..100 {
            assert_eq!(fed(&mut deframer, &[0xff; 4096]), []);
            assert!(deframer.used <= STUFFED_MAX);
        }
        assert_eq!(fed(&mut deframer, &[0]), [Seen::Overlong]);
        let good = heartbeat(1, |_| 7);
        assert_eq!(fed(&mut deframer, &on_line(2, &good)), [Seen::Frame(2, good)]);
    }

    #[test]
    fn zeroes_alone_are_silence() {
        assert_eq!(fed(&mut Deframer::default(), &[0; 64]), []);
    }

    #[test]
    fn what_is_no_heartbeat_is_noise() {
        let mut other = heartbeat(1, |_| 7);
        other[0] = b'?';
        for wrong in [other, heartbeat(1, |_| 7)[..134].to_vec(), b"login: ".to_vec(), vec![]] {
            assert_eq!(fed(&mut Deframer::default(), &on_line(2, &wrong)), [Seen::Noise], "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_heartbeat_comes_through_in_any_pieces(
            hops: u8,
            blocks in 1usize..=21,
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(0xffu8), any::<u8>()], FRAME_MAX),
            cut in 1usize..200,
        ) {
            let sent = heartbeat(blocks, |at| bytes[at]);
            let line = on_line(hops, &sent);
            prop_assert!(line.len() <= line_length(sent.len()));
            prop_assert_eq!(line.iter().filter(|byte| **byte == 0).count(), 2);
            let mut deframer = Deframer::default();
            let seen: Vec<Seen> = line.chunks(cut).flat_map(|piece| fed(&mut deframer, piece)).collect();
            prop_assert_eq!(seen, [Seen::Frame(hops, sent)]);
        }

        #[test]
        fn noise_never_costs_the_frame_behind_it(
            noise in prop::collection::vec(any::<u8>(), 0..4000),
            cut in 1usize..500,
        ) {
            let good = heartbeat(2, |at| at as u8);
            let mut line = noise;
            line.extend(on_line(5, &good));
            let mut deframer = Deframer::default();
            let seen: Vec<Seen> = line.chunks(cut).flat_map(|piece| fed(&mut deframer, piece)).collect();
            prop_assert_eq!(seen.last(), Some(&Seen::Frame(5, good)));
        }
    }
}
