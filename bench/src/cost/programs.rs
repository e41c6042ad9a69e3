//! What the kernel counts of XDP programs: how often they ran, and for how long (`BPF_ENABLE_STATS`).

use std::os::fd::OwnedFd;
use std::time::Duration;

use agent_tests::lab::clock;
use anyhow::{Context as _, Result};
use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};

use agent_tests::kernel::XDP;

/// The product's XDP programs that were loaded since [`Loaded::before`].
pub struct Loaded {
    known: Vec<u32>,
}

/// Runs of programs.
#[derive(Clone, Copy, Default, Debug)]
pub struct Runs {
    /// How many.
    pub count: u64,
    /// How long all took, nanoseconds.
    pub ns: u64,
}

impl Runs {
    /// Of one, in nanoseconds; NaN without any.
    pub fn mean_ns(self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.ns as f64 / self.count as f64 }
    }
}

impl Loaded {
    /// Those that are there now do not count.
    pub fn before() -> Self {
        Self { known: all().map(|program| program.id()).collect() }
    }

    /// What the others do in `span`, with the kernel's statistics on meanwhile: two readings of the clock more for each run.
    ///
    /// # Errors
    /// The kernel does not count, or the user interrupted.
    pub fn runs(&self, span: Duration) -> Result<Runs> {
        let _counting: OwnedFd = enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS")?;
        let before = self.sum();
        clock::pause(span)?;
        let after = self.sum();
        Ok(Runs { count: after.count - before.count, ns: after.ns - before.ns })
    }

    fn sum(&self) -> Runs {
        let ours = all().filter(|program| !self.known.contains(&program.id()));
        ours.fold(Runs::default(), |sum, program| Runs {
            count: sum.count + program.run_count(),
            ns: sum.ns + program.run_time().as_nanos() as u64,
        })
    }
}

/// One that goes away meanwhile is left out.
fn all() -> impl Iterator<Item = ProgramInfo> {
    loaded_programs().flatten().filter(|program| program.name() == XDP.as_bytes())
}
