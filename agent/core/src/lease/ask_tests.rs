//! Tests of `ask`: who comes first. The conditions are tested through the node, in the tests of `tenure`.

use std::vec;

use agent_common::{GroupId, NodeId, NodeSet};

use super::{Facts, Wish, rank};
use crate::config::GroupConfig;
use crate::group::Group;
use crate::membership::View;

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

#[test]
fn candidates_stand_in_the_order_of_wanting_then_prefer() {
    let config = GroupConfig { prefer: vec![id(2), id(1), id(0), id(3)], auto_failback: false, resources: 1 };
    let group = Group::new(GroupId::FIRST, &config, &[]);
    let plain = Wish { wants: false, standby: false };
    let wanting = Wish { wants: true, standby: false };
    let standby = Wish { wants: false, standby: true };
    #[rustfmt::skip]
    let table = [
        // eligible, wanting, this node's wish, rank
        (0b0000, 0b0000, plain,   0, "alone"),
        (0b1110, 0b0000, plain,   2, "after 2 and 1"),
        (0b1100, 0b0000, plain,   1, "1 is not there"),
        (0b1000, 0b0000, plain,   0, "3 comes after"),
        (0b1000, 0b1000, plain,   1, "but it wants the group"),
        (0b1110, 0b0000, wanting, 0, "who wants it comes first"),
        (0b1110, 0b0100, wanting, 1, "of two that want it the preferred"),
        (0b1110, 0b1000, wanting, 0, "and not the other"),
        (0b1110, 0b0000, standby, 3, "who stands by comes last"),
    ];
    for (eligible, wants, wish, expected, why) in table {
        let facts = Facts { eligible: NodeSet(eligible), wanting: NodeSet(wants), ..Facts::default() };
        assert_eq!(rank(&group, &facts, wish, id(0), &View::default()), expected, "{why}");
    }
}
