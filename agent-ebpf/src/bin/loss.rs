//! Loses frames for the benchmarks, and counts exactly what it lost: independently, or in bursts by the model of Gilbert and
//! Elliott (Elliott, "Estimates of error rates for codes on burst-noise channels", 1963). A classifier on the switch's port
//! towards a node, so that neither the node's XDP program nor any other software on it sees a lost frame.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
mod program {
    use agent_common::loss::{Loss, LossCount};
    use aya_ebpf::{
        helpers::generated::bpf_get_prandom_u32,
        macros::{classifier, map},
        maps::{Array, PerCpuArray},
        programs::TcContext,
    };

    const NEXT: i32 = -1;
    const SHOT: i32 = 2;
    const ETHERNET_LEN: usize = 14;

    #[map]
    static LOSS: Array<Loss> = Array::with_max_entries(1, 0);
    /// 1 while the channel is bad.
    #[map]
    static IS_BAD: Array<u64> = Array::with_max_entries(1, 0);
    #[map]
    static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(LossCount::COUNT as u32, 0);

    #[classifier]
    fn xbeat_loss(ctx: TcContext) -> i32 {
        let Some(loss) = LOSS.get(0) else { return NEXT };
        if is_spared(&ctx, loss) {
            count(LossCount::Spared);
            return NEXT;
        }
        if is_lost(loss) {
            count(LossCount::Lost);
            return SHOT;
        }
        count(LossCount::Passed);
        NEXT
    }

    /// Frames of the client: its own loss is not what is measured.
    #[inline(always)]
    fn is_spared(ctx: &TcContext, loss: &Loss) -> bool {
        let start = ctx.data();
        if start + ETHERNET_LEN > ctx.data_end() {
            return true;
        }
        let mut i = 0;
        while i < 6 {
            // SAFETY: within the header that was just checked to be there.
            let byte = unsafe { core::ptr::read_volatile((start + 6 + i) as *const u8) };
            if byte != loss.spared[i] {
                return false;
            }
            i += 1;
        }
        true
    }

    #[inline(always)]
    fn is_lost(loss: &Loss) -> bool {
        let Some(is_bad) = IS_BAD.get_ptr_mut(0) else { return false };
        // SAFETY: from the map; two processors that race take one step for two.
        let was_bad = unsafe { core::ptr::read_volatile(is_bad) } != 0;
        let leaves = if was_bad { loss.to_good } else { loss.to_bad };
        let bad = was_bad != happens(leaves);
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(is_bad, u64::from(bad)) };
        happens(if bad { loss.bad } else { loss.good })
    }

    /// With a probability in parts of 2^32; all ones is always.
    #[inline(always)]
    fn happens(probability: u32) -> bool {
        // SAFETY: a helper without arguments.
        let random = unsafe { bpf_get_prandom_u32() };
        probability == u32::MAX || random < probability
    }

    #[inline(always)]
    fn count(what: LossCount) {
        if let Some(counter) = COUNTS.get_ptr_mut(what as u32) {
            // SAFETY: this processor's own value.
            unsafe { *counter += 1 };
        }
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
