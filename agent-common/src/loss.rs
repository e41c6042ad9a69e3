//! What the benchmarks' loss injector is told, and what it counts. No part of the product's own maps.

/// A lossy channel (Gilbert and Elliott): probabilities in parts of 2^32, `u32::MAX` for always. With `to_bad` zero every
/// frame is lost independently with `good`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Loss {
    /// Loss while the channel is good.
    pub good: u32,
    /// Loss while it is bad.
    pub bad: u32,
    /// For each frame: the channel turns bad.
    pub to_bad: u32,
    /// For each frame: it turns good.
    pub to_good: u32,
    /// Frames from this MAC address are spared.
    pub spared: [u8; 6],
    /// Zero.
    pub reserved: [u8; 2],
}

/// The injector's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LossCount {
    /// Passed on.
    Passed = 0,
    /// Lost.
    Lost = 1,
    /// Not judged.
    Spared = 2,
}

impl LossCount {
    /// How many there are.
    pub const COUNT: usize = 3;
}

const _: () = assert!(core::mem::size_of::<Loss>() == 24);

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no implicit padding.
unsafe impl aya::Pod for Loss {}
