//! Pairs of the other software at their fastest settings, with nobody who asks for the service or captures frames.

use std::time::Duration;

use agent_tests::lab::clock;
use anyhow::Result;

use super::meter::{Node, Span, measure};
use crate::peers::{Asks, Name, Options, Pair};

const SPAN: Duration = Duration::from_secs(8);
const SETTLE: Duration = Duration::from_secs(1);

/// What the two nodes take; what one sends, the other hears.
///
/// # Errors
/// The pair did not come up, or a process ended.
pub fn sample(name: Name) -> Result<Span> {
    let options = Options { client: Asks::Never, captures: false, ..Options::default() };
    let pair = Pair::start_with(name, name.software().fastest(), options)?;
    pair.wait_whole()?;
    clock::pause(SETTLE)?;
    let node = |node| Ok(Node { pids: pair.processes(node), host: pair.bed.network.host(node)? });
    let nodes: Vec<Node<'_>> = (0..2).map(node).collect::<Result<_>>()?;
    measure(&nodes, SPAN)
}
