//! Tests of `membership`: what each policy says to each number of living nodes.

use super::Standing::{TieBreakMissing, With, Without};
use super::standing;
use crate::config::Policy::{Majority, TwoNode};
use crate::config::TieBreak::{Always, Fence, Ping};

#[test]
fn every_policy_has_its_standing() {
    let table = [
        (1, 1, Majority, With),
        (1, 2, Majority, Without),
        (2, 2, Majority, With),
        (1, 3, Majority, Without),
        (2, 3, Majority, With),
        (2, 4, Majority, Without),
        (3, 4, Majority, With),
        (16, 32, Majority, Without),
        (17, 32, Majority, With),
        (1, 2, TwoNode(Always), With),
        (2, 2, TwoNode(Always), With),
        (1, 2, TwoNode(Fence), TieBreakMissing),
        (1, 2, TwoNode(Ping), TieBreakMissing),
        (2, 2, TwoNode(Fence), With),
        (2, 2, TwoNode(Ping), With),
    ];
    for (alive, nodes, policy, expected) in table {
        assert_eq!(standing(alive, nodes, policy), expected, "{alive} of {nodes} under {policy:?}");
    }
}
