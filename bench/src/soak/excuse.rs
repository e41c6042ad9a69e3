//! When a node may be called dead: only while something takes from the observer every way to hear it, or the node itself is
//! gone. A fault that leaves one way open excuses nothing; neither do commands, pulled processors or an observer's own pause.

use std::time::Duration;

use agent_tests::lab::clock;

use super::fault::{Fault, LINKS, NODES, SERVICE};

/// What is wrong now, and when who had a reason to be dead to whom.
#[derive(Debug)]
pub struct Excuses {
    wrong: Vec<Fault>,
    /// After the end of a reason its death may still be told.
    grace_ns: u64,
    /// The same for a process that has just been started, and an interface that came back.
    start_ns: u64,
    open: [[Option<u64>; NODES]; NODES],
    past: Vec<Excuse>,
}

#[derive(Clone, Copy, Debug)]
struct Excuse {
    observer: usize,
    peer: usize,
    from_ns: u64,
    to_ns: u64,
}

impl Excuses {
    /// Nothing is wrong. A verdict comes at most deadtime after the last heartbeat, and the observer's wake-up later; a
    /// process that has just been started judges after `initdead`.
    pub fn new(deadtime: Duration, initdead: Duration) -> Self {
        let grace_ns = clock::ns(deadtime * 2 + Duration::from_millis(100));
        let start_ns = clock::ns(initdead) + grace_ns;
        Self { wrong: Vec::new(), grace_ns, start_ns, open: [[None; NODES]; NODES], past: Vec::new() }
    }

    /// A fault begins at `at_ns`.
    pub fn begin(&mut self, fault: Fault, at_ns: u64) {
        self.wrong.push(fault);
        self.turn(at_ns, self.grace_ns);
    }

    /// It was mended at `at_ns`.
    pub fn end(&mut self, fault: Fault, at_ns: u64) {
        if let Some(place) = self.wrong.iter().position(|wrong| *wrong == fault) {
            self.wrong.swap_remove(place);
        }
        let is_new = matches!(fault, Fault::Kill(_) | Fault::Unplug(..));
        let grace_ns = if is_new { self.start_ns } else { self.grace_ns };
        self.turn(at_ns, grace_ns);
    }

    /// Whether `observer` had a reason to call `peer` dead at `at_ns`.
    pub fn covers(&self, observer: usize, peer: usize, at_ns: u64) -> bool {
        let now = self.open.get(observer).and_then(|row| row.get(peer)).copied().flatten();
        now.is_some_and(|from_ns| at_ns >= from_ns)
            || self.past.iter().rev().any(|excuse| {
                (excuse.observer, excuse.peer) == (observer, peer)
                    && (excuse.from_ns..=excuse.to_ns).contains(&at_ns)
            })
    }

    /// Forgets what ended before `before_ns`.
    pub fn forget(&mut self, before_ns: u64) {
        self.past.retain(|excuse| excuse.to_ns >= before_ns);
    }

    fn turn(&mut self, at_ns: u64, grace_ns: u64) {
        for observer in 0..NODES {
            for peer in (0..NODES).filter(|peer| *peer != observer) {
                let is_excused = self.is_excused(observer, peer);
                let Some(open) = self.open.get_mut(observer).and_then(|row| row.get_mut(peer)) else {
                    continue;
                };
                match *open {
                    None if is_excused => *open = Some(at_ns),
                    Some(from_ns) if !is_excused => {
                        *open = None;
                        self.past.push(Excuse { observer, peer, from_ns, to_ns: at_ns + grace_ns });
                    }
                    None | Some(_) => {}
                }
            }
        }
    }

    fn is_excused(&self, observer: usize, peer: usize) -> bool {
        self.wrong.iter().any(|fault| takes_node(*fault, observer, peer))
            || LINKS
                .iter()
                .all(|link| self.wrong.iter().any(|fault| takes_link(*fault, observer, peer, *link)))
    }
}

/// The peer says nothing, or the observer is not there.
fn takes_node(fault: Fault, observer: usize, peer: usize) -> bool {
    match fault {
        Fault::Kill(node) => node == observer || node == peer,
        // Whoever wakes up asks the kernel what came meanwhile.
        Fault::Pause(node) => node == peer,
        Fault::Partition(minority) => minority.contains(&observer) != minority.contains(&peer),
        Fault::CutOne(..)
        | Fault::CutBoth(_)
        | Fault::Deaf(_)
        | Fault::LossOne(..)
        | Fault::LossBoth(..)
        | Fault::Unplug(..)
        | Fault::Takeover(_)
        | Fault::Standby
        | Fault::Reload(_)
        | Fault::Restart(_)
        | Fault::Retime(_)
        | Fault::HogFifo
        | Fault::HogBusy => false,
    }
}

/// What the peer says does not, or not always, come to the observer on this link.
fn takes_link(fault: Fault, observer: usize, peer: usize, link: usize) -> bool {
    match fault {
        Fault::CutOne(node, cut) => (node == observer || node == peer) && cut == link,
        Fault::Unplug(node, cut) => (node == observer || node == peer) && cut == link && cut != SERVICE,
        Fault::CutBoth(node) => node == observer || node == peer,
        Fault::Deaf(node) | Fault::LossBoth(node, _) => node == observer,
        Fault::LossOne(node, lossy, _) => node == observer && lossy == link,
        Fault::Kill(_)
        | Fault::Pause(_)
        | Fault::Partition(_)
        | Fault::Takeover(_)
        | Fault::Standby
        | Fault::Reload(_)
        | Fault::Restart(_)
        | Fault::Retime(_)
        | Fault::HogFifo
        | Fault::HogBusy => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Excuses, Fault};

    const MS: u64 = 1_000_000;

    fn excuses() -> Excuses {
        Excuses::new(Duration::from_millis(50), Duration::from_secs(1))
    }

    #[test]
    fn a_death_counts_before_and_after_its_window_and_between_others() {
        let mut excuses = excuses();
        excuses.begin(Fault::Kill(2), 1_000 * MS);
        excuses.end(Fault::Kill(2), 2_000 * MS);
        assert!(!excuses.covers(0, 2, 999 * MS));
        assert!(excuses.covers(0, 2, 1_050 * MS) && excuses.covers(2, 0, 2_500 * MS));
        assert!(!excuses.covers(0, 2, 3_300 * MS), "long after");
        assert!(!excuses.covers(0, 1, 1_050 * MS), "between two others");
    }

    #[test]
    fn one_link_of_two_is_no_excuse_until_the_other_goes_too() {
        let mut excuses = excuses();
        excuses.begin(Fault::CutOne(1, 1), 100 * MS);
        assert!(!excuses.covers(0, 1, 150 * MS));
        // Of another node, on the other link: these two have none left between them.
        excuses.begin(Fault::CutOne(3, 2), 200 * MS);
        assert!(excuses.covers(1, 3, 250 * MS) && excuses.covers(3, 1, 250 * MS));
        assert!(!excuses.covers(0, 1, 250 * MS) && !excuses.covers(0, 3, 250 * MS));
        excuses.end(Fault::CutOne(1, 1), 300 * MS);
        assert!(!excuses.covers(1, 3, 900 * MS));
    }

    #[test]
    fn the_deaf_may_call_others_dead_and_are_heard() {
        let mut excuses = excuses();
        excuses.begin(Fault::Deaf(4), 0);
        assert!(excuses.covers(4, 0, MS) && !excuses.covers(0, 4, MS));
        excuses.begin(Fault::Partition([0, 1]), 0);
        assert!(excuses.covers(0, 2, MS) && excuses.covers(2, 1, MS) && !excuses.covers(0, 1, MS));
    }

    #[test]
    fn who_was_stopped_is_excused_for_nobody_and_hogs_excuse_nothing() {
        let mut excuses = excuses();
        excuses.begin(Fault::Pause(1), 0);
        excuses.begin(Fault::HogFifo, 0);
        assert!(excuses.covers(0, 1, MS) && !excuses.covers(1, 0, MS) && !excuses.covers(2, 3, MS));
        excuses.forget(u64::MAX);
        assert!(excuses.covers(0, 1, MS), "it is still stopped");
    }
}
