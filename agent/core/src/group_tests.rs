//! Tests of `group`: the table of phases and the order of resources.

use std::vec;
use std::vec::Vec;

use agent_common::{GroupId, NodeId};

use super::Input::{AllHeld, AllReleased, GaveUp, Lost, PauseOver, Stray, Take, Yield};
use super::Phase::{self, Failed, Failing, Serving, Starting, Stopped, Stopping};
use super::{FAILED_PAUSE, Group, next};
use crate::action::Action;
use crate::config::GroupConfig;
use crate::event::Failure;
use crate::queue::Actions;
use crate::resource::{Effect, Input as ResourceInput, Resource, State};
use crate::snapshot::GroupState;
use crate::test_config;
use crate::time::Instant;

const NOW: Instant = Instant(1_000_000_000);

#[test]
fn every_phase_and_input_has_its_successor() {
    let inputs = [Take, Yield, AllHeld, Lost, GaveUp, AllReleased, Stray, PauseOver];
    #[rustfmt::skip]
    let table: [(Phase, [Phase; 8]); 6] = [
        (Stopped,  [Starting, Stopped,  Stopped,  Stopped,  Stopped,  Stopped,  Stopping, Stopped]),
        (Starting, [Starting, Stopping, Serving,  Starting, Failing,  Starting, Starting, Starting]),
        (Serving,  [Serving,  Stopping, Serving,  Starting, Serving,  Serving,  Serving,  Serving]),
        (Stopping, [Stopping, Stopping, Stopping, Stopping, Stopping, Stopped,  Stopping, Stopping]),
        (Failing,  [Failing,  Failing,  Failing,  Failing,  Failing,  Failed,   Failing,  Failing]),
        (Failed,   [Failed,   Failed,   Failed,   Failed,   Failed,   Failed,   Failing,  Stopped]),
    ];
    for (phase, row) in table {
        for (input, expected) in inputs.into_iter().zip(row) {
            assert_eq!(next(phase, input), expected, "{phase:?} {input:?}");
        }
    }
}

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

struct Lab {
    group: Group,
    resources: Vec<Resource>,
    out: Actions,
}

impl Lab {
    fn new(resources: u8) -> Self {
        let config = GroupConfig { prefer: vec![id(0), id(1)], auto_failback: false, resources };
        Self {
            group: Group::new(GroupId::new(0).unwrap(), &config, &[]),
            resources: vec![Resource::new(); usize::from(resources)],
            out: Actions::new(&test_config(2)),
        }
    }

    fn drive(&mut self, now: Instant) -> Vec<(Effect, u8)> {
        self.group.drive(&mut self.resources, now, &mut self.out);
        let mut effects = Vec::new();
        while let Some(action) = self.out.pop() {
            match action {
                Action::Acquire { resource, .. } => effects.push((Effect::Acquire, resource.index)),
                Action::Release { resource, .. } => effects.push((Effect::Release, resource.index)),
                Action::Send { .. }
                | Action::Announce { .. }
                | Action::Gate { .. }
                | Action::SelfFence { .. }
                | Action::Fence { .. }
                | Action::Answer { .. }
                | Action::PetWatchdog
                | Action::Transition(_)
                | Action::Finished => panic!("{action:?}"),
            }
        }
        effects
    }

    fn done(&mut self, index: usize) {
        assert_eq!(self.resources[index].feed(ResourceInput::Done, NOW), None);
    }

    fn serving(resources: u8) -> Self {
        let mut lab = Self::new(resources);
        lab.group.feed(Take);
        for index in 0..usize::from(resources) {
            lab.drive(NOW);
            lab.done(index);
        }
        lab.drive(NOW);
        assert_eq!(lab.group.phase(), Serving);
        lab
    }
}

#[test]
fn resources_start_in_order_and_stop_in_reverse() {
    let mut lab = Lab::new(2);
    lab.group.feed(Take);
    assert_eq!(lab.drive(NOW), [(Effect::Acquire, 0)]);
    assert_eq!(lab.drive(NOW), []);
    lab.done(0);
    assert_eq!(lab.drive(NOW), [(Effect::Acquire, 1)]);
    lab.done(1);
    assert_eq!(lab.drive(NOW), []);
    assert_eq!(lab.group.phase(), Serving);
    lab.group.feed(Yield);
    assert_eq!(lab.drive(NOW), [(Effect::Release, 1)]);
    lab.done(1);
    assert_eq!(lab.drive(NOW), [(Effect::Release, 0)]);
    lab.done(0);
    assert_eq!(lab.drive(NOW), []);
    assert_eq!(lab.group.phase(), Stopped);
}

#[test]
fn a_group_without_resources_serves_at_once() {
    let lab = {
        let mut lab = Lab::new(0);
        lab.group.feed(Take);
        lab.drive(NOW);
        lab
    };
    assert_eq!(lab.group.phase(), Serving);
}

#[test]
fn a_group_that_fails_lets_go_and_pauses() {
    let mut lab = Lab::new(2);
    lab.group.feed(Take);
    lab.drive(NOW);
    lab.done(0);
    let mut now = NOW;
    while lab.group.phase() == Starting {
        lab.drive(now);
        if lab.group.phase() == Failing {
            break;
        }
        lab.resources[1].feed(ResourceInput::Fail, now);
        now = lab.group.wake(&lab.resources).min(now.after(FAILED_PAUSE));
    }
    assert_eq!(lab.group.phase(), Failing);
    // What could not be acquired is released too: nobody knows how far it came.
    assert_eq!(lab.drive(now), []);
    lab.done(1);
    assert_eq!(lab.drive(now), [(Effect::Release, 0)]);
    lab.done(0);
    lab.drive(now);
    assert_eq!(lab.group.phase(), Failed);
    assert_eq!(lab.group.wake(&lab.resources), now.after(FAILED_PAUSE));
    lab.group.rest_until(now);
    assert_eq!(lab.group.phase(), Failed);
    lab.group.rest_until(now.after(FAILED_PAUSE));
    assert_eq!(lab.group.phase(), Stopped);
    assert!(lab.group.failed_here());
}

#[test]
fn a_release_that_fails_holds_back_no_other() {
    let mut lab = Lab::serving(2);
    lab.group.feed(Yield);
    assert_eq!(lab.drive(NOW), [(Effect::Release, 1)]);
    let attempt = 2;
    lab.resources[1].answer(Effect::Release, attempt, Err(Failure::TimedOut), NOW);
    assert_eq!(lab.drive(NOW), [(Effect::Release, 0)]);
    lab.done(0);
    assert_eq!(lab.drive(NOW), []);
    assert_eq!(lab.group.phase(), Stopping);
    assert_eq!(lab.group.state(&lab.resources), GroupState::Failed);
    let later = lab.group.wake(&lab.resources);
    assert_eq!(lab.drive(later), [(Effect::Release, 1)]);
    lab.done(1);
    lab.drive(later);
    assert_eq!(lab.group.phase(), Stopped);
}

#[test]
fn what_is_lost_is_acquired_again() {
    let mut lab = Lab::serving(1);
    assert!(lab.resources[0].feed(ResourceInput::Vanished, NOW).is_some());
    assert_eq!(lab.drive(NOW), []);
    assert_eq!(lab.group.phase(), Starting);
    lab.done(0);
    lab.drive(NOW);
    assert_eq!(lab.group.phase(), Serving);
    assert_eq!(lab.resources[0].state(), State::Held);
}
