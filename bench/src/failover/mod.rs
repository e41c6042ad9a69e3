//! Failover over veth pairs, stage by stage: the serving node is struck by a fault, again and again, and a client, an observer
//! and a capture at the survivor's port see what follows. xbeat and its peers stand in the same kind of network, with the
//! same client and the same faults, and take turns in the same run.

mod peer;
mod plots;
pub mod report;
pub mod rounds;
pub mod stalls;
mod stand;
pub mod subject;
mod watch;
mod xbeat;

use serde::Serialize;

pub use subject::{Subject, Votes};

/// The golden ratio's part behind the point.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// What happens to the serving node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL to all processes of the software; the link and the kernel live on.
    Kill,
    /// The carrier of its link is gone; it comes back after the takeover.
    Cut,
    /// SIGSTOP to all processes of the software; SIGCONT after the takeover.
    Freeze,
    /// The operator moves the service.
    Move,
    /// SIGKILL, then at once the link: a machine that lost its power.
    KillAndCut,
}

impl Fault {
    /// Those that are measured unless others are asked for.
    pub const DEFAULT: [Self; 4] = [Self::Kill, Self::Cut, Self::Freeze, Self::Move];

    /// For titles.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Cut => "link cut",
            Self::Freeze => "freeze",
            Self::Move => "orderly move",
            Self::KillAndCut => "kill -9 and link cut",
        }
    }

    /// What it means.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Kill => {
                "kill -9 of the software of the serving node; its link, its kernel and the service stay"
            }
            Self::Cut => "the link of the serving node is cut, and given back after the takeover",
            Self::Freeze => {
                "the software of the serving node is frozen (SIGSTOP), and continued after the takeover"
            }
            Self::Move => "the operator moves the service",
            Self::KillAndCut => "kill -9 of the software of the serving node, and its link is cut at once",
        }
    }

    /// Whether what was taken comes back within the run, so that the old node is there again beside the new one.
    pub const fn returns(self) -> bool {
        match self {
            Self::Cut | Self::Freeze => true,
            Self::Kill | Self::Move | Self::KillAndCut => false,
        }
    }
}

/// One setting of one cluster software under one fault.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// What.
    pub subject: Subject,
    /// Under what.
    pub fault: Fault,
    /// The failovers that took place.
    pub runs: Vec<Run>,
    /// Why others did not.
    pub failures: Vec<String>,
    /// The service moved before the fault: a false death, each with the machine's worst stall in that time, in milliseconds.
    pub unasked_ms: Vec<f64>,
}

/// One failover; times in milliseconds. `None`: there is none, or it cannot be seen.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Run {
    /// The client's longest time without an answer around the takeover.
    pub outage_ms: f64,
    /// The same once what was taken is back.
    pub return_outage_ms: Option<f64>,
    /// From the last heartbeat that reached the survivor to its verdict.
    pub heard_to_dead_ms: Option<f64>,
    /// The verdict behind the deadtime, counted from that heartbeat.
    pub overshoot_ms: Option<f64>,
    /// From the verdict to the address on the survivor's interface.
    pub dead_to_address_ms: Option<f64>,
    /// From the verdict to the first announcement on the wire.
    pub dead_to_announced_ms: Option<f64>,
    /// From the announcement to the first answer of the survivor that the client read.
    pub announced_to_answer_ms: Option<f64>,
    /// For how long the observer was answered by both nodes.
    pub both_ms: f64,
    /// Answers of the old node between two of the new one, to the client.
    pub old_answers: usize,
    /// Requests of the observer to the old node meanwhile: that it was asked at all.
    pub old_asked: u64,
    /// The worst delay of the client itself.
    pub client_late_ms: f64,
    /// The worst stall of a processor, from the fault to the takeover.
    pub stall_ms: f64,
}

impl Series {
    /// Nothing measured yet.
    fn new(subject: Subject, fault: Fault) -> Self {
        Self { subject, fault, runs: Vec::new(), failures: Vec::new(), unasked_ms: Vec::new() }
    }
}

/// Where in the interval the fault of a run falls, the same in every series: multiples of the golden ratio lie evenly, however
/// many there are.
fn phase(number: usize) -> f64 {
    ((number as f64 + 0.5) * GOLDEN).fract()
}

#[cfg(test)]
mod tests {
    use super::phase;

    #[test]
    fn faults_fall_evenly_wherever_the_series_ends() {
        for count in [10, 20, 30, 100] {
            let mut phases: Vec<f64> = (0..count).map(phase).collect();
            phases.sort_by(f64::total_cmp);
            let widest = phases.windows(2).map(|two| two[1] - two[0]).fold(0.0, f64::max);
            assert!(widest < 2.0 / f64::from(u32::try_from(count).expect("small")), "{count}: {widest}");
            assert!(phases.iter().all(|phase| (0.0..1.0).contains(phase)));
        }
    }
}
