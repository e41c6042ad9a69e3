//! What is expected: false deaths in closed form, and between which counts 95 of 100 runs lie if it is right.
//!
//! A node is dead when `n` heartbeats in a row are lost on all links, `n` being as many as fit into the deadtime. With F(n)
//! the probability that a given `n` in a row are, such runs begin at the rate (F(n) - F(n + 1)) / keepalive (for independent
//! losses: Feller, An Introduction to Probability Theory and Its Applications, vol. 1, XIII.7). A link in Gilbert's model
//! that loses the part `p` in bursts of mean length `L` has F(n) = p (1 - 1/L)^(n - 1): its chain of two states is
//! stationary, and a burst goes on with 1 - 1/L. Links are independent, so that their F multiply.

use std::time::Duration;

use agent_tests::lab::loss::Channel;
use xbeat::loss::{Loss, false_deaths};

use super::{INTERVAL, Setup, Subject};

/// Below that many expected deaths of a run, "none" says little.
const TELLING: f64 = 0.5;

/// False deaths an hour in the eyes of one node.
pub fn deaths_per_hour(keepalive: Duration, deadtime: Duration, links: usize, channel: Channel) -> f64 {
    let loss = match channel {
        Channel::Independent(part) => Loss::independent(part),
        Channel::Bursts { loss, length } => Loss::bursts(loss, length),
    };
    false_deaths(keepalive, deadtime, &vec![keepalive; links], loss) / 24.0
}

/// Of a cluster: with the last heartbeat of its deadtime in time, and too late. Both are the same where it does not race with
/// the deadline.
pub fn expected(setup: &Setup, channel: Channel) -> (f64, f64) {
    let of = |deadtime| deaths_per_hour(setup.keepalive(), deadtime, setup.links, channel);
    let most = of(setup.deadtime());
    match setup.subject {
        Subject::Xbeat | Subject::Sockets => (most, most),
        Subject::Edge | Subject::Peer(_) => (of(setup.deadtime() + INTERVAL / 2), most),
    }
}

/// The counts between which a Poisson variable of this mean lies with at least 95 %, at most 2.5 % on either side.
pub fn interval(mean: f64) -> (usize, usize) {
    let most = (mean + 12.0 * mean.sqrt() + 30.0) as usize;
    let (mut below, mut log_part) = (0.0, -mean);
    let mut low = None;
    for count in 0..most {
        if count > 0 {
            log_part += (mean / count as f64).ln();
        }
        below += log_part.exp();
        if low.is_none() && below > 0.025 {
            low = Some(count);
        }
        if below >= 0.975 {
            return (low.unwrap_or(0), count);
        }
    }
    (low.unwrap_or(0), most)
}

/// Whether so many are within that interval; `None` when too few are expected and seen to tell.
pub fn agrees(seen: usize, mean: f64) -> Option<bool> {
    if mean < TELLING && seen == 0 {
        return None;
    }
    let (low, high) = interval(mean);
    Some((low..=high).contains(&seen))
}

/// Above this rate, nothing would have been seen in so many hours less than once in twenty times.
pub fn bound(hours: f64) -> f64 {
    20_f64.ln() / hours
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agent_tests::lab::loss::Channel;

    use super::{agrees, deaths_per_hour, expected, interval};
    use crate::loss::{COUNTS, INTERVAL, KEEPALIVE, Setup, Subject};

    /// Runs of at least `count` frames lost on both of `links`, in a chain that is thrown frame by frame.
    fn thrown(count: u32, links: usize, channel: Channel, frames: u64) -> f64 {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut bad = vec![false; links];
        let (mut run, mut deaths) = (0, 0_u64);
        for _ in 0..frames {
            for link in &mut bad {
                *link = match (channel, *link) {
                    (Channel::Independent(loss), _) => random() < loss,
                    (Channel::Bursts { length, .. }, true) => random() >= 1.0 / length,
                    (Channel::Bursts { loss, length }, false) => random() < loss / (1.0 - loss) / length,
                };
            }
            run = if bad.iter().all(|bad| *bad) { run + 1 } else { 0 };
            deaths += u64::from(run == count);
        }
        deaths as f64 / (frames as f64 * KEEPALIVE.as_secs_f64() / 3600.0)
    }

    #[test]
    fn the_closed_form_is_what_a_thrown_chain_shows() {
        let bursts = Channel::Bursts { loss: 0.3, length: 5.0 };
        for (count, links, channel) in [
            (3, 1, Channel::Independent(0.3)),
            (5, 1, Channel::Independent(0.5)),
            (3, 2, Channel::Independent(0.5)),
            (5, 1, bursts),
            (10, 1, Channel::Bursts { loss: 0.1, length: 20.0 }),
            (3, 2, bursts),
        ] {
            let model = deaths_per_hour(KEEPALIVE, INTERVAL * count, links, channel);
            let seen = thrown(count, links, channel, 4_000_000);
            assert!(
                (seen / model - 1.0).abs() < 0.05,
                "{count} {links} {channel:?}: {seen}, expected {model}"
            );
        }
    }

    #[test]
    fn every_count_loses_as_many_heartbeats_as_it_says() {
        for count in COUNTS {
            let setup = Setup::new(Subject::Xbeat, 1, count);
            let run = f64::from(count);
            let expects = 0.5_f64.powf(run + 1.0) * 3600.0 / KEEPALIVE.as_secs_f64();
            let (low, high) = expected(&setup, Channel::Independent(0.5));
            assert!((low / expects - 1.0).abs() < 1e-9 && (high / expects - 1.0).abs() < 1e-9, "{count}");
            let edge = Setup::new(Subject::Edge, 1, count);
            let (low, high) = expected(&edge, Channel::Independent(0.5));
            assert!((high / low - 2.0).abs() < 1e-9, "one heartbeat less is twice as much: {low} {high}");
        }
        assert_eq!(Setup::new(Subject::Edge, 1, 3).deadtime(), Duration::from_millis(30));
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Quantiles of the Poisson distribution.
        assert_eq!(interval(1.0), (0, 3));
        assert_eq!(interval(10.0), (4, 17));
        assert_eq!(interval(100.0), (81, 120));
        let (low, high) = interval(1000.0);
        assert!((938..=939).contains(&low) && (1062..=1063).contains(&high), "{low} {high}");
        assert_eq!(agrees(0, 0.01), None);
        assert_eq!(agrees(3, 0.01), Some(false));
        assert_eq!(agrees(100, 100.0), Some(true));
        assert_eq!(agrees(121, 100.0), Some(false));
    }
}
