//! Nodes under load that takes their CPUs: whether anybody is declared dead who is not, how late everything is, and whether a true
//! death is still found in time. All scheduling choices of the agent, and peers, are under the same load at the same time.

pub mod lateness;
pub mod load;
pub mod phase;
pub mod probe;
pub mod report;
pub mod rival;
pub mod scheduling;
pub mod subject;
pub mod witness;

use std::time::Duration;

use agent_tests::lab::scratch::Scratch;
use anyhow::{Context as _, Result, ensure};

use crate::peers::Name;
use crate::progress::Progress;
use phase::{Finding, Plan};
use subject::{Choice, Subject};
use witness::Witness;

/// Of every cluster.
pub const KEEPALIVE: Duration = Duration::from_millis(10);
/// Of every cluster.
pub const DEADTIME: Duration = Duration::from_millis(50);
/// Heartbeats in a deadtime.
pub const COUNT: u32 = 5;
/// Between two phases: everybody is whole again, and peers are started anew.
pub const BETWEEN: Duration = Duration::from_secs(3);
/// The same with peers.
pub const BETWEEN_PEERS: Duration = Duration::from_secs(10);

/// A load.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Rung {
    /// None.
    Idle,
    /// Four busy loops on each CPU.
    Busy,
    /// Processes that fork and end.
    Forks,
    /// Files written and synchronised.
    Io,
    /// Nearly all memory that is available, written over and over.
    Memory,
    /// Timers, 20 kHz each.
    Timers,
    /// A busy loop of SCHED_FIFO 10.
    Fifo10,
    /// Of SCHED_FIFO 50.
    Fifo50,
    /// Of SCHED_FIFO 80.
    Fifo80,
}

impl Rung {
    /// The whole ladder.
    pub const ALL: [Self; 9] = [
        Self::Idle,
        Self::Busy,
        Self::Forks,
        Self::Io,
        Self::Memory,
        Self::Timers,
        Self::Fifo10,
        Self::Fifo50,
        Self::Fifo80,
    ];

    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "4 busy loops",
            Self::Forks => "fork storm",
            Self::Io => "IO storm",
            Self::Memory => "memory",
            Self::Timers => "timer storm",
            Self::Fifo10 => "FIFO 10 hogs",
            Self::Fifo50 => "FIFO 50 hogs",
            Self::Fifo80 => "FIFO 80 hogs",
        }
    }

    /// Whether stress-ng makes it.
    pub const fn needs_stress(self) -> bool {
        match self {
            Self::Forks | Self::Io | Self::Memory | Self::Timers => true,
            Self::Idle | Self::Busy | Self::Fifo10 | Self::Fifo50 | Self::Fifo80 => false,
        }
    }

    const fn places(self) -> &'static [Place] {
        match self {
            Self::Idle => &[Place::Both],
            Self::Busy
            | Self::Forks
            | Self::Io
            | Self::Memory
            | Self::Timers
            | Self::Fifo10
            | Self::Fifo50
            | Self::Fifo80 => &[Place::One, Place::Both],
        }
    }
}

/// Where load is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On the CPU of node 0.
    One,
    /// On all CPUs.
    Both,
}

impl Place {
    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::One => "one CPU",
            Self::Both => "all CPUs",
        }
    }

    fn cpus(self, all: &[usize]) -> &[usize] {
        match self {
            Self::One => all.get(..1).unwrap_or(all),
            Self::Both => all,
        }
    }
}

/// A phase of which the hypervisor took much is run so often at most, and so many are in all.
const ATTEMPTS_MAX: usize = 3;
const AGAIN_MAX: usize = 6;

/// The phases of some rungs.
pub fn plans(rungs: &[Rung], span: Duration) -> Vec<Plan> {
    let of = |rung: &Rung| {
        let rung = *rung;
        rung.places().iter().map(move |place| Plan { rung, place: *place, span })
    };
    rungs.iter().flat_map(of).collect()
}

/// Runs all phases with all choices and these peers: the names of those that took part, and what was found.
///
/// # Errors
/// Not privileged, too few CPUs, or the user interrupted.
pub fn run(plans: &[Plan], peers: &[Name]) -> Result<(Vec<Entrant>, Vec<Finding>)> {
    let cpus = load::cpus()?;
    ensure!(cpus.len() >= 2, "two CPUs are needed: one for each node");
    let mut progress = Progress::new("starvation", plans.len());
    progress.at("starting");
    let scratch = Scratch::new()?;
    let witness = Witness::start(&cpus)?;
    let mut subjects = Vec::new();
    for choice in Choice::ALL {
        let label = choice.label();
        let mut subject = Subject::agents(choice).with_context(|| format!("cannot start {label}"))?;
        // One after the other: what one asks for by itself, and then does not need, is there for the next.
        subject.settle().with_context(|| format!("{label} did not become whole"))?;
        subjects.push(subject);
    }
    subjects.extend(peers.iter().map(|name| Subject::rival(*name)));
    let mut findings = Vec::new();
    let files = std::env::temp_dir().join(format!("xbeat-starvation-{}", std::process::id()));
    let mut again = AGAIN_MAX;
    for plan in plans {
        let what = format!("{}, {}", plan.rung.label(), plan.place.label());
        let mut best: Option<Finding> = None;
        for attempts in 1.. {
            progress.at(what.clone());
            let found = phase::run(*plan, &mut subjects, &cpus, &witness, &files);
            // Nothing is left there by an orderly end; a killed load may have left files.
            let _ = std::fs::remove_dir_all(&files);
            let found = found.with_context(|| what.clone())?;
            let is_better = best.as_ref().is_none_or(|best| found.stolen_ms < best.stolen_ms);
            let mut least = if is_better { found } else { best.context("no phase was run")? };
            least.attempts = attempts;
            let is_good = !least.is_stolen(cpus.len());
            best = Some(least);
            if is_good || again == 0 || attempts == ATTEMPTS_MAX {
                break;
            }
            again -= 1;
        }
        findings.extend(best);
        progress.step();
    }
    drop(scratch);
    let entrants = subjects
        .iter()
        .map(|subject| Entrant { name: subject.name.clone(), is_default: subject.is_default() })
        .collect();
    Ok((entrants, findings))
}

/// Who took part.
#[derive(Clone, Debug)]
pub struct Entrant {
    /// For tables.
    pub name: String,
    /// Whether it is xbeat as it is scheduled by itself.
    pub is_default: bool,
}
