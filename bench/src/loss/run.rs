//! The run: all clusters start, and only when all are whole frames are lost, at all of them at the same moment. Between two
//! channels nothing is lost until they are whole again. Nothing is set up or taken down while anything is measured.

use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::loss::Channel;
use anyhow::{Context as _, Result};
use serde::Serialize;

use super::machine::{Busy, Watch};
use super::rig::Rig;
use super::{Seen, Setup};
use crate::progress::Progress;

/// How long clusters may take to become whole again when nothing is lost any more; one that is not is said so.
pub const MEND: Duration = Duration::from_secs(12);
/// From the last of them being whole to the next loss.
const QUIET: Duration = Duration::from_secs(1);
/// From the begin of losses to the measuring: bursts are as frequent as they will be.
const BEGIN: Duration = Duration::from_secs(1);
/// What was said must have been read.
const READ: Duration = Duration::from_millis(300);

/// All of a run.
#[derive(Debug)]
pub struct Outcome {
    /// By cluster.
    pub cells: Vec<(Setup, Vec<Seen>)>,
    /// By channel.
    pub machine: Vec<MachineSeen>,
    /// Clusters of other software that did not become whole, and why.
    pub skipped: Vec<String>,
}

/// What the machine did meanwhile.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct MachineSeen {
    /// Part of the time of all CPUs.
    pub busy: f64,
    /// The latest wake-up of a thread above everything.
    pub late_max_ms: f64,
    /// Wake-ups more than 5 ms late.
    pub stalls: usize,
    /// Of what all frames are that were to be lost with the same probability.
    pub lost: f64,
    /// Clusters that were not whole at the begin.
    pub broken: usize,
}

/// How long it takes, roughly.
pub fn estimate(setups: usize, channels: usize, runs: usize, seconds: u64) -> Duration {
    let each = Duration::from_secs(seconds) + QUIET + BEGIN + READ + Duration::from_secs(3);
    Duration::from_secs(4) * u32::try_from(setups).unwrap_or(u32::MAX)
        + each * u32::try_from(channels * runs).unwrap_or(u32::MAX)
}

/// # Errors
/// A cluster does not come up, or the user interrupted.
pub fn run(setups: &[Setup], channels: &[Channel], runs: usize, seconds: u64) -> Result<Outcome> {
    let mut progress = Progress::new("loss", 2 * setups.len() + runs * channels.len());
    let mut rigs = Vec::new();
    for setup in setups {
        progress.at(format!("starting {}", setup.name()));
        rigs.push(Rig::start(*setup).with_context(|| format!("cannot start {}", setup.name()))?);
        progress.step();
    }
    let mut skipped = Vec::new();
    let (all, mut rigs) = (rigs, Vec::new());
    for mut rig in all {
        let name = rig.setup.name();
        progress.at(format!("waiting for {name}"));
        match rig.ready() {
            Ok(()) => rigs.push(rig),
            // Others flap on a busy machine: that is theirs to answer for.
            Err(error) if rig.setup.is_peer() && !clock::is_interrupted() => {
                skipped.push(format!("{name}: {error:#}"));
            }
            Err(error) => return Err(error.context(format!("{name} does not become whole"))),
        }
        progress.step();
    }
    let setups = rigs.iter().map(|rig| rig.setup);
    let mut cells: Vec<(Setup, Vec<Seen>)> =
        setups.map(|setup| (setup, vec![Seen::default(); channels.len()])).collect();
    let mut machine = vec![MachineSeen::default(); channels.len()];
    let watch = Watch::start()?;
    for _ in 0..runs {
        for (place, channel) in channels.iter().enumerate() {
            progress.at(super::label(*channel));
            let (seen, state) = one(&mut rigs, *channel, Duration::from_secs(seconds), &watch)?;
            for ((_, all), seen) in cells.iter_mut().zip(seen) {
                if let Some(all) = all.get_mut(place) {
                    all.add(seen);
                }
            }
            if let Some(all) = machine.get_mut(place) {
                all.add(state);
            }
            progress.step();
        }
    }
    Ok(Outcome { cells, machine, skipped })
}

/// One channel, at all clusters at once.
fn one(
    rigs: &mut [Rig],
    channel: Channel,
    span: Duration,
    watch: &Watch,
) -> Result<(Vec<Seen>, MachineSeen)> {
    let broken = mend(rigs)?;
    rigs.iter().try_for_each(Rig::clear)?;
    for rig in &mut *rigs {
        rig.set(channel)?;
    }
    clock::pause(BEGIN)?;
    let frames = rigs.iter().map(Rig::frames).collect::<Result<Vec<_>>>()?;
    drop(watch.take());
    let (busy, from_ns) = (Busy::now()?, clock::now_ns());
    clock::pause(span)?;
    let (to_ns, lateness) = (clock::now_ns(), watch.take());
    let busy = Busy::now()?.part_since(busy);
    let after = rigs.iter().map(Rig::frames).collect::<Result<Vec<_>>>()?;
    for rig in &mut *rigs {
        rig.set(Channel::Independent(0.0))?;
    }
    clock::pause(READ)?;
    let mut all = Vec::new();
    for ((rig, (before, after)), was_broken) in rigs.iter().zip(frames.iter().zip(&after)).zip(&broken) {
        let seen = rig.seen(from_ns, to_ns, &lateness)?;
        let (frames, lost) = (after.0 - before.0, after.1 - before.1);
        all.push(Seen { frames, lost, was_broken: *was_broken, ..seen });
    }
    let (frames, lost) = all.iter().fold((0, 0), |sum, seen| (sum.0 + seen.frames, sum.1 + seen.lost));
    let state = MachineSeen {
        busy,
        late_max_ms: lateness.max_ns as f64 / 1e6,
        stalls: lateness.stalls.len(),
        lost: lost as f64 / frames.max(1) as f64,
        broken: broken.iter().filter(|broken| **broken).count(),
    };
    Ok((all, state))
}

/// Waits until all are whole, and says who is not.
fn mend(rigs: &[Rig]) -> Result<Vec<bool>> {
    let end_ns = clock::now_ns() + clock::ns(MEND);
    let broken = || rigs.iter().map(|rig| !rig.is_whole()).collect::<Vec<bool>>();
    while broken().contains(&true) && clock::now_ns() < end_ns {
        clock::pause(Duration::from_millis(100))?;
    }
    clock::pause(QUIET)?;
    Ok(broken())
}

impl MachineSeen {
    fn add(&mut self, more: Self) {
        self.busy = self.busy.max(more.busy);
        self.late_max_ms = self.late_max_ms.max(more.late_max_ms);
        self.stalls += more.stalls;
        self.lost = more.lost;
        self.broken += more.broken;
    }
}
