//! The network: for each directed path (sender, receiver, link) whether it is cut, what it loses, and how long it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_common::{LinkId, NodeId};

use super::rng::Rng;

/// What a path loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Loss {
    /// Nothing.
    #[default]
    None,
    /// Each frame with this chance in a thousand.
    Random {
        /// Of 1000 frames.
        permille: u64,
    },
    /// As many frames as it can, but never more than `run` in a row.
    Runs {
        /// The longest row.
        run: u32,
    },
}

/// One directed path.
#[derive(Clone, Copy, Debug)]
struct Path {
    cut: bool,
    loss: Loss,
    lost_in_a_row: u32,
}

/// All paths.
#[derive(Debug)]
pub(super) struct Network {
    paths: BTreeMap<(NodeId, NodeId, LinkId), Path>,
    delay: Duration,
    spread: Duration,
}

impl Network {
    /// A network of `nodes` nodes joined by `links` links, without faults.
    pub(super) fn new(nodes: usize, links: usize) -> Self {
        let path = Path { cut: false, loss: Loss::None, lost_in_a_row: 0 };
        let mut paths = BTreeMap::new();
        for from in NodeId::all().take(nodes) {
            for to in NodeId::all().take(nodes).filter(|to| *to != from) {
                paths.extend(LinkId::all().take(links).map(|link| ((from, to, link), path)));
            }
        }
        Self { paths, delay: Duration::from_micros(20), spread: Duration::from_micros(180) }
    }

    /// Cuts or heals one directed path.
    pub(super) fn cut(&mut self, from: NodeId, to: NodeId, link: LinkId, cut: bool) {
        if let Some(path) = self.paths.get_mut(&(from, to, link)) {
            path.cut = cut;
        }
    }

    /// Sets the loss of every path.
    pub(super) fn lose(&mut self, loss: Loss) {
        self.paths.values_mut().for_each(|path| path.loss = loss);
    }

    /// Heals everything.
    pub(super) fn heal(&mut self) {
        for path in self.paths.values_mut() {
            (path.cut, path.loss) = (false, Loss::None);
        }
    }

    /// How long a frame takes, `None` when it does not arrive.
    pub(super) fn carry(
        &mut self,
        from: NodeId,
        to: NodeId,
        link: LinkId,
        rng: &mut Rng,
    ) -> Option<Duration> {
        let path = self.paths.get_mut(&(from, to, link))?;
        let lost = match path.loss {
            Loss::None => false,
            Loss::Random { permille } => rng.chance(permille),
            Loss::Runs { run } => path.lost_in_a_row < run,
        };
        path.lost_in_a_row = if lost { path.lost_in_a_row + 1 } else { 0 };
        if lost || path.cut {
            return None;
        }
        let spread = u64::try_from(self.spread.as_nanos()).unwrap_or(0);
        Some(self.delay + Duration::from_nanos(rng.below(spread)))
    }
}
