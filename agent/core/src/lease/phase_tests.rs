//! Tests of `phase`: the whole table.

use super::Input::{Ask, Close, GiveUp, Gone, RanOut, Won};
use super::Phase::{self, Asking, Holding, Idle, Lost, Releasing};
use super::next;

#[test]
fn every_phase_and_input_has_its_successor() {
    let inputs = [Ask, Won, RanOut, GiveUp, Close, Gone];
    #[rustfmt::skip]
    let table: [(Phase, [Phase; 6]); 5] = [
        (Idle,      [Asking,    Idle,      Idle,      Idle,      Idle,      Idle]),
        (Asking,    [Asking,    Holding,   Asking,    Idle,      Idle,      Asking]),
        (Holding,   [Holding,   Holding,   Lost,      Holding,   Releasing, Holding]),
        (Lost,      [Lost,      Holding,   Lost,      Releasing, Releasing, Lost]),
        (Releasing, [Releasing, Releasing, Releasing, Releasing, Releasing, Idle]),
    ];
    for (phase, row) in table {
        for (input, expected) in inputs.into_iter().zip(row) {
            assert_eq!(next(phase, input), expected, "{phase:?} {input:?}");
        }
    }
}
