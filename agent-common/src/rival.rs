//! The newest authentic frames that carry our own node id: looped back to us, or of another node that uses the id.
//! Written in the kernel under a lock, in userspace by the one thread that receives; who is a rival is userspace's to
//! judge, which alone knows what this node has sent.

use core::net::{IpAddr, Ipv6Addr};

use crate::frame::Frame;
use crate::maps::{RIVALS, Rival};
use crate::slot::{copy_words, read_steady};
use crate::wire::at;

/// The entries of one way of receiving; in the kernel they are a map.
pub type Rivals = [Rival; RIVALS];

/// Where a frame came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// CLOCK_MONOTONIC ns of its arrival.
    pub stamp_ns: u64,
    /// The sender's address as words in memory order, IPv4 as ::ffff:a.b.c.d; zeroes for none.
    pub source: [u32; 4],
    /// The interface, 0 for unknown.
    pub ifindex: u32,
}

impl Rival {
    /// Where the frame came from; `None` when the way of arrival has no addresses.
    pub fn address(&self) -> Option<IpAddr> {
        let mut octets = [0; 16];
        for (bytes, word) in octets.chunks_exact_mut(4).zip(self.source) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        (octets != [0; 16]).then(|| Ipv6Addr::from(octets).to_canonical())
    }
}

/// An address as [`Origin::source`] has it.
pub fn source(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

/// Which entry a frame with our id belongs to: [`Rival::OURS`] or [`Rival::ANOTHER`].
#[inline(always)]
pub fn entry<F: Frame>(frame: F, ours: u64) -> usize {
    if frame.be64(at::INCARNATION) == ours { Rival::OURS } else { Rival::ANOTHER }
}

/// Notes a frame that was refused for [`crate::Reject::OwnNode`] and for that alone, in its entry. Of our own incarnation
/// the highest number stays: a lower one may be no more than what was sent from here.
#[inline(always)]
pub fn note<F: Frame>(rival: &mut Rival, frame: F, ours: u64, origin: &Origin) {
    let incarnation = frame.be64(at::INCARNATION);
    let seq = frame.be64(at::SEQ);
    let inside = get(&rival.generation) | 1;
    put(&mut rival.generation, inside);
    let frames = get(&rival.frames).wrapping_add(1);
    put(&mut rival.frames, frames);
    let is_below = incarnation == ours && get(&rival.incarnation) == ours && seq < get(&rival.seq);
    if !is_below {
        put(&mut rival.stamp_ns, origin.stamp_ns);
        put(&mut rival.incarnation, incarnation);
        put(&mut rival.seq, seq);
        put(&mut rival.sent_ns, frame.be64(at::SENT));
        for (place, word) in rival.source.iter_mut().zip(origin.source) {
            put(place, word);
        }
        put(&mut rival.ifindex, origin.ifindex);
        put(&mut rival.link, u32::from(frame.byte(at::LINK)));
    }
    put(&mut rival.generation, inside.wrapping_add(1));
}

/// Copies an entry; `None` when a writer was inside at every try.
///
/// # Safety
/// `rival` points to an entry, aligned to eight, that is readable for the whole call; others may write it meanwhile.
pub unsafe fn read_rival(rival: *const Rival) -> Option<Rival> {
    let mut out = Rival::default();
    let to = (&raw mut out).cast();
    // SAFETY: the caller's promise; both sides are as long.
    let copy = || unsafe { copy_words(rival.cast(), to, size_of::<Rival>() / 8) };
    // SAFETY: the caller's promise; the generation is the first field.
    unsafe { read_steady(rival.cast(), copy) }?;
    Some(out)
}

#[inline(always)]
fn get(field: &u64) -> u64 {
    // SAFETY: a reference: aligned and initialised.
    unsafe { core::ptr::read_volatile(field) }
}

#[inline(always)]
fn put<T: Copy>(field: &mut T, value: T) {
    // SAFETY: an exclusive reference: aligned, and no other reference to it lives.
    unsafe { core::ptr::write_volatile(field, value) }
}

const _: () = assert!(core::mem::offset_of!(Rival, generation) == 0 && size_of::<Rival>().is_multiple_of(8));

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{Origin, Rivals, entry, note, read_rival, source};
    use crate::beat::Beat;
    use crate::frame::SliceFrame;
    use crate::ids::{KeyId, LinkId, NodeId};
    use crate::maps::{KeyState, Rival};
    use crate::wire::{FRAME_MAX, encode};

    fn frame(incarnation: u64, seq: u64) -> Vec<u8> {
        let mut beat = Beat::empty(NodeId::FIRST);
        (beat.incarnation, beat.seq, beat.sent_ns) = (incarnation, seq, seq * 10);
        let mut out = [0; FRAME_MAX];
        let link = LinkId::new(3).unwrap();
        let len = encode(&beat, link, 1, 7, KeyId::new(1).unwrap(), &KeyState::default(), &mut out);
        out[..len].to_vec()
    }

    #[test]
    fn frames_of_ours_and_of_others_are_kept_apart() {
        let mut rivals = Rivals::default();
        let mut hear = |incarnation, seq, address: &str| {
            let bytes = frame(incarnation, seq);
            let frame = SliceFrame(&bytes);
            let origin =
                Origin { stamp_ns: seq + 1000, source: source(address.parse().unwrap()), ifindex: 2 };
            let kind = entry(frame, 5);
            note(&mut rivals[kind], frame, 5, &origin);
            // SAFETY: a reference is readable and aligned.
            (kind, unsafe { read_rival(&rivals[kind]) }.unwrap())
        };
        let (kind, rival) = hear(4, 9, "10.0.0.9");
        assert_eq!(kind, Rival::ANOTHER);
        assert_eq!((rival.incarnation, rival.seq, rival.sent_ns, rival.stamp_ns), (4, 9, 90, 1009));
        assert_eq!((rival.address(), rival.link, rival.ifindex), (Some("10.0.0.9".parse().unwrap()), 3, 2));
        assert_eq!(hear(4, 3, "10.0.0.9").1.seq, 3, "of others the newest stays");
        assert_eq!(hear(6, 3, "fd00::9").1.address(), Some("fd00::9".parse().unwrap()));

        let (kind, rival) = hear(5, 20, "10.0.0.1");
        assert_eq!((kind, rival.seq, rival.frames), (Rival::OURS, 20, 1));
        let (_, rival) = hear(5, 19, "10.0.0.8");
        assert_eq!((rival.seq, rival.frames, rival.generation), (20, 2, 4), "of ours the highest stays");
        assert_eq!(rivals[Rival::ANOTHER].frames, 3);
    }

    #[test]
    fn no_address_is_none() {
        assert_eq!(Rival::default().address(), None);
    }
}
