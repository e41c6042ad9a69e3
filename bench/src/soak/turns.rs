//! At most one server at any time, from outside: who answered the observer, turn by turn, and whether each turn has a grant
//! of its own. Two that serve at once make turn upon turn of answers that come in between each other, without any grant.

use std::collections::VecDeque;

use agent_tests::lab::observer::{Answer, Turn};

use super::fault::NODES;

/// A grant may be told later than the first answer is heard.
const TOLD_NS: u64 = 2_000_000;
/// Grants that are remembered of each node.
const GRANTS_MAX: usize = 64;

/// Follows answers and grants.
#[derive(Debug, Default)]
pub struct Turns {
    open: Option<Turn>,
    /// Not yet judged: their grants may still be on their way.
    waiting: Vec<Waiting>,
    /// By node: its last answer.
    last_ns: [u64; NODES],
    grants: [VecDeque<u64>; NODES],
    answers: [u64; NODES],
    judged: usize,
    doubles: Vec<Turn>,
}

/// A turn, and when its node had answered before it.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    turn: Turn,
    before_ns: u64,
}

impl Turns {
    /// An answer that the observer heard, in order.
    pub fn answer(&mut self, answer: Answer) {
        if let Some(count) = self.answers.get_mut(answer.node) {
            *count += 1;
        }
        match &mut self.open {
            Some(turn) if turn.node == answer.node => turn.last_ns = answer.answered_ns,
            // It may have been given before this turn began.
            Some(turn) if answer.asked_ns <= turn.first_ns => {}
            Some(_) | None => {
                let turn =
                    Turn { node: answer.node, first_ns: answer.answered_ns, last_ns: answer.answered_ns };
                self.open = Some(turn);
                let before_ns = self.last_ns.get(answer.node).copied().unwrap_or(0);
                self.waiting.push(Waiting { turn, before_ns });
            }
        }
        let is_its_turn = self.open.is_some_and(|turn| turn.node == answer.node);
        if let Some(last_ns) = self.last_ns.get_mut(answer.node).filter(|_| is_its_turn) {
            *last_ns = answer.answered_ns;
        }
    }

    /// A node says that it was granted the lease.
    pub fn grant(&mut self, node: usize, at_ns: u64) {
        if let Some(grants) = self.grants.get_mut(node) {
            if grants.len() == GRANTS_MAX {
                grants.pop_front();
            }
            grants.push_back(at_ns);
        }
    }

    /// Judges all turns that began before `before_ns`: everything granted until then has been told.
    pub fn judge(&mut self, before_ns: u64) {
        let (ripe, rest): (Vec<Waiting>, Vec<Waiting>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|one| one.turn.first_ns < before_ns);
        self.waiting = rest;
        for Waiting { turn, before_ns } in ripe {
            self.judged += 1;
            let mut grants = self.grants.get(turn.node).into_iter().flatten();
            // One from before its last answer was for the turn before.
            if !grants.any(|grant_ns| (before_ns..=turn.first_ns + TOLD_NS).contains(grant_ns)) {
                self.doubles.push(turn);
            }
        }
    }

    /// Turns without a grant of their own: somebody else was, or could have been, the one server.
    pub fn doubles(&self) -> &[Turn] {
        &self.doubles
    }

    /// Turns judged so far.
    pub const fn judged(&self) -> usize {
        self.judged
    }

    /// Answers of each node.
    pub const fn answers(&self) -> [u64; NODES] {
        self.answers
    }
}

#[cfg(test)]
mod tests {
    use agent_tests::lab::observer::{Answer, By};

    use super::Turns;

    const MS: u64 = 1_000_000;

    fn answer(node: usize, at_ms: u64) -> Answer {
        Answer { node, by: By::Udp, asked_ns: at_ms * MS, answered_ns: at_ms * MS + MS / 10 }
    }

    #[test]
    fn a_turn_for_each_grant_is_well() {
        let mut turns = Turns::default();
        for (node, from_ms) in [(0, 100), (1, 200), (0, 300)] {
            turns.grant(node, from_ms * MS);
            (1..50).for_each(|ms| turns.answer(answer(node, from_ms + ms)));
        }
        turns.judge(1_000 * MS);
        assert_eq!((turns.judged(), turns.doubles().len()), (3, 0));
        assert_eq!(turns.answers(), [98, 49, 0, 0, 0]);
    }

    #[test]
    fn a_second_server_is_seen() {
        let mut turns = Turns::default();
        turns.grant(0, 0);
        turns.answer(answer(0, 10));
        turns.answer(answer(1, 12));
        turns.answer(answer(0, 14));
        turns.judge(1_000 * MS);
        // Neither of the two was granted anything in between.
        assert_eq!(turns.doubles().iter().map(|turn| turn.node).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn both_with_a_grant_but_at_once_is_seen() {
        let mut turns = Turns::default();
        turns.grant(0, 0);
        turns.grant(1, 5 * MS);
        for ms in 10..20 {
            turns.answer(answer(0, 2 * ms));
            turns.answer(answer(1, 2 * ms + 1));
        }
        turns.judge(1_000 * MS);
        assert_eq!((turns.judged(), turns.doubles().len()), (20, 18));
    }

    #[test]
    fn an_answer_that_was_given_before_is_no_turn() {
        let mut turns = Turns::default();
        turns.grant(0, 0);
        turns.answer(answer(0, 10));
        turns.grant(1, 20 * MS);
        turns.answer(answer(1, 21));
        // Asked before the other's first answer, and read after it.
        turns.answer(Answer { asked_ns: 20 * MS, ..answer(0, 22) });
        turns.answer(answer(1, 23));
        turns.judge(1_000 * MS);
        assert_eq!((turns.judged(), turns.doubles().len()), (2, 0));
    }
}
