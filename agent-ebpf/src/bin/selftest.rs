//! A program for tests only: the kernel's SHA-256 and HMAC over blocks of a packet, so that published vectors can be
//! checked where the digest of heartbeats is computed. It shares `digest.rs` with the product, and nothing else.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
#[path = "../digest.rs"]
mod digest;

#[cfg(target_arch = "bpf")]
mod maps {
    use agent_common::{maps::KeyState, sha256::Work};
    use aya_ebpf::{
        macros::map,
        maps::{Array, PerCpuArray},
    };

    /// The key, for HMAC.
    #[map]
    pub(crate) static KEY: Array<KeyState> = Array::with_max_entries(1, 0);
    /// The digest's words in native order.
    #[map]
    pub(crate) static RESULT: Array<[u32; 8]> = Array::with_max_entries(1, 0);
    #[map]
    static HASH: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

    /// This processor's hash in progress.
    #[inline(always)]
    pub(crate) fn hash() -> Option<*mut Work> {
        HASH.get_ptr_mut(0)
    }
}

#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
mod program {
    use agent_common::{
        hmac::outer,
        sha256::{Hasher as _, INITIAL, double, store},
    };
    use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

    use crate::{digest::KernelHasher, maps};

    /// The packet's first byte: what to compute.
    const HMAC: u8 = 1;
    /// Where the first block starts, after kind and number of blocks.
    const BLOCKS_AT: usize = 16;
    const BLOCKS_MAX: usize = 8;

    /// `XDP_TX` when the digest stands in the map.
    #[xdp]
    fn selftest_hmac(ctx: XdpContext) -> u32 {
        digest(&ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_TX)
    }

    #[inline(always)]
    fn digest(ctx: &XdpContext) -> Option<()> {
        let [kind, blocks, ..] = word(ctx, 0)?.to_be_bytes();
        let key = maps::KEY.get(0)?;
        let mut hasher = KernelHasher::new()?;
        hasher.work().state = if kind == HMAC { key.inner } else { INITIAL };
        let mut index = 0;
        while index < BLOCKS_MAX && index != usize::from(blocks) {
            let mut i = 0;
            while i < 16 {
                let word = word(ctx, BLOCKS_AT + 64 * index + 4 * i)?;
                store(&mut hasher.work().words, i, double(word));
                i += 1;
            }
            hasher.compress();
            index += 1;
        }
        if kind == HMAC {
            outer(key, &mut hasher);
        }
        let result = maps::RESULT.get_ptr_mut(0)?;
        // SAFETY: from the map, and one test runs at a time.
        unsafe { *result = hasher.work().state };
        Some(())
    }

    #[inline(always)]
    fn word(ctx: &XdpContext, at: usize) -> Option<u32> {
        let place = ctx.data() + at;
        if place + 4 > ctx.data_end() {
            return None;
        }
        // SAFETY: checked above.
        Some(u32::from_be(unsafe { core::ptr::read_volatile(place as *const u32) }))
    }

    /// Reaching it makes the verifier refuse the program.
    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    /// As of the product's programs.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
