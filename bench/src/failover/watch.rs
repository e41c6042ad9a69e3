//! What client and observer make of a time: how long nobody answered, and for how long two nodes did.

use agent_tests::lab::clock;
use agent_tests::lab::observer::Turn;

/// Turns shorter than this are those of two nodes that serve at once: the observer asks each twice in 2 ms.
const TURN_MS: f64 = 10.0;

/// The longest time between two answered probes with an unanswered one between them, by their sending, in milliseconds; 0
/// where every probe was answered. A client that came late itself makes none.
pub(super) fn outage_ms(probes: &[(u64, Option<u8>)]) -> f64 {
    let (mut longest_ms, mut last_ns, mut is_missing) = (0.0_f64, None, false);
    for (sent_ns, answer) in probes {
        if answer.is_none() {
            is_missing = true;
            continue;
        }
        if let (true, Some(last_ns)) = (is_missing, last_ns) {
            longest_ms = longest_ms.max(clock::ms_between(last_ns, *sent_ns));
        }
        (last_ns, is_missing) = (Some(*sent_ns), false);
    }
    longest_ms
}

/// For how long two nodes answered, in milliseconds. The service may move, and move back: that makes long turns. Two nodes that
/// answer at once make a turn of nearly every answer.
pub(super) fn both_ms(turns: &[Turn]) -> f64 {
    let lengths = turns.iter().zip(turns.iter().skip(1));
    // The first turn begins with the watching, so its length says nothing.
    lengths
        .skip(1)
        .map(|(turn, next)| clock::ms_between(turn.first_ns, next.first_ns))
        .filter(|length_ms| *length_ms < TURN_MS)
        .fold(0.0, |sum, length_ms| sum + length_ms)
}

#[cfg(test)]
mod tests {
    use agent_tests::lab::observer::Turn;

    use super::{both_ms, outage_ms};

    const MS: u64 = 1_000_000;

    #[test]
    fn an_outage_needs_an_unanswered_probe() {
        let probes = |answered: &[(u64, bool)]| {
            answered.iter().map(|(at, is)| (at * MS, is.then_some(1))).collect::<Vec<_>>()
        };
        let of = |answered: &[(u64, bool)]| outage_ms(&probes(answered));
        assert!(of(&[]) == 0.0);
        // The client itself stood still.
        assert!(of(&[(1, true), (30, true), (31, true)]) == 0.0);
        assert!((of(&[(1, true), (2, false), (3, false), (4, true)]) - 3.0).abs() < 1e-9);
        // The longest of two; what has no end yet is none.
        assert!(
            (of(&[(1, true), (2, false), (3, true), (4, false), (9, true), (10, false), (99, false)]) - 6.0)
                .abs()
                < 1e-9
        );
    }

    #[test]
    fn a_service_that_moves_is_not_two() {
        let turn =
            |node: usize, first_ms: u64| Turn { node, first_ns: first_ms * MS, last_ns: first_ms * MS };
        // Moves, and moves back much later.
        assert!(both_ms(&[turn(0, 0), turn(1, 30), turn(0, 400)]) == 0.0);
        // Both for 6 ms.
        let both = [turn(0, 0), turn(1, 30), turn(0, 32), turn(1, 34), turn(0, 36)];
        assert!((both_ms(&both) - 6.0).abs() < 1e-9);
        assert!(both_ms(&[]) == 0.0);
    }
}
