//! Tests of `command`: results and refusals, of one node alone in its cluster and of one that hears nobody. Moves between nodes
//! are in the tests of `lease::tenure` and in the simulator.

use std::vec::Vec;

use agent_common::{GroupId, NodeId};

use super::COMMAND_MAX;
use crate::action::Action;
use crate::answer::{Answer, Refusal};
use crate::config::Config;
use crate::event::{Event, Failure, Operator, Reading};
use crate::node::Node;
use crate::test_config;
use crate::test_lab::Lab as Heard;
use crate::time::Instant;

const START: Instant = Instant(1_000_000_000);
const GROUP: GroupId = GroupId::FIRST;

struct Lab {
    node: Node,
    now: Instant,
    answers: Vec<(u32, Answer)>,
    /// What becomes of addresses that are to be added.
    acquired: Result<(), Failure>,
}

impl Lab {
    fn new(config: &Config) -> Self {
        Self::with(config, Ok(()))
    }

    fn with(config: &Config, acquired: Result<(), Failure>) -> Self {
        let mut lab = Self { node: Node::new(config, START), now: START, answers: Vec::new(), acquired };
        lab.run(50);
        lab
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = Instant(self.now.0 + 1_000_000);
            // The peers were never heard.
            for peer in NodeId::all().skip(1).take(2) {
                self.node.handle(Event::Reading(&Reading::silent(peer, self.now)), self.now);
                self.drain();
            }
            self.node.handle_timeout(self.now);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Acquire { resource, attempt } => {
                    self.node.handle(Event::Acquired { resource, attempt, result: self.acquired }, self.now);
                }
                Action::Release { resource, attempt } => {
                    self.node.handle(Event::Released { resource, attempt, result: Ok(()) }, self.now);
                }
                Action::Answer { ticket, answer } => self.answers.push((ticket, answer)),
                Action::Send { .. }
                | Action::Announce { .. }
                | Action::Gate { .. }
                | Action::SelfFence { .. }
                | Action::Fence { .. }
                | Action::PetWatchdog
                | Action::Transition(_)
                | Action::Finished => {}
            }
        }
    }

    fn order(&mut self, ticket: u32, what: Operator) {
        self.node.handle(Event::Operator { ticket, what }, self.now);
        self.drain();
        self.run(1);
    }
}

#[test]
fn a_node_alone_takes_over_at_once_and_has_nobody_to_hand_over_to() {
    let mut lab = Lab::new(&test_config(1));
    lab.order(1, Operator::Takeover(Some(GROUP)));
    lab.order(2, Operator::Standby(Some(GROUP)));
    lab.order(3, Operator::Standby(None));
    lab.order(4, Operator::Takeover(GroupId::new(7)));
    lab.order(5, Operator::Pause);
    lab.run(20);
    lab.order(6, Operator::Leave);
    lab.run(50);
    assert_eq!(
        lab.answers,
        [
            (1, Answer::Done),
            (2, Answer::Refused(Refusal::NobodyElse)),
            (3, Answer::Refused(Refusal::NobodyElse)),
            (4, Answer::Refused(Refusal::NoSuchGroup)),
            (5, Answer::Done),
            (6, Answer::Done),
        ]
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let mut lab = Lab::new(&test_config(3));
    lab.order(1, Operator::Takeover(None));
    lab.order(2, Operator::Standby(Some(GROUP)));
    lab.run(2_100);
    lab.order(3, Operator::Takeover(None));
    lab.order(4, Operator::Maintenance(true));
    lab.order(5, Operator::Standby(None));
    lab.order(6, Operator::Pause);
    lab.order(7, Operator::Leave);
    lab.order(8, Operator::Pause);
    assert_eq!(
        lab.answers,
        [
            (1, Answer::Refused(Refusal::Joining)),
            (2, Answer::Refused(Refusal::NotServing)),
            (3, Answer::Refused(Refusal::NoQuorum)),
            (4, Answer::Done),
            (5, Answer::Refused(Refusal::Maintenance)),
            (6, Answer::Refused(Refusal::NoQuorum)),
            (7, Answer::Done),
        ]
    );
}

#[test]
fn a_takeover_does_not_wait_for_the_pause_after_a_failure() {
    let mut lab = Lab::with(&test_config(1), Err(Failure::NoInterface));
    lab.run(2000);
    for ticket in 1..3 {
        lab.order(ticket, Operator::Takeover(Some(GROUP)));
        assert!(lab.answers.len() < ticket as usize, "it is tried before it is refused");
        lab.run(2000);
        assert_eq!(lab.answers.last(), Some(&(ticket, Answer::Refused(Refusal::Failed))));
    }
    lab.acquired = Ok(());
    lab.order(3, Operator::Takeover(Some(GROUP)));
    lab.run(100);
    assert_eq!(lab.answers.last(), Some(&(3, Answer::Done)));
}

#[test]
fn a_command_without_effect_is_given_up() {
    let mut lab = Heard::asking(&test_config(3));
    lab.order(1, Operator::Pause);
    let ms = u64::try_from(COMMAND_MAX.as_millis()).unwrap();
    lab.run(40 + ms, &[]);
    assert_eq!(lab.answers(), []);
    assert_eq!(lab.node.outgoing().deadtime_us, 2_000_000);
    lab.run(70 + ms, &[]);
    assert_eq!(lab.answers(), [(1, Answer::Refused(Refusal::TimedOut))]);
    assert_eq!(lab.node.outgoing().deadtime_us, 50_000, "what it announced is taken back");
    assert_eq!(lab.node.carry(), None);
}

#[test]
fn every_refusal_has_its_words() {
    let all = [
        Refusal::NoSuchGroup,
        Refusal::NotAnOwner,
        Refusal::NotServing,
        Refusal::NobodyElse,
        Refusal::NoQuorum,
        Refusal::Joining,
        Refusal::Leaving,
        Refusal::Maintenance,
        Refusal::Superseded,
        Refusal::Failed,
        Refusal::TimedOut,
    ];
    let words: std::collections::BTreeSet<_> = all.iter().map(|refusal| refusal.text()).collect();
    assert_eq!(words.len(), all.len());
}
