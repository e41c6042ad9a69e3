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
        parse::{Context as _, HEADERS_MAX, Packet, headers},
    };

    /// `TCX_NEXT` and `TC_ACT_UNSPEC`: whoever else is asked decides.
    const NEXT: i32 = -1;
    /// `TCX_DROP` and `TC_ACT_SHOT`.
    const SHOT: i32 = 2;
    /// Bytes that must be there before anything is known of an arriving packet.
    const LOOK_LEN: usize = if HEADERS_MAX > gate::LOOK_LEN { HEADERS_MAX } else { gate::LOOK_LEN };

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
        pull(&ctx, LOOK_LEN);
        // A datagram to one of our ports is read to its end; all others are judged by their headers.
        if headers(Packet::of(&ctx)).is_some_and(|datagram| heartbeat::is_to_a_port(&datagram)) {
            pull(&ctx, usize::MAX);
        }
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
        pull(&ctx, gate::LOOK_LEN);
        if gate::shuts_in(Packet::of(&ctx)) { SHOT } else { NEXT }
    }

    /// Brings the first `len` bytes of a packet into its first piece, where a program can read them, if there are as
    /// many. If that fails, it is nobody's. What was read of the packet before must be read afresh.
    #[inline(always)]
    fn pull(ctx: &TcContext, len: usize) {
        let linear = ctx.end() - ctx.start();
        let whole = ctx.len() as usize;
        if linear < len && linear < whole {
            let _ = ctx.pull_data(whole.min(len) as u32);
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
