//! Times without an answer to the client, and whether a fault was there.

use agent_tests::lab::client::Answer;
use agent_tests::lab::clock;

use super::fault::Kind;

/// What is shorter is not recorded: the client asks once a millisecond.
pub const LEAST_NS: u64 = 10_000_000;

/// A time without service.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outage {
    /// The sending of the last answered probe before.
    pub from_ns: u64,
    /// The sending of the first answered probe after.
    pub to_ns: u64,
}

impl Outage {
    /// Its length.
    pub fn ms(&self) -> f64 {
        clock::ms_between(self.from_ns, self.to_ns)
    }
}

/// A round: one fault or two at once, from the first stroke until everything is whole again.
#[derive(Clone, Debug)]
pub struct Round {
    /// What was done.
    pub kind: Kind,
    /// In words.
    pub what: String,
    /// The first stroke.
    pub from_ns: u64,
    /// The last mending.
    pub mended_ns: u64,
    /// All whole again; `None` if not within the bound.
    pub whole_ns: Option<u64>,
    /// The longest outage in it.
    pub outage_ms: f64,
}

impl Round {
    /// From mended to whole.
    pub fn recovery_ms(&self) -> Option<f64> {
        self.whole_ns.map(|whole_ns| clock::ms_between(self.mended_ns, whole_ns))
    }
}

/// Finds outages in a stream of answers.
#[derive(Debug, Default)]
pub struct Outages {
    last_ns: Option<u64>,
    answered: u64,
}

impl Outages {
    /// The next answers, in order of sending.
    pub fn take(&mut self, answers: &[Answer]) -> Vec<Outage> {
        let mut found = Vec::new();
        for answer in answers {
            self.answered += 1;
            if let Some(from_ns) = self.last_ns.replace(answer.sent_ns)
                && answer.sent_ns.saturating_sub(from_ns) >= LEAST_NS
            {
                found.push(Outage { from_ns, to_ns: answer.sent_ns });
            }
        }
        found
    }

    /// Answers seen.
    pub const fn answered(&self) -> u64 {
        self.answered
    }
}

#[cfg(test)]
mod tests {
    use agent_tests::lab::client::Answer;

    use super::Outages;

    #[test]
    fn a_gap_is_found_also_between_two_takes() {
        let answer = |ms: u64| Answer { sent_ns: ms * 1_000_000, answered_ns: 0, node: 0 };
        let mut outages = Outages::default();
        assert!(outages.take(&[answer(1), answer(2), answer(9)]).is_empty());
        let found = outages.take(&[answer(60), answer(61)]);
        assert_eq!(found.len(), 1);
        assert!((found[0].ms() - 51.0).abs() < 1e-9);
        assert_eq!(outages.answered(), 5);
    }
}
