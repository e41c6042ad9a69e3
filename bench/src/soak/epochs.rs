//! Epochs only rise: another node serves under a higher number than all before it, and the same node not under a lower one (it
//! may begin anew under its own, when its interface came back).

use super::fault::NODES;

/// Most findings that are kept.
const FINDINGS_MAX: usize = 100;

/// A time of serving began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Served {
    /// When.
    pub at_ns: u64,
    /// Under which number.
    pub epoch: u64,
    /// Who.
    pub node: usize,
}

/// Follows the numbers.
#[derive(Debug, Default)]
pub struct Epochs {
    waiting: Vec<Served>,
    highest: Option<Served>,
    seen: [usize; NODES],
    wrong: Vec<(Served, Served)>,
}

impl Epochs {
    /// A node began to serve.
    pub fn served(&mut self, node: usize, epoch: u64, at_ns: u64) {
        if let Some(seen) = self.seen.get_mut(node) {
            *seen += 1;
        }
        self.waiting.push(Served { at_ns, epoch, node });
    }

    /// Judges what was before `before_ns`: all nodes have told of it.
    pub fn judge(&mut self, before_ns: u64) {
        self.waiting.sort_unstable();
        let ripe = self.waiting.partition_point(|served| served.at_ns < before_ns);
        for served in self.waiting.drain(..ripe) {
            match self.highest {
                Some(highest) if !is_risen(highest, served) => {
                    if self.wrong.len() < FINDINGS_MAX {
                        self.wrong.push((highest, served));
                    }
                }
                Some(_) | None => self.highest = Some(served),
            }
        }
    }

    /// Pairs of which the later one has no higher number.
    pub fn wrong(&self) -> &[(Served, Served)] {
        &self.wrong
    }

    /// How often each node began to serve.
    pub const fn seen(&self) -> [usize; NODES] {
        self.seen
    }
}

fn is_risen(before: Served, after: Served) -> bool {
    after.epoch > before.epoch || (after.epoch == before.epoch && after.node == before.node)
}

#[cfg(test)]
mod tests {
    use super::Epochs;

    #[test]
    fn a_number_that_does_not_rise_is_seen() {
        let mut epochs = Epochs::default();
        // Told in another order than it happened.
        epochs.served(1, 20, 200);
        epochs.served(0, 10, 100);
        epochs.judge(1_000);
        assert!(epochs.wrong().is_empty());
        epochs.served(1, 20, 1_200);
        epochs.served(2, 20, 1_300);
        epochs.served(2, 19, 1_400);
        epochs.judge(1_350);
        assert_eq!(epochs.wrong().len(), 1);
        epochs.judge(2_000);
        assert_eq!(epochs.wrong().len(), 2);
        assert_eq!(epochs.seen(), [1, 2, 2, 0, 0]);
    }
}
