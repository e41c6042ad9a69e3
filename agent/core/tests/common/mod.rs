//! What the core's integration tests share: a configuration and ids.

use std::time::Duration;

use agent_common::{LinkId, Name, NodeId};
use agent_core::Config;
use agent_core::config::{
    GateKind, GroupConfig, LinkConfig, Mutated, NodeConfig, Policy, Quorum, Start, Timing,
};

/// The node id `raw`.
pub(crate) fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

/// `nodes` owners of `groups` groups, each with `resources` resources and spread over the nodes by `prefer`; two links;
/// this is node 0.
pub(crate) fn config(nodes: u8, groups: u8, resources: u8, auto_failback: bool) -> Config {
    let keepalive = Duration::from_millis(10);
    let link = |raw| LinkConfig { id: LinkId::new(raw).unwrap(), keepalive };
    Config {
        me: id(0),
        name: Name::NONE,
        incarnation: 100,
        wall_ms_at_zero: 1_700_000_000_000,
        seed: 1,
        timing: Timing {
            keepalive,
            deadtime: Duration::from_millis(50),
            warntime: Duration::from_millis(25),
            initdead: Duration::from_millis(500),
        },
        nodes: vec![NodeConfig::default(); usize::from(nodes)],
        links: vec![link(0), link(1)],
        quorum: Quorum { policy: Policy::Majority, number: 0, change: None },
        groups: (0..groups)
            .map(|group| GroupConfig {
                prefer: (0..nodes).map(|node| id((group + node) % nodes)).collect(),
                auto_failback,
                resources,
            })
            .collect(),
        reach_dampening: Duration::from_secs(5),
        start: Start::Fresh,
        gate: GateKind::Kernel,
        mutated: Mutated::default(),
    }
}
