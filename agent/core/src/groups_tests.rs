//! Tests of `groups`: references that lead nowhere, and that only what something happened to is looked at.

use agent_common::{GroupId, NodeId};

use super::{Groups, Scene};
use crate::action::{Action, ResourceRef};
use crate::lease::Leases;
use crate::life::Life;
use crate::membership::View;
use crate::outgoing::Outgoing;
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

/// A node alone in its cluster, with one group of one resource.
struct Lab {
    groups: Groups,
    table: Outgoing,
    out: Actions,
    view: View,
    leases: Leases,
}

impl Lab {
    fn new() -> Self {
        let config = test_config(1);
        let mut leases = Leases::new(&config, NOW);
        leases.sent(1, NOW);
        Self {
            groups: Groups::new(&config, NOW),
            table: Outgoing::new(&config),
            out: Actions::new(&config),
            view: View::of(id(0), 0, &[], &leases, NOW),
            leases,
        }
    }

    fn review(&mut self) -> bool {
        let scene = Scene {
            me: id(0),
            view: &self.view,
            peers: &[],
            leases: &self.leases,
            life: Life::Up,
            maintenance: false,
            wall_ms: 1000,
            now: NOW,
        };
        self.groups.review(&scene, &mut self.table, &mut self.out)
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
        lab.groups.vanished(at, false, NOW, &mut lab.out);
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
    lab.groups.view_into(id(0), &[], &mut shown, NOW);
    assert_eq!(
        (shown[0].state, shown[0].owner, shown[0].epoch),
        (GroupState::Serving, Some(id(0)), 1000 << 8)
    );
    assert_eq!(lab.effects(), 1);
}
