//! How the validation reads a frame: from a slice in userspace, from packet pointers in the kernel.
//! No read can panic; a read that is not covered by a check before says so by its `Option`.

/// One UDP payload (or serial frame): body and tag.
///
/// The plain readers are for offsets below [`crate::wire::BODY_MIN`], after the length was accepted. Implementations
/// read afresh each time, so a caller may read a field again at the place where the verifier must know its bound.
pub trait Frame: Copy {
    /// A block of 64 bytes that is known to lie within the frame.
    type Block: Copy;

    /// Bytes of the payload, tag included.
    fn size(self) -> usize;
    /// One byte of the header.
    fn byte(self, at: usize) -> u8;
    /// Two bytes of the header, big-endian.
    fn be16(self, at: usize) -> u16;
    /// Four bytes of the header, big-endian.
    fn be32(self, at: usize) -> u32;
    /// Eight bytes of the header, big-endian.
    fn be64(self, at: usize) -> u64;
    /// Eight bytes of the header, little-endian.
    fn le64(self, at: usize) -> u64;

    /// One byte anywhere; `None` beyond the end.
    fn find_byte(self, at: usize) -> Option<u8>;
    /// Four bytes anywhere, big-endian; `None` beyond the end.
    fn find_be32(self, at: usize) -> Option<u32>;
    /// Eight bytes anywhere, big-endian; `None` beyond the end.
    fn find_be64(self, at: usize) -> Option<u64>;

    /// The 64 bytes at `64 * index`.
    fn block(self, index: usize) -> Option<Self::Block>;
    /// A word of a block, `at` below 61.
    fn block_be32(block: Self::Block, at: usize) -> u32;
    /// Eight bytes of a block in memory order, `at` below 57.
    fn block_raw64(block: Self::Block, at: usize) -> u64;
}

/// A frame in memory. Reads beyond its end give zeroes.
#[derive(Clone, Copy, Debug)]
pub struct SliceFrame<'a>(pub &'a [u8]);

impl SliceFrame<'_> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}

impl<'a> Frame for SliceFrame<'a> {
    type Block = &'a [u8; 64];

    fn size(self) -> usize {
        self.0.len()
    }

    fn byte(self, at: usize) -> u8 {
        self.find_byte(at).unwrap_or(0)
    }

    fn be16(self, at: usize) -> u16 {
        self.array(at).map_or(0, u16::from_be_bytes)
    }

    fn be32(self, at: usize) -> u32 {
        self.find_be32(at).unwrap_or(0)
    }

    fn be64(self, at: usize) -> u64 {
        self.find_be64(at).unwrap_or(0)
    }

    fn le64(self, at: usize) -> u64 {
        self.array(at).map_or(0, u64::from_le_bytes)
    }

    fn find_byte(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn find_be32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn find_be64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    fn block(self, index: usize) -> Option<Self::Block> {
        self.0.get(index.checked_mul(64)?..)?.first_chunk()
    }

    fn block_be32(block: Self::Block, at: usize) -> u32 {
        SliceFrame(block).be32(at)
    }

    fn block_raw64(block: Self::Block, at: usize) -> u64 {
        SliceFrame(block).array(at).map_or(0, u64::from_ne_bytes)
    }
}
