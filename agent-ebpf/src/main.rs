//! The programs of xbeat that run in the kernel: parse, validate, record, verdict.
//! Built for `bpfel-unknown-none` by `cargo xtask build-ebpf`; on the host this is an empty program.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod digest;
#[cfg(target_arch = "bpf")]
mod heartbeat;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod parse;
#[cfg(target_arch = "bpf")]
mod time;

#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
mod program {
    use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

    use crate::heartbeat::{self, Verdict};

    /// Ingress of an interface that carries links of the cluster.
    #[xdp]
    fn xbeat(ctx: XdpContext) -> u32 {
        let verdict = heartbeat::handle(&ctx);
        #[cfg(feature = "debug-log")]
        log(&ctx, &verdict);
        match verdict {
            // Invariant I7: what is not provably ours goes on unchanged.
            Verdict::Foreign => xdp_action::XDP_PASS,
            Verdict::Heard => xdp_action::XDP_DROP,
            Verdict::Refused(reason) if reason.passes() => xdp_action::XDP_PASS,
            Verdict::Refused(_) => xdp_action::XDP_DROP,
        }
    }

    #[cfg(feature = "debug-log")]
    fn log(ctx: &XdpContext, verdict: &Verdict) {
        match verdict {
            Verdict::Foreign => {}
            Verdict::Heard => aya_log_ebpf::debug!(ctx, "heard"),
            Verdict::Refused(reason) => aya_log_ebpf::debug!(ctx, "refused: {}", reason.index()),
        }
    }

    /// Reaching it makes the verifier refuse the program: a panic is an error at load time, never at run time.
    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    /// The licence that the kernel sees: some helpers are for GPL-compatible programs only.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
