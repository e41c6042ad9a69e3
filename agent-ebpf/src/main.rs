//! The programs of xbeat that run in the kernel: parse, validate, record, verdict.
//! Built for `bpfel-unknown-none` by `cargo xtask build-ebpf`; on the host this is an empty program.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod digest;
#[cfg(target_arch = "bpf")]
mod gate;
#[cfg(target_arch = "bpf")]
mod gate_bar;
#[cfg(target_arch = "bpf")]
mod gate_maps;
#[cfg(target_arch = "bpf")]
mod heartbeat;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod parse;
#[cfg(target_arch = "bpf")]
mod skb;
#[cfg(target_arch = "bpf")]
mod time;

#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
mod program {
    use aya_ebpf::{
        bindings::xdp_action,
        macros::{classifier, xdp},
        programs::{TcContext, XdpContext},
    };

    use crate::{
        gate,
        heartbeat::{self, Verdict},
        parse::Packet,
        skb,
    };

    /// `TCX_NEXT` and `TC_ACT_UNSPEC`: whoever else is asked decides.
    const NEXT: i32 = -1;
    /// `TCX_DROP` and `TC_ACT_SHOT`.
    const SHOT: i32 = 2;

    /// Ingress of an interface that carries links of the cluster or service addresses.
    #[xdp]
    fn xbeat(ctx: XdpContext) -> u32 {
        let verdict = heartbeat::handle(&ctx);
        #[cfg(feature = "debug-log")]
        log(&ctx, &verdict);
        match verdict {
            Verdict::Foreign if gate::shuts_out(Packet::of(&ctx)) => xdp_action::XDP_DROP,
            // Invariant I7: what is not provably ours goes on unchanged.
            Verdict::Foreign => xdp_action::XDP_PASS,
            Verdict::Heard => xdp_action::XDP_DROP,
            Verdict::Refused(reason) if reason.passes() => xdp_action::XDP_PASS,
            Verdict::Refused(_) => xdp_action::XDP_DROP,
        }
    }

    /// The same for an interface that takes no XDP program: one step later, at TCX or clsact ingress.
    #[classifier]
    fn xbeat_ingress(ctx: TcContext) -> i32 {
        skb::bring_arriving(&ctx);
        let verdict = heartbeat::handle(&ctx);
        match verdict {
            Verdict::Foreign if gate::shuts_out(Packet::of(&ctx)) => SHOT,
            Verdict::Foreign => NEXT,
            Verdict::Heard => SHOT,
            Verdict::Refused(reason) if reason.passes() => NEXT,
            Verdict::Refused(_) => SHOT,
        }
    }

    /// Egress of an interface that carries service addresses.
    #[classifier]
    fn xbeat_egress(ctx: TcContext) -> i32 {
        skb::bring_leaving(&ctx);
        if gate::shuts_in(Packet::of(&ctx)) { SHOT } else { NEXT }
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
