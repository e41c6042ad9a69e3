//! Tests of `owner`: the rule as a table of facts and decisions.

use agent_common::{NodeId, NodeSet};

use super::{Decision, Facts, FirstLiving, Holder, Mine, OwnerPolicy};
use crate::membership::Standing;
use crate::snapshot::Reason;

const HELD: Mine = Mine::Holds { epoch: 100 };
const FREE: Mine = Mine::Free { failed_here: false };

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

/// Node 1 of the owners 0, 1, 2, with a quorum, free, and nobody else alive.
fn facts(prefer: &[NodeId]) -> Facts<'_> {
    Facts {
        me: id(1),
        prefer,
        auto_failback: false,
        mine: FREE,
        standing: Standing::With,
        eligible: NodeSet::EMPTY,
        unread: NodeSet::EMPTY,
        wanting: NodeSet::EMPTY,
        holder: None,
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_rule_decides() {
    let prefer = [id(0), id(1), id(2)];
    let others = [id(0), id(2)];
    let base = facts(&prefer);
    let first = NodeSet(1);
    let last = NodeSet(4);
    let by = |node, epoch| Some(Holder { node: id(node), epoch });
    let rest = Decision::Rest;
    let table = [
        ("alone", base, Decision::Serve),
        ("a less preferred peer lives", Facts { eligible: last, ..base }, Decision::Serve),
        ("a more preferred peer lives", Facts { eligible: first, ..base }, rest(Reason::OtherPreferred)),
        ("not an owner", Facts { prefer: &others, ..base }, rest(Reason::NotAnOwner)),
        ("a peer holds", Facts { holder: by(2, 9), ..base }, rest(Reason::HeldElsewhere)),
        ("its table is unknown", Facts { unread: last, ..base }, rest(Reason::TableUnknown)),
        ("minority", Facts { standing: Standing::Without, ..base }, rest(Reason::NoQuorum)),
        ("tie-break missing", Facts { standing: Standing::TieBreakMissing, ..base }, rest(Reason::TieBreak)),
        ("joining", Facts { mine: Mine::Joining, ..base }, rest(Reason::Joining)),
        ("leaving", Facts { mine: Mine::Leaving, ..base }, rest(Reason::Leaving)),
        ("failed", Facts { mine: Mine::Failed, ..base }, rest(Reason::Failed)),
        ("holds", Facts { mine: HELD, ..base }, Decision::Serve),
        ("holds, more preferred lives", Facts { mine: HELD, eligible: first, ..base }, Decision::Serve),
        (
            "holds without the tie-break",
            Facts { mine: HELD, standing: Standing::TieBreakMissing, ..base },
            Decision::Serve,
        ),
        (
            "holds with a minority",
            Facts { mine: HELD, standing: Standing::Without, ..base },
            rest(Reason::NoQuorum),
        ),
        ("holds, rival below", Facts { mine: HELD, holder: by(0, 99), ..base }, Decision::Serve),
        ("holds, rival above", Facts { mine: HELD, holder: by(2, 101), ..base }, rest(Reason::Rival)),
        (
            "holds, wanted without failback",
            Facts { mine: HELD, eligible: first, wanting: first, ..base },
            Decision::Serve,
        ),
        (
            "holds, wanted with failback",
            Facts { mine: HELD, eligible: first, wanting: first, auto_failback: true, ..base },
            rest(Reason::Failback),
        ),
        (
            "holds, wanted by a node that cannot be given it",
            Facts { mine: HELD, wanting: first, auto_failback: true, ..base },
            Decision::Serve,
        ),
        (
            "holds, wanted by a less preferred one",
            Facts { mine: HELD, eligible: last, wanting: last, auto_failback: true, ..base },
            Decision::Serve,
        ),
        (
            "holder less preferred, failback",
            Facts { holder: by(2, 9), eligible: last, auto_failback: true, ..base },
            Decision::Ask,
        ),
        (
            "the same after it failed here",
            Facts {
                holder: by(2, 9),
                eligible: last,
                auto_failback: true,
                mine: Mine::Free { failed_here: true },
                ..base
            },
            rest(Reason::HeldElsewhere),
        ),
        (
            "the same with a minority",
            Facts { holder: by(2, 9), auto_failback: true, standing: Standing::Without, ..base },
            rest(Reason::HeldElsewhere),
        ),
        (
            "holder more preferred, failback",
            Facts { holder: by(0, 9), eligible: first, auto_failback: true, ..base },
            rest(Reason::HeldElsewhere),
        ),
        (
            "holder less preferred, a still more preferred one lives",
            Facts { holder: by(2, 9), eligible: NodeSet(5), auto_failback: true, ..base },
            rest(Reason::HeldElsewhere),
        ),
        (
            "failed before, and free",
            Facts { mine: Mine::Free { failed_here: true }, ..base },
            Decision::Serve,
        ),
    ];
    for (name, facts, expected) in table {
        assert_eq!(FirstLiving.decide(&facts), expected, "{name}");
    }
}
