//! What a heartbeat costs: processor time, wake-ups, memory and bytes, by the size of the cluster and beside other software.

pub mod cluster;
pub mod instances;
pub mod many;
pub mod meter;
pub mod pairs;
pub mod programs;
pub mod reference;
pub mod report;

use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::config::Cast;
use anyhow::Result;

use crate::options::Options;
use crate::peers::{Name, Setting};
use crate::progress::Progress;
use crate::report::Report;
use cluster::{Sample, Shape, With};
use many::Turn;
use meter::Span;

/// Sizes of clusters.
const SIZES: [usize; 5] = [2, 4, 8, 16, 32];

/// Everything that was measured; what failed is missing.
#[derive(Default, Debug)]
pub struct Found {
    /// By the way that heartbeats travel and the size.
    pub whole: Vec<(Cast, Sample)>,
    /// With a listener, by the size.
    pub heard: Vec<Sample>,
    /// keepalived, by the number of masters that a backup hears.
    pub instances: Vec<(usize, Span)>,
    /// Pairs of the others.
    pub pairs: Vec<(Name, Setting, Span)>,
    /// Many peers, by test-run.
    pub turns: Vec<Turn>,
}

/// The report of all of it.
///
/// # Errors
/// The kernel refuses the program, or the user interrupted.
pub fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("cost", "What a heartbeat costs");
    let peers = options.peers(&mut report);
    let has_keepalived = peers.contains(&Name::Keepalived);
    let instances = if has_keepalived { SIZES.len() } else { 0 };
    let mut progress = Progress::new("cost", 3 * SIZES.len() + 1 + peers.len() + instances);
    let mut found = Found::default();
    progress.at("1,000 peers by test-run");
    found.turns = many::turns()?;
    progress.step();
    for shape in shapes() {
        progress.at(format!("{} nodes of xbeat, {:?}, with {:?}", shape.nodes, shape.cast, shape.with));
        let sample = keep(&mut report, &format!("{} nodes", shape.nodes), cluster::sample(shape))?;
        match shape.with {
            With::Nodes | With::Loop => found.whole.extend(sample.map(|sample| (shape.cast, sample))),
            With::Listener => found.heard.extend(sample),
        }
        progress.step();
    }
    for nodes in SIZES.into_iter().take(instances) {
        let masters = nodes - 1;
        progress.at(format!("keepalived hears {masters}"));
        let outcome = instances::sample(masters, keepalive(nodes));
        let span = keep(&mut report, &format!("keepalived hears {masters}"), outcome)?;
        found.instances.extend(span.map(|span| (masters, span)));
        progress.step();
    }
    for name in peers {
        progress.at(name.label());
        let span = keep(&mut report, name.label(), pairs::sample(name))?;
        found.pairs.extend(span.map(|span| (name, name.software().fastest(), span)));
        progress.step();
    }
    report::write(&mut report, &found);
    Ok(report)
}

/// One that failed is left out and said, and the others go on.
fn keep<T>(report: &mut Report, what: &str, outcome: Result<T>) -> Result<Option<T>> {
    clock::check_interrupt()?;
    Ok(outcome.map_err(|error| report.skipped.push(format!("{what}: {error:#}"))).ok())
}

fn shapes() -> impl Iterator<Item = Shape> {
    let whole = [Cast::Unicast, Cast::Multicast].into_iter().flat_map(|cast| {
        SIZES.into_iter().map(move |nodes| {
            let with = if nodes == 2 && cast == Cast::Unicast { With::Loop } else { With::Nodes };
            Shape { nodes, cast, keepalive: keepalive(nodes), with }
        })
    });
    let heard = SIZES.into_iter().map(|nodes| Shape {
        nodes,
        cast: Cast::Multicast,
        keepalive: keepalive(nodes),
        with: With::Listener,
    });
    whole.chain(heard)
}

/// All nodes are on one machine: more of them send less often.
const fn keepalive(nodes: usize) -> Duration {
    Duration::from_millis(if nodes > 16 { 50 } else { 10 })
}
