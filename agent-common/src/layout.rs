//! What the pinned maps of heartbeats hold, as one number: a process that finds maps of another number must not read
//! them, and makes its own instead.
//!
//! Sizes, places of fields, numbers of entries, the order of the counters and the sections of a body are hashed, so most
//! changes show by themselves. [`STATE_ABI`] is raised by hand when the *meaning* of something changes whose place does
//! not: another unit, another clock, another value for "none", another rule for who writes. A change of the programs
//! alone changes nothing here.

use core::mem::{offset_of, size_of};

use crate::ids::{MAX_LINKS, MAX_NODES};
use crate::maps::{
    COUNTERS, ClusterConfig, KeyState, LinkConfig, LinkSlot, LinkTable, NEWS_BYTES, News, PeerSlot, RIVALS,
    Rival,
};
use crate::reject::Reject;
use crate::window::{LinkWindow, PeerWindow, Said};
use crate::wire;

/// Raised whenever the meaning of a map's content changes and its layout does not.
pub const STATE_ABI: u32 = 1;

/// FNV-1a, 64 bits (Fowler, Noll and Vo).
struct Fnv(u64);

impl Fnv {
    const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x0100_0000_01b3))
    }

    const fn number(mut self, number: usize) -> Self {
        let bytes = (number as u64).to_le_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self = self.byte(bytes[i]);
            i += 1;
        }
        self
    }

    const fn text(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        self = self.number(bytes.len());
        let mut i = 0;
        while i < bytes.len() {
            self = self.byte(bytes[i]);
            i += 1;
        }
        self
    }
}

macro_rules! structure {
    ($hash:expr, $name:ident: $($field:ident)*) => {{
        // Exhaustive: a new field does not compile before it stands here.
        #[allow(dead_code)]
        const fn all_fields(value: &$name) {
            let $name { $($field: _,)* } = value;
        }
        $hash.number(size_of::<$name>())$(.number(offset_of!($name, $field)))*
    }};
}

/// The number of the present layout of the maps `CONFIG`, `LINKS`, `KEYS`, `WINDOWS`, `SLOTS`, `COUNTERS`, `NEWS` and
/// `RIVAL`.
pub const fn layout() -> u64 {
    LAYOUT
}

const LAYOUT: u64 = {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325).number(STATE_ABI as usize);
    hash = structure!(hash, ClusterConfig: cluster nodes incarnation deadtime_max_us me);
    hash = structure!(hash, LinkConfig: ifindex port destination);
    hash = structure!(hash, LinkTable: links);
    hash = structure!(hash, KeyState: inner outer screen valid);
    hash = structure!(hash, PeerWindow: generation incarnation top acked told links);
    hash = structure!(hash, LinkWindow: top bits);
    hash = structure!(hash, Said: incarnation life terms view);
    hash = structure!(hash, PeerSlot: generation incarnation seq heard_ns counts_ns acked accepted links body_len body);
    hash = structure!(hash, LinkSlot: stamp_ns seq frames first_seq sent_ns keepalive_us);
    hash = structure!(hash, News: stamp_ns node reserved);
    hash = structure!(hash, Rival: generation stamp_ns incarnation seq sent_ns frames source ifindex link);
    hash =
        hash.number(MAX_NODES).number(MAX_LINKS).number(COUNTERS).number(NEWS_BYTES as usize).number(RIVALS);
    let mut reason = 0;
    while reason < Reject::COUNT {
        hash = hash.text(Reject::ALL[reason].label());
        reason += 1;
    }
    // Bodies lie in the slots as they came.
    hash.number(wire::VERSION as usize).number(wire::SECTIONS as usize).0
};

#[cfg(test)]
mod tests {
    use super::{Fnv, layout};

    #[test]
    fn fnv_is_fnv() {
        // The published vectors of the empty string, "a" and "foobar".
        let hash = |text: &str| text.bytes().fold(Fnv(0xcbf2_9ce4_8422_2325), Fnv::byte).0;
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }

    /// A change of the layout is meant: write the new number here, and expect that an upgrade across it starts without
    /// what the maps held.
    #[test]
    fn the_layout_does_not_change_by_accident() {
        assert_eq!(layout(), 0xbf45_4ab1_a443_1090, "{:#x}", layout());
    }
}
