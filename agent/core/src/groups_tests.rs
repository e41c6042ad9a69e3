//! Tests of `groups`: epochs, references that lead nowhere, and that only what something happened to is looked at.

use agent_common::{GroupId, NodeId};

use super::{Groups, Scene, epoch_above};
use crate::action::{Action, ResourceRef};
use crate::life::Life;
use crate::membership::View;
use crate::outgoing::Outgoing;
use crate::owner::FirstLiving;
use crate::queue::Actions;
use crate::resource::Effect;
use crate::snapshot::GroupState;
use crate::test_config;
use crate::time::Instant;

const NOW: Instant = Instant(1_000_000_000);

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

fn resource(group: u8, index: u8) -> ResourceRef {
    ResourceRef { group: GroupId::new(group).unwrap(), index }
}

#[test]
fn an_epoch_is_above_all_seen_and_bears_the_node() {
    let table = [
        (0, 1000, 3, 1000 << 8 | 3),
        (999 << 8 | 255, 1000, 3, 1000 << 8 | 3),
        (1000 << 8, 1000, 3, 1001 << 8 | 3),
        (5000 << 8 | 7, 1000, 3, 5001 << 8 | 3),
        (u64::MAX, u64::MAX, 3, u64::MAX << 8 | 3),
    ];
    for (highest, wall_ms, node, expected) in table {
        assert_eq!(epoch_above(highest, wall_ms, id(node)), expected, "above {highest} at {wall_ms}");
    }
}

/// A node alone in its cluster, with one group of one resource.
struct Lab {
    groups: Groups,
    table: Outgoing,
    out: Actions,
    view: View,
}

impl Lab {
    fn new() -> Self {
        let config = test_config(1);
        let policy = config.quorum.policy;
        Self {
            groups: Groups::new(&config),
            table: Outgoing::new(&config),
            out: Actions::new(&config),
            view: View::of(id(0), 1, &[], policy),
        }
    }

    fn review(&mut self) -> bool {
        let scene = Scene {
            me: id(0),
            view: &self.view,
            peers: &[],
            life: Life::Up,
            is_settled: true,
            wall_ms: 1000,
        };
        self.groups.review(&FirstLiving, &scene, &mut self.table, NOW, &mut self.out)
    }

    fn effects(&mut self) -> usize {
        let mut effects = 0;
        while let Some(action) = self.out.pop() {
            effects += usize::from(matches!(action, Action::Acquire { .. } | Action::Release { .. }));
        }
        effects
    }
}

#[test]
fn what_does_not_exist_is_ignored() {
    let mut lab = Lab::new();
    assert!(lab.review());
    assert_eq!(lab.effects(), 1);
    for at in [resource(1, 0), resource(0, 1), resource(63, 255)] {
        lab.groups.answer(at, Effect::Acquire, 1, Ok(()), NOW, &mut lab.out);
        lab.groups.vanished(at, NOW, &mut lab.out);
        lab.groups.found(at, NOW, &mut lab.out);
        assert!(!lab.groups.is_dirty(), "{at:?}");
    }
    assert_eq!(lab.effects(), 0);
    lab.groups.answer(resource(0, 0), Effect::Acquire, 1, Ok(()), NOW, &mut lab.out);
    assert!(lab.groups.is_dirty());
}

#[test]
fn nothing_is_done_while_nothing_happens() {
    let mut lab = Lab::new();
    assert!(lab.review(), "taken, and claimed");
    assert!(!lab.review(), "nothing has happened since");
    lab.groups.answer(resource(0, 0), Effect::Acquire, 1, Ok(()), NOW, &mut lab.out);
    assert!(!lab.review(), "held, and claimed as before");
    let mut shown = std::vec::Vec::new();
    lab.groups.view_into(&mut shown);
    assert_eq!(
        (shown[0].state, shown[0].owner, shown[0].epoch),
        (GroupState::Serving, Some(id(0)), 1000 << 8)
    );
    assert_eq!(lab.effects(), 1);
}
