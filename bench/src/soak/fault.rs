//! The faults of a soak and how they are drawn: by a seeded generator, so that a run can be had again with the same faults in
//! the same order. Never more than a minority of five nodes is taken for longer than a fault lasts.

use std::time::Duration;

use agent_tests::lab::loss::Channel;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Nodes of the cluster.
pub const NODES: usize = 5;
/// This one is neither killed nor restarted: its memory is watched over the whole run. The last: it is the last to take the
/// service, so that the others, which hold it, can be killed.
pub const SPARED: usize = NODES - 1;
/// The bridges that carry heartbeats.
pub const LINKS: [usize; 2] = [1, 2];
/// The bridge that carries the service.
pub const SERVICE: usize = 0;
/// How often the holder is aimed at on purpose.
const HOLDER_SHARE: f64 = 0.5;
/// How often a second fault comes while the first one lasts.
const DOUBLE_SHARE: f64 = 0.25;

/// What is done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    /// SIGKILL to the agent, another start later.
    Kill(usize),
    /// SIGSTOP to the agent, SIGCONT later.
    Pause(usize),
    /// The carrier of one link.
    CutOne(usize, usize),
    /// The carriers of both links.
    CutBoth(usize),
    /// The node hears nothing and is heard.
    Deaf(usize),
    /// Loss on one link to a node.
    LossOne(usize, usize, Channel),
    /// Loss on both links to a node.
    LossBoth(usize, Channel),
    /// These two on one side, the other three on the other.
    Partition([usize; 2]),
    /// An interface is pulled and put back.
    Unplug(usize, usize),
    /// `xbeat takeover` on this node.
    Takeover(usize),
    /// `xbeat standby` on the holder, and a takeover by it later.
    Standby,
    /// `xbeat reload` of the same file.
    Reload(usize),
    /// `xbeat restart`: another process goes on.
    Restart(usize),
    /// `xbeat reload` of a file with another warntime: another process goes on.
    Retime(usize),
    /// SCHED_FIFO threads on every processor, below the service.
    HogFifo,
    /// Ordinary busy loops, several on every processor.
    HogBusy,
}

/// A kind of fault, for tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
#[expect(missing_docs, reason = "the labels say it")]
pub enum Kind {
    Kill,
    Pause,
    CutOne,
    CutBoth,
    Deaf,
    LossOne,
    LossBoth,
    Partition,
    Unplug,
    UnplugService,
    Takeover,
    Standby,
    Reload,
    Restart,
    Retime,
    HogFifo,
    HogBusy,
    Two,
}

impl Kind {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 18] = [
        Self::Kill,
        Self::Pause,
        Self::CutOne,
        Self::CutBoth,
        Self::Deaf,
        Self::LossOne,
        Self::LossBoth,
        Self::Partition,
        Self::Unplug,
        Self::UnplugService,
        Self::Takeover,
        Self::Standby,
        Self::Reload,
        Self::Restart,
        Self::Retime,
        Self::HogFifo,
        Self::HogBusy,
        Self::Two,
    ];

    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of an agent",
            Self::Pause => "SIGSTOP of an agent",
            Self::CutOne => "one link cut",
            Self::CutBoth => "both links cut",
            Self::Deaf => "both links cut one way",
            Self::LossOne => "loss on one link",
            Self::LossBoth => "loss on both links",
            Self::Partition => "partition 2 | 3",
            Self::Unplug => "heartbeat interface pulled",
            Self::UnplugService => "service interface pulled",
            Self::Takeover => "orderly takeover",
            Self::Standby => "standby, takeover back",
            Self::Reload => "reload, nothing changed",
            Self::Restart => "restart without a gap",
            Self::Retime => "reload of another warntime",
            Self::HogFifo => "SCHED_FIFO hogs",
            Self::HogBusy => "busy loops",
            Self::Two => "two at once",
        }
    }
}

impl Fault {
    /// Its kind.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Kill(_) => Kind::Kill,
            Self::Pause(_) => Kind::Pause,
            Self::CutOne(..) => Kind::CutOne,
            Self::CutBoth(_) => Kind::CutBoth,
            Self::Deaf(_) => Kind::Deaf,
            Self::LossOne(..) => Kind::LossOne,
            Self::LossBoth(..) => Kind::LossBoth,
            Self::Partition(_) => Kind::Partition,
            Self::Unplug(_, SERVICE) => Kind::UnplugService,
            Self::Unplug(..) => Kind::Unplug,
            Self::Takeover(_) => Kind::Takeover,
            Self::Standby => Kind::Standby,
            Self::Reload(_) => Kind::Reload,
            Self::Restart(_) => Kind::Restart,
            Self::Retime(_) => Kind::Retime,
            Self::HogFifo => Kind::HogFifo,
            Self::HogBusy => Kind::HogBusy,
        }
    }

    /// The one node that it is done to.
    pub const fn node(self) -> Option<usize> {
        match self {
            Self::Kill(node)
            | Self::Pause(node)
            | Self::CutOne(node, _)
            | Self::CutBoth(node)
            | Self::Deaf(node)
            | Self::LossOne(node, ..)
            | Self::LossBoth(node, _)
            | Self::Unplug(node, _)
            | Self::Takeover(node)
            | Self::Reload(node)
            | Self::Restart(node)
            | Self::Retime(node) => Some(node),
            Self::Partition(_) | Self::Standby | Self::HogFifo | Self::HogBusy => None,
        }
    }

    /// For people, with its parameters.
    pub fn describe(self) -> String {
        let kind = self.kind().label();
        match self {
            Self::CutOne(node, link) | Self::Unplug(node, link) => format!("{kind}, node {node}, eth{link}"),
            Self::LossOne(node, link, channel) => format!("{kind}, node {node}, eth{link}, {channel:?}"),
            Self::LossBoth(node, channel) => format!("{kind}, node {node}, {channel:?}"),
            Self::Partition([one, two]) => format!("{kind}, nodes {one} and {two} apart"),
            Self::Kill(node)
            | Self::Pause(node)
            | Self::CutBoth(node)
            | Self::Deaf(node)
            | Self::Takeover(node)
            | Self::Reload(node)
            | Self::Restart(node)
            | Self::Retime(node) => format!("{kind}, node {node}"),
            Self::Standby | Self::HogFifo | Self::HogBusy => kind.to_owned(),
        }
    }

    /// Whether an operator's command is all that it is.
    pub const fn is_command(self) -> bool {
        matches!(
            self,
            Self::Takeover(_) | Self::Standby | Self::Reload(_) | Self::Restart(_) | Self::Retime(_)
        )
    }

    /// Whether both may be there at once: not twice on one node, one command at a time, and nothing beside a partition that
    /// could take the majority.
    pub fn goes_with(self, other: Self) -> bool {
        let is_harmless = |fault: Self| {
            matches!(
                fault,
                Self::CutOne(..) | Self::LossOne(..) | Self::HogFifo | Self::HogBusy | Self::Reload(_)
            )
        };
        let is_partition = |fault: Self| matches!(fault, Self::Partition(_));
        let is_hog = |fault: Self| matches!(fault, Self::HogFifo | Self::HogBusy);
        (self.node().is_none() || self.node() != other.node())
            && !(self.is_command() && other.is_command())
            && !(is_hog(self) && is_hog(other))
            && (!is_partition(self) || is_harmless(other))
            && (!is_partition(other) || is_harmless(self))
    }
}

/// A fault and how long it lasts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Drawn {
    /// What.
    pub fault: Fault,
    /// From the beginning of the round.
    pub after: Duration,
    /// Until it is mended.
    pub lasts: Duration,
}

/// Draws faults.
#[derive(Debug)]
pub struct Draw {
    random: StdRng,
    only: Vec<Kind>,
    bag: Vec<Kind>,
}

impl Draw {
    /// The same faults for the same seed, as long as the same nodes serve. Of all kinds, unless `only` some are wanted.
    pub fn new(seed: u64, only: &[Kind]) -> Self {
        Self { random: StdRng::seed_from_u64(seed), only: only.to_vec(), bag: Vec::new() }
    }

    /// One fault or two at once; `holder` serves now. Every kind comes once before any comes again.
    pub fn round(&mut self, holder: usize) -> Vec<Drawn> {
        let kind = self.kind();
        let first = Drawn { after: Duration::ZERO, ..self.drawn(kind, holder) };
        let mut round = vec![first];
        let is_double = self.only.is_empty() || self.only.contains(&Kind::Two);
        if is_double && self.random.random_bool(DOUBLE_SHARE) {
            let kind = Kind::ALL[self.random.random_range(0..Kind::ALL.len() - 1)];
            let second = self.drawn(kind, holder);
            if first.fault.goes_with(second.fault) {
                round
                    .push(Drawn { after: first.lasts.mul_f64(self.random.random_range(0.0..0.8)), ..second });
            }
        }
        round
    }

    fn kind(&mut self) -> Kind {
        if self.bag.is_empty() {
            self.bag = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Two).collect();
            // What takes the service, or could take it, comes more often.
            self.bag.extend([Kind::Kill, Kind::Pause, Kind::CutBoth, Kind::Partition]);
            if self.only.iter().any(|kind| *kind != Kind::Two) {
                self.bag.retain(|kind| self.only.contains(kind));
            }
        }
        let place = self.random.random_range(0..self.bag.len());
        self.bag.swap_remove(place)
    }

    fn drawn(&mut self, kind: Kind, holder: usize) -> Drawn {
        let any = self.node(holder, false);
        let mortal = self.node(holder, true);
        let link = LINKS[self.random.random_range(0..LINKS.len())];
        let fault = match kind {
            Kind::Kill => Fault::Kill(mortal),
            Kind::Pause => Fault::Pause(any),
            Kind::CutOne => Fault::CutOne(any, link),
            Kind::CutBoth => Fault::CutBoth(any),
            Kind::Deaf => Fault::Deaf(any),
            Kind::LossOne => Fault::LossOne(any, link, self.channel()),
            Kind::LossBoth => Fault::LossBoth(any, self.channel()),
            Kind::Partition => Fault::Partition(self.minority(holder)),
            Kind::Unplug => Fault::Unplug(any, link),
            Kind::UnplugService => Fault::Unplug(any, SERVICE),
            Kind::Takeover => Fault::Takeover((holder + self.random.random_range(1..NODES)) % NODES),
            Kind::Standby => Fault::Standby,
            Kind::Reload => Fault::Reload(any),
            Kind::Restart => Fault::Restart(mortal),
            Kind::Retime => Fault::Retime(mortal),
            Kind::HogFifo => Fault::HogFifo,
            Kind::HogBusy | Kind::Two => Fault::HogBusy,
        };
        Drawn { fault, after: Duration::ZERO, lasts: self.length(kind) }
    }

    fn node(&mut self, holder: usize, mortal: bool) -> usize {
        let is_allowed = |node: usize| !mortal || node != SPARED;
        if self.random.random_bool(HOLDER_SHARE) && is_allowed(holder) {
            return holder;
        }
        // The spared one is the last.
        self.random.random_range(0..if mortal { SPARED } else { NODES })
    }

    fn minority(&mut self, holder: usize) -> [usize; 2] {
        let one = self.node(holder, false);
        [one, (one + self.random.random_range(1..NODES)) % NODES]
    }

    fn channel(&mut self) -> Channel {
        let loss = self.random.random_range(0.05..0.5);
        if self.random.random_bool(0.5) {
            Channel::Independent(loss)
        } else {
            Channel::Bursts { loss, length: self.random.random_range(2.0..20.0) }
        }
    }

    fn length(&mut self, kind: Kind) -> Duration {
        let (least, most) = match kind {
            // Even by its logarithm: half of the pauses are below half a second.
            Kind::Pause => {
                let exponent = self.random.random_range(50.0_f64.ln()..5_000.0_f64.ln());
                return Duration::from_secs_f64(exponent.exp() / 1e3);
            }
            Kind::Kill => (200, 2_000),
            Kind::CutOne | Kind::CutBoth | Kind::Deaf | Kind::Partition => (100, 3_000),
            Kind::LossOne | Kind::LossBoth => (1_000, 4_000),
            Kind::Unplug | Kind::UnplugService => (300, 2_000),
            Kind::HogFifo | Kind::HogBusy | Kind::Two => (1_000, 3_000),
            Kind::Standby => (300, 1_500),
            Kind::Takeover | Kind::Reload | Kind::Restart | Kind::Retime => (100, 200),
        };
        Duration::from_millis(self.random.random_range(least..most))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{Draw, Fault, Kind, NODES, SPARED};

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let rounds = |seed| {
            let mut draw = Draw::new(seed, &[]);
            (0..50).flat_map(|round| draw.round(round % NODES)).collect::<Vec<_>>()
        };
        assert_eq!(rounds(1), rounds(1));
        assert_ne!(rounds(1), rounds(2));
    }

    #[test]
    fn all_kinds_come_and_the_spared_node_lives() {
        let mut draw = Draw::new(7, &[]);
        let mut kinds = BTreeSet::new();
        let mut doubles = 0;
        for round in 0..2_000 {
            let holder = round % NODES;
            let drawn = draw.round(holder);
            doubles += usize::from(drawn.len() == 2);
            for one in &drawn {
                kinds.insert(one.fault.kind());
                assert!(one.lasts >= Duration::from_millis(50) && one.lasts <= Duration::from_secs(5));
                let takes = matches!(one.fault, Fault::Kill(_) | Fault::Restart(_) | Fault::Retime(_));
                assert!(!takes || one.fault.node() != Some(SPARED), "{one:?}");
                assert_ne!(one.fault, Fault::Takeover(holder));
                if let Fault::Partition([a, b]) = one.fault {
                    assert_ne!(a, b);
                }
            }
            if let [one, two] = drawn[..] {
                assert!(one.fault.goes_with(two.fault) && two.fault.goes_with(one.fault));
            }
        }
        assert_eq!(kinds.len(), Kind::ALL.len() - 1, "{kinds:?}");
        assert!(doubles > 200, "{doubles}");
    }
}
