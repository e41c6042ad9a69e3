//! The kernel's clock: CLOCK_MONOTONIC, which the agent reads too, so that a stamp is a time of the core.

use aya_ebpf::helpers::bpf_ktime_get_ns;

/// A stamp in ns of CLOCK_MONOTONIC.
#[derive(Clone, Copy)]
pub(crate) struct KernelInstant(pub(crate) u64);

impl KernelInstant {
    /// Now. Costs 35 to 40 ns: ask once, and only for a frame that is authentic.
    #[inline(always)]
    pub(crate) fn now() -> Self {
        // SAFETY: the helper takes nothing and is allowed in every XDP program.
        Self(unsafe { bpf_ktime_get_ns() })
    }
}
