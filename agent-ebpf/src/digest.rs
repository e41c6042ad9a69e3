//! SHA-256 in the kernel: a global function of its own, which the verifier walks once, however many blocks a frame has.
//! Kernels before 5.12 pass no pointers to such functions, so it finds its work in this processor's memory.

use agent_common::sha256::{Hasher, Work, compress};

use crate::maps;

/// One block of this processor's hash in progress.
///
/// Exported, or the linker makes it local, and the verifier walks it at every call: 3,300 instructions each.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xbeat_compress() -> u32 {
    let Some(work) = maps::hash() else { return 1 };
    // SAFETY: this processor's own memory, from the map; the caller holds no reference across the call.
    compress(unsafe { &mut *work });
    0
}

/// This processor's hash in progress.
pub(crate) struct KernelHasher(*mut Work);

impl KernelHasher {
    /// `None` never happens, but the verifier wants it handled.
    #[inline(always)]
    pub(crate) fn new() -> Option<Self> {
        maps::hash().map(Self)
    }
}

impl Hasher for KernelHasher {
    #[inline(always)]
    fn work(&mut self) -> &mut Work {
        // SAFETY: this processor's own memory, from the map, and no other program runs on it meanwhile.
        unsafe { &mut *self.0 }
    }

    #[inline(always)]
    fn compress(&mut self) {
        xbeat_compress();
    }
}
