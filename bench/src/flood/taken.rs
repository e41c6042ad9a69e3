//! What the victim's kernel did with a flood: frames that its interface had no room for, and time in softirqs.

use std::fs;

use agent_tests::lab::network::{Network, Port};
use anyhow::{Context as _, Result};

/// `USER_HZ`, which the kernel keeps at 100 for programs.
const TICK_SECONDS: f64 = 0.01;

/// Up to now.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Frames that found the ring of the victim's interface full. A veth counts them at the other end.
    pub dropped: u64,
    /// Of all processors, as the timer tick saw it.
    pub softirq_seconds: f64,
}

impl Taken {
    /// Of the host at `port`.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn until_now(network: &Network, port: Port) -> Result<Self> {
        let name = port.name();
        let dropped = network.switch().run(|| {
            let text = fs::read_to_string("/proc/thread-self/net/dev").context("cannot read net/dev")?;
            let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}:")));
            // Eight columns of what was received; then bytes, packets, errors and drops of what was sent.
            let column = line.and_then(|line| line.split_whitespace().nth(11)).context("no such port")?;
            Ok(column.parse::<u64>()?)
        })?;
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let ticks = stat.lines().next().and_then(|line| line.split_whitespace().nth(7));
        let ticks: f64 = ticks.context("/proc/stat has no softirq")?.parse()?;
        Ok(Self { dropped, softirq_seconds: ticks * TICK_SECONDS })
    }
}
