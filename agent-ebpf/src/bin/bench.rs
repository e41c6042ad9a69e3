//! Programs for the benchmarks only. A test-run repeats one packet, and the product refuses a heartbeat that it has
//! heard; so one wrapper takes the sender's window back before it calls the product's own handler, and each repetition
//! is a steady heartbeat, above everything heard and with no news. Taking back costs a lookup and three stores.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
#[path = "../digest.rs"]
mod digest;
#[cfg(target_arch = "bpf")]
#[path = "../gate_bar.rs"]
mod gate_bar;
#[cfg(target_arch = "bpf")]
#[path = "../heartbeat.rs"]
mod heartbeat;
#[cfg(target_arch = "bpf")]
#[path = "../maps.rs"]
mod maps;
#[cfg(target_arch = "bpf")]
#[path = "../parse.rs"]
mod parse;
#[cfg(target_arch = "bpf")]
#[path = "../time.rs"]
mod time;

#[cfg(target_arch = "bpf")]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context over")]
mod program {
    use agent_common::NodeId;
    use aya_ebpf::{
        bindings::xdp_action,
        macros::{classifier, xdp},
        programs::{TcContext, XdpContext},
    };

    use crate::{heartbeat, heartbeat::Verdict, maps};

    /// Whose heartbeats the benchmark sends, on link 0.
    const SENDER: u8 = 1;
    /// About as long as a heartbeat takes.
    const REFERENCE_ROUNDS: u64 = 200;

    /// Handles a heartbeat of [`SENDER`] as if it had not been heard.
    #[xdp]
    fn bench_accepted(ctx: XdpContext) -> u32 {
        let Some(sender) = NodeId::new(SENDER) else { return xdp_action::XDP_ABORTED };
        let Ok(window) = maps::window(sender) else { return xdp_action::XDP_ABORTED };
        // SAFETY: from the map, and the benchmark runs on one processor.
        let window = unsafe { &mut (*window).window };
        window.top = 0;
        window.links[0].top = 0;
        window.links[0].bits = 0;
        match heartbeat::handle(&ctx) {
            Verdict::Heard => xdp_action::XDP_DROP,
            Verdict::Foreign => xdp_action::XDP_PASS,
            Verdict::Refused(reason) if reason.passes() => xdp_action::XDP_PASS,
            Verdict::Refused(_) => xdp_action::XDP_ABORTED,
        }
    }

    /// The product without its gate, to tell what the gate adds.
    #[xdp]
    fn bench_ungated(ctx: XdpContext) -> u32 {
        match heartbeat::handle(&ctx) {
            Verdict::Foreign => xdp_action::XDP_PASS,
            Verdict::Heard => xdp_action::XDP_DROP,
            Verdict::Refused(reason) if reason.passes() => xdp_action::XDP_PASS,
            Verdict::Refused(_) => xdp_action::XDP_DROP,
        }
    }

    /// Nothing, which costs as much as a test-run does by itself.
    #[classifier]
    fn bench_nothing(_ctx: TcContext) -> i32 {
        -1
    }

    /// The same arithmetic on every machine: what other programs' times are divided by.
    #[xdp]
    fn bench_reference(_ctx: XdpContext) -> u32 {
        let mut lanes = core::hint::black_box([1u64, 2, 3, 5]);
        for round in 0..REFERENCE_ROUNDS {
            for lane in &mut lanes {
                *lane = (*lane ^ (*lane << 13)).wrapping_add(round);
                *lane ^= *lane >> 7;
                *lane = lane.wrapping_mul(0x9e37_79b9);
            }
        }
        let [a, b, c, d] = core::hint::black_box(lanes);
        // Never so, which nobody but the processor knows.
        if a ^ b ^ c ^ d == 0 { xdp_action::XDP_ABORTED } else { xdp_action::XDP_PASS }
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
