//! What loss does to the chosen intervals: how often a day a living node is expected to be taken for dead, and how often
//! a holder loses its lease, in closed form (runs of losses in Bernoulli trials: Feller, An Introduction to Probability
//! Theory and Its Applications, vol. 1, XIII.7). `xbeat check --loss` shows it.

use std::time::Duration;

use agent_common::NodeId;
use agent_core::config::Policy;
use thiserror::Error;

use crate::settings::{LinkSettings, Settings};

/// Seconds of a day.
const DAY: f64 = 86_400.0;
/// Part of its deadtime that a holder counts on: 2/1000 are for clocks that run apart.
const LEASE_PART: f64 = 1.0 - 2.0 / 1000.0;

/// Why a text is no loss.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LossError {
    /// No number, or none that is a part of a whole.
    #[error("`{0}` is not a loss: write a percentage as 1%, or a fraction as 0.01, above 0 and below 100%")]
    Loss(String),
    /// Shorter than losses that know nothing of each other come by chance.
    #[error(
        "`{0}` is not the mean length of a burst: write how many heartbeats are lost in a row, 1 to 1000"
    )]
    Burst(String),
}

/// How frames are lost on a link: each link for itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Part of the frames.
    pub part: f64,
    /// That the frame after a lost one is lost too: `part` itself when losses know nothing of each other.
    pub again: f64,
}

impl Loss {
    /// Losses that know nothing of each other.
    pub const fn independent(part: f64) -> Self {
        Self { part, again: part }
    }

    /// Losses in bursts of `length` frames in the mean (Gilbert's model: all is lost in a burst, and nothing outside).
    /// Never shorter than chance makes them.
    pub fn bursts(part: f64, length: f64) -> Self {
        Self { part, again: (1.0 - 1.0 / length.max(1.0)).max(part) }
    }

    /// That so many frames in a row are lost.
    fn run(self, frames: u32) -> f64 {
        match frames.checked_sub(1) {
            None => 1.0,
            Some(more) => self.part * power(self.again, more),
        }
    }
}

/// Reads `1%` or `0.01`.
///
/// # Errors
/// When it is neither, or not between nothing and everything.
pub fn part(text: &str) -> Result<f64, LossError> {
    let written = text.trim();
    let value = match written.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => written.parse::<f64>(),
    };
    match value {
        Ok(part) if part > 0.0 && part < 1.0 => Ok(part),
        Ok(_) | Err(_) => Err(LossError::Loss(text.to_owned())),
    }
}

/// Reads the mean length of a burst, in frames.
///
/// # Errors
/// When it is no number from 1 to 1000.
pub fn burst(text: &str) -> Result<f64, LossError> {
    match text.trim().parse::<f64>() {
        Ok(length) if (1.0..=1000.0).contains(&length) => Ok(length),
        Ok(_) | Err(_) => Err(LossError::Burst(text.to_owned())),
    }
}

/// How many heartbeats lost in a row are a death. The heartbeat that is due in the very moment of the deadtime is counted
/// as too late: whether it comes in time is for jitter to say.
pub fn deadly_run(keepalive: Duration, deadtime: Duration) -> u32 {
    let (every, dead) = (keepalive.as_nanos().max(1), deadtime.as_nanos());
    u32::try_from(dead.div_ceil(every).saturating_sub(1)).unwrap_or(u32::MAX)
}

/// Expected false deaths a day of a peer whose heartbeats come at `keepalive` and over links of these paces, each `pace`
/// the link's own interval: a heartbeat is lost when every link lost it that carried it.
///
/// With F(w) the probability that w heartbeats in a row are lost, silences longer than the deadtime begin at the rate
/// (F(n) - F(n + 1)) / keepalive, n being [`deadly_run`]; for one link of independent losses p that is p^n (1 - p) / keepalive.
pub fn false_deaths(keepalive: Duration, deadtime: Duration, paces: &[Duration], loss: Loss) -> f64 {
    let run = deadly_run(keepalive, deadtime);
    let all_lost =
        |beats: u32| -> f64 { paces.iter().map(|pace| link_lost(beats, keepalive, *pace, loss)).product() };
    let begins = (all_lost(run) - all_lost(run.saturating_add(1))).max(0.0);
    begins * DAY / keepalive.as_secs_f64()
}

/// That a link loses everything of so many heartbeats in a row. A slower link carries one of several, at a place that
/// knows nothing of the other links.
fn link_lost(beats: u32, keepalive: Duration, pace: Duration, loss: Loss) -> f64 {
    let carried = f64::from(beats) * keepalive.as_secs_f64() / pace.max(keepalive).as_secs_f64();
    let (whole, rest) = (carried.floor(), carried.fract());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most `beats`, and not negative"
    )]
    let frames = whole as u32;
    (1.0 - rest) * loss.run(frames) + rest * loss.run(frames.saturating_add(1))
}

/// Expected losses of a lease a day, at most: those of a holder that needs the acknowledgements of `needed` of `others`
/// voters, each heartbeat being lost with `part`, in both directions.
///
/// A voter's promise is over when no heartbeat of the last deadtime arrived and was acknowledged by a later one that came
/// back: of m heartbeats each way, p^m (1 + m (1 - p)). Every loss of the lease is a keepalive with too few promises,
/// so their rate bounds that of the losses.
pub fn lost_leases(keepalive: Duration, deadtime: Duration, part: f64, needed: u32, others: u32) -> f64 {
    let counted = deadtime.mul_f64(LEASE_PART);
    let run = deadly_run(keepalive, counted);
    // The answer to the last of them is back in time if it was sent in this part of the interval.
    let rest = counted.as_secs_f64() / keepalive.as_secs_f64() - f64::from(run);
    let over = |beats: u32| power(part, beats) * (1.0 + f64::from(beats) * (1.0 - part));
    let silent = (rest * over(run) + (1.0 - rest) * over(run.saturating_sub(1))).clamp(0.0, 1.0);
    let too_few: f64 = (0..needed.min(others + 1)).map(|heard| binomial(others, heard, 1.0 - silent)).sum();
    too_few * DAY / keepalive.as_secs_f64()
}

fn binomial(of: u32, hits: u32, probability: f64) -> f64 {
    let ways: f64 = (0..hits).map(|index| f64::from(of - index) / f64::from(index + 1)).product();
    ways * power(probability, hits) * power(1.0 - probability, of - hits)
}

fn power(base: f64, exponent: u32) -> f64 {
    base.powi(i32::try_from(exponent).unwrap_or(i32::MAX))
}

/// What is expected of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// How many heartbeats lost in a row are a death.
    pub run: u32,
    /// False deaths a day in the eyes of one peer, by link: with that link alone, and its place in the settings.
    pub alone: Vec<(usize, f64)>,
    /// False deaths a day of one node in the eyes of one peer, with all the links between them: of the worst pair.
    pub pair: f64,
    /// The same of all pairs together, both directions.
    pub cluster: f64,
    /// Losses of a lease a day, at most; `None` where it does not rest on a majority of others.
    pub leases: Option<f64>,
}

/// What is expected of `settings` when every link loses frames like `loss`.
pub fn expectation(settings: &Settings, loss: Loss) -> Expectation {
    let timing = &settings.timing;
    let deaths = |paces: &[Duration]| false_deaths(timing.keepalive, timing.deadtime, paces, loss);
    let nodes: Vec<NodeId> = NodeId::all().take(settings.listed()).collect();
    let shared = |a: NodeId, b: NodeId| {
        settings
            .links
            .iter()
            .filter(move |link| link.reaches(a) && link.reaches(b))
            .map(|link| link.keepalive)
    };
    let (mut pair, mut cluster) = (0.0_f64, 0.0);
    for a in &nodes {
        for b in nodes.iter().filter(|b| *b != a) {
            let expected = deaths(&shared(*a, *b).collect::<Vec<Duration>>());
            pair = pair.max(expected);
            cluster += expected;
        }
    }
    // A link that cannot carry a heartbeat within the deadtime keeps nobody alive.
    let carries = |link: &LinkSettings| link.keepalive < timing.deadtime;
    let links = settings.links.iter().enumerate().filter(|(_, link)| carries(link));
    let alone = links.map(|(place, link)| (place, deaths(&[link.keepalive]))).collect();
    Expectation {
        run: deadly_run(timing.keepalive, timing.deadtime),
        alone,
        pair,
        cluster,
        leases: leases(settings, loss.part),
    }
}

/// Only the links that carry every heartbeat are counted on, as many as the worst pair has: the others make it better.
fn leases(settings: &Settings, part: f64) -> Option<f64> {
    let timing = &settings.timing;
    let voters: Vec<NodeId> = NodeId::all().take(settings.listed()).collect();
    let pairs = voters.iter().flat_map(|a| voters.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b);
    let fast = |(a, b): (NodeId, NodeId)| {
        let shared = settings.links.iter().filter(|link| link.reaches(a) && link.reaches(b));
        shared.filter(|link| link.keepalive <= timing.keepalive).count()
    };
    let links = u32::try_from(pairs.map(fast).min()?).ok()?;
    let votes = u32::try_from(voters.len()).ok()?;
    match settings.quorum.policy {
        Policy::Majority if links > 0 => {
            let lost = power(part, links);
            Some(lost_leases(timing.keepalive, timing.deadtime, lost, votes / 2, votes - 1))
        }
        Policy::Majority | Policy::TwoNode(_) => None,
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
