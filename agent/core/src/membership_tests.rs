//! Tests of `membership`: what each policy says to each number of living nodes.

use std::vec::Vec;

use agent_common::{NodeId, NodeSet};

use super::Standing::{TieBreakMissing, With, Without};
use super::standing;
use crate::config::Policy::{Majority, TwoNode};
use crate::config::TieBreak::{Always, Fence, Ping};
use crate::lease::Leases;
use crate::peer::Peer;
use crate::queue::Actions;
use crate::rules::Rules;
use crate::test_config;
use crate::time::Instant;

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
        let mut config = test_config(nodes);
        config.quorum.policy = policy;
        let rules = Rules::new(&config, Instant::ZERO);
        let ids = || NodeId::all().take(usize::from(nodes));
        let mut peers: Vec<Peer> = ids().skip(1).map(|id| Peer::new(id, &rules)).collect();
        let now = Instant::ZERO.after(config.timing.initdead);
        for peer in &mut peers {
            // Silent for initdead: dead.
            let reading = crate::event::Reading::silent(peer.id(), now);
            peer.read(&reading, &rules, now, &mut Actions::new(&config));
            peer.judge(&rules, now, &mut Actions::new(&config));
        }
        let mut here = NodeSet::EMPTY;
        ids().take(alive).for_each(|id| here.insert(id));
        let leases = Leases::new(&config, Instant::ZERO);
        assert_eq!(standing(here, &peers, &leases, now), expected, "{alive} of {nodes} under {policy:?}");
    }
}
