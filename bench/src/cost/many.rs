//! The XDP program on heartbeats of many peers in turn, by `BPF_PROG_TEST_RUN`: whether a window and a slot that were not touched
//! for a while cost more than those of the last heartbeat.
//!
//! A cluster has 32 nodes at most, and so has the program's memory. 1,000 peers are 33 clusters of 31 peers each on one
//! machine: so many copies of the program, each with maps of its own, which is harder on caches than one large map.

use agent_common::ids::MAX_NODES;
use agent_common::maps::{ClusterConfig, Counter, name};
use agent_tests::frames::{Packet, beat, cluster_config, frame};
use agent_tests::kernel::Kernel;
use agent_tests::lab::clock;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::statistics::Summary;

/// Peers of one cluster.
const PEERS: usize = MAX_NODES - 1;
/// Clusters that together have 1,000 peers.
const CLUSTERS: usize = 33;
/// Heartbeats of each peer that count, after one that may be news.
const ROUNDS: u64 = 12;

/// One row.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// How many peers were heard in turn.
    pub peers: usize,
    /// In how many clusters.
    pub clusters: usize,
    /// Heartbeats.
    pub frames: usize,
    /// Nanoseconds of one.
    pub ns: Summary,
}

/// One, all 31 of a cluster, and 1,023 in 33 clusters, in turn.
///
/// # Errors
/// The kernel refuses the program, or the program a heartbeat.
pub fn turns() -> Result<Vec<Turn>> {
    let mut clusters = (0..CLUSTERS).map(|_| configured()).collect::<Result<Vec<_>>>()?;
    let mut turns = Vec::new();
    for (clusters_used, peers) in [(1, 1), (1, PEERS), (CLUSTERS, PEERS)] {
        let rounds = ROUNDS.max(ROUNDS * (PEERS * CLUSTERS / 8 / (clusters_used * peers)) as u64);
        let used = clusters.get_mut(..clusters_used).context("so many clusters were made")?;
        turns.push(turn(used, peers, rounds)?);
    }
    Ok(turns)
}

fn configured() -> Result<Kernel> {
    let mut kernel = Kernel::new()?;
    kernel.array(name::CONFIG)?.set(0, ClusterConfig { nodes: u32::MAX, ..cluster_config() }, 0)?;
    Ok(kernel)
}

/// Each peer's incarnation is of this turn: it starts with news.
fn turn(clusters: &mut [Kernel], peers: usize, rounds: u64) -> Result<Turn> {
    let incarnation = clock::now_ns();
    let mut times = Vec::new();
    let accepted = |clusters: &[Kernel]| -> Result<u64> {
        clusters.iter().map(|kernel| Ok(kernel.counters()?[Counter::Accepted.index()])).sum()
    };
    let before = accepted(clusters)?;
    for round in 0..=rounds {
        clock::check_interrupt()?;
        for peer in 1..=peers {
            let peer = u8::try_from(peer)?;
            let packet = Packet::on(0, frame(&beat(peer, incarnation, round + 1), 0)).bytes();
            for kernel in clusters.iter_mut() {
                let (_, ns) = kernel.run(&packet, 1)?;
                if round > 0 {
                    times.push(ns as f64);
                }
            }
        }
    }
    let expected = (rounds + 1) * (peers * clusters.len()) as u64;
    let counted = accepted(clusters)? - before;
    ensure!(counted == expected, "{counted} of {expected} heartbeats were accepted");
    Ok(Turn {
        peers: peers * clusters.len(),
        clusters: clusters.len(),
        frames: times.len(),
        ns: Summary::of(times.into_iter()),
    })
}
