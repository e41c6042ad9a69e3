//! The network: for each directed path (sender, receiver, link) whether it is cut, what it loses, alone and in bursts,
//! how long it takes, what it doubles, and what it holds back for long.

use crate::sim::Rng;

use super::packet::{LINKS, NODES};

/// One directed path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    pub(super) cut: bool,
    /// Of 1024 frames.
    pub(super) loss: u64,
    /// Of 1024 frames, how many begin a burst in which all is lost, and how many end one.
    pub(super) burst: (u64, u64),
    pub(super) in_burst: bool,
    pub(super) delay: u64,
    pub(super) jitter: u64,
    /// Of 1024 frames.
    pub(super) doubled: u64,
    /// Of 1024 frames, and for how long at most.
    pub(super) held_back: (u64, u64),
}

impl Path {
    /// The delays of the copies that arrive.
    fn carry(&mut self, rng: &mut Rng) -> [Option<u64>; 2] {
        if self.cut {
            return [None, None];
        }
        let bits = rng.next();
        let (burst, loss, doubled, held) =
            (bits & 1023, bits >> 10 & 1023, bits >> 20 & 1023, bits >> 30 & 1023);
        let (begins, ends) = self.burst;
        self.in_burst = if self.in_burst { burst >= ends } else { burst < begins };
        if self.in_burst || loss < self.loss {
            return [None, None];
        }
        let mut delay = self.delay + rng.below(self.jitter);
        if held < self.held_back.0 {
            delay += rng.below(self.held_back.1);
        }
        let copy = (doubled < self.doubled).then(|| delay + rng.below(2 * self.jitter + 1000));
        [Some(delay), copy]
    }
}

/// All paths.
#[derive(Debug)]
pub(super) struct Network {
    paths: [[[Path; LINKS]; NODES]; NODES],
}

impl Network {
    /// Paths that are all like `path`.
    pub(super) const fn new(path: Path) -> Self {
        Self { paths: [[[path; LINKS]; NODES]; NODES] }
    }

    /// When the copies of a frame arrive, relative to now.
    pub(super) fn carry(&mut self, from: u8, to: u8, link: u8, rng: &mut Rng) -> [Option<u64>; 2] {
        self.paths[usize::from(from)][usize::from(to)][usize::from(link)].carry(rng)
    }

    /// One path.
    pub(super) fn path(&mut self, from: u8, to: u8, link: u8) -> &mut Path {
        &mut self.paths[usize::from(from)][usize::from(to)][usize::from(link)]
    }

    /// Every path.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut Path> {
        self.paths.iter_mut().flatten().flatten()
    }

    /// Heals cuts and losses; delays stay.
    pub(super) fn heal(&mut self) {
        for path in self.paths() {
            (path.cut, path.loss, path.burst, path.in_burst) = (false, 0, (0, 1024), false);
        }
    }

    /// Makes every path like `path`.
    pub(super) fn reset(&mut self, path: Path) {
        self.paths().for_each(|other| *other = path);
    }
}
