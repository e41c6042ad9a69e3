//! The wire format: header, sections, padding and tag, all multi-byte fields big-endian.
//! Offsets are constants so that the XDP program can read single words; [`encode`] and [`decode`] serve userspace.
//!
//! ```text
//!  0       3 4    5     6     7      8         12     13          14       16
//!  | "XBT",1 |key|node |link |state | cluster | flags | sections  | vote nr |
//! 16              24              32              40          44         48             52       60
//!  | incarnation   | sequence      | sent, ns      | keepalive | deadtime | votes version | screen |
//! 60: acks  (if sections & 1): bitmap of nodes u32, then for each node in order: incarnation u64, seq u64, table u32
//!     view  (if sections & 2): bitmap of nodes held dead u32
//!     votes (if sections & 4): count u8, then for each: group u8, flags u8, candidate u8, epoch u64
//!     echo  (if sections & 8): link u8, bitmap of nodes u32, then for each node in order: delay i64, ns
//!     name  (if sections & 16): length u8, 1 to 63, then as many bytes of UTF-8
//!     zeroes up to 55 + 64k bytes, then the tag of 16 bytes
//! ```
//! The flags' upper four bits are the score: how many ping groups the sender reaches. A heartbeat whose parts do not all
//! fit the largest body leaves out its name, and if that is not enough its echo too: both come again, the rest always fits.
//! keepalive and deadtime are microseconds. The cluster id is the first four bytes of SHA-256 of the cluster's name.
//! The tag is of the body with the screen's eight bytes as zeroes. The screen is made last and covers the tag: two halves
//! of 32 bits of SipHash-1-3 with the key's screen key, little-endian, as [`crate::screen`] has it.

/// "XBT" and the version, as the first four bytes stand on the wire.
pub const MAGIC: [u8; 3] = *b"XBT";
/// This protocol's version.
pub const VERSION: u8 = 1;
/// Offset of each header field.
pub mod at {
    /// Key id, u8.
    pub const KEY: usize = 4;
    /// Sender, u8.
    pub const NODE: usize = 5;
    /// Link, u8.
    pub const LINK: usize = 6;
    /// [`crate::NodeState`], u8.
    pub const STATE: usize = 7;
    /// Cluster id, u32.
    pub const CLUSTER: usize = 8;
    /// Flags of the beat in the lower four bits, its score in the upper four, u8.
    pub const FLAGS: usize = 12;
    /// Which sections follow, u8.
    pub const SECTIONS: usize = 13;
    /// Number of the vote configuration, u16.
    pub const VOTE_NUMBER: usize = 14;
    /// Incarnation, u64.
    pub const INCARNATION: usize = 16;
    /// Sequence number, u64.
    pub const SEQ: usize = 24;
    /// Send time, u64, ns of the sender's CLOCK_MONOTONIC.
    pub const SENT: usize = 32;
    /// Keepalive of this link, u32, microseconds.
    pub const KEEPALIVE: usize = 40;
    /// Deadtime, u32, microseconds.
    pub const DEADTIME: usize = 44;
    /// Version of the table, u32.
    pub const VOTES_VERSION: usize = 48;
    /// The screen's first half: of what stands before and the length, u32 little-endian.
    pub const SCREEN: usize = 52;
    /// The screen's second half: of all that stands before and behind, u32 little-endian.
    pub const SCREEN_WHOLE: usize = 56;
}
/// Length of the header.
pub const HEADER_LEN: usize = 60;
/// Bytes of the header that the screen's first half covers.
pub const SCREENED_LEN: usize = at::SCREEN;
/// Length of the truncated tag (RFC 2104 section 5).
pub const TAG_LEN: usize = 16;
/// Smallest body: 119 bytes (55 cannot hold a header).
pub const BODY_MIN: usize = 119;
/// Most SHA-256 blocks that a body adds to the HMAC's first: 55 + 64 * 21 = 1399 bytes, within every Ethernet MTU.
pub const EXTRA_BLOCKS_MAX: usize = 21;
/// Largest body.
pub const BODY_MAX: usize = 55 + 64 * EXTRA_BLOCKS_MAX;
/// Largest frame.
pub const FRAME_MAX: usize = BODY_MAX + TAG_LEN;
/// Section bit: acknowledgements.
pub const SECTION_ACKS: u8 = 1;
/// Section bit: whom the sender holds dead.
pub const SECTION_VIEW: u8 = 2;
/// Section bit: the table of votes.
pub const SECTION_VOTES: u8 = 4;
/// Section bit: what the sender measured of one link.
pub const SECTION_ECHO: u8 = 8;
/// Section bit: the sender's name.
pub const SECTION_NAME: u8 = 16;
/// All sections of this version; a frame with another is malformed.
pub const SECTIONS: u8 = SECTION_ACKS | SECTION_VIEW | SECTION_VOTES | SECTION_ECHO | SECTION_NAME;
/// How far the score is shifted above the flags.
pub const SCORE_SHIFT: u32 = 4;
/// The flags' own bits.
pub const FLAGS_MASK: u8 = (1 << SCORE_SHIFT) - 1;
/// Length of one acknowledgement.
pub const ACK_LEN: usize = 20;
/// Length of one row of the table.
pub const CLAIM_LEN: usize = 11;
/// Length of an echo before its rows.
pub const ECHO_HEAD_LEN: usize = 5;
/// Length of one row of an echo.
pub const DELAY_LEN: usize = 8;

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{decode, decode_into};
pub use encode::{cluster_id, encode, resign};
