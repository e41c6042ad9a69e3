//! `cargo xtask bench loss`: clusters of each software side by side, in one process and at the same time, while every heartbeat
//! between their nodes passes a channel that loses frames. Counted are false deaths and what a client misses.

pub mod machine;
pub mod model;
pub mod plots;
pub mod report;
pub mod rig;
pub mod run;

use std::time::Duration;

use agent_tests::lab::loss::Channel;
use serde::Serialize;

use crate::peers::Name;

/// Between two heartbeats of xbeat where the count is exact: the last of `count` arrives before the deadline, by more than a
/// thread ever wakes late. (At [`INTERVAL`] it would race with the deadline.)
pub const KEEPALIVE: Duration = Duration::from_micros(9_700);
/// Between two heartbeats of everything else, and what a deadtime is counted in.
pub const INTERVAL: Duration = Duration::from_millis(10);
/// Counts of xbeat.
pub const COUNTS: [u32; 5] = [3, 5, 10, 15, 20];

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// xbeat with XDP.
    Xbeat,
    /// xbeat without: on sockets.
    Sockets,
    /// xbeat with XDP and a keepalive of which the deadtime is a multiple.
    Edge,
    /// Other software.
    Peer(Name),
}

/// One cluster.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Setup {
    /// Of what.
    pub subject: Subject,
    /// Over so many links, each of which loses for itself.
    pub links: usize,
    /// The deadtime in units of [`INTERVAL`].
    pub count: u32,
}

impl Subject {
    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Xbeat => "xbeat",
            Self::Sockets => "xbeat on sockets",
            Self::Edge => "xbeat, keepalive 10 ms",
            Self::Peer(name) => name.label(),
        }
    }
}

impl Setup {
    const fn new(subject: Subject, links: usize, count: u32) -> Self {
        Self { subject, links, count }
    }

    /// Between two heartbeats.
    pub const fn keepalive(&self) -> Duration {
        match self.subject {
            Subject::Xbeat | Subject::Sockets => KEEPALIVE,
            Subject::Edge | Subject::Peer(_) => INTERVAL,
        }
    }

    /// As it is configured.
    pub fn deadtime(&self) -> Duration {
        INTERVAL * self.count
    }

    /// How many of the two nodes judge the other: only the backup of VRRP does.
    pub const fn judges(&self) -> f64 {
        match self.subject {
            Subject::Peer(Name::Keepalived) => 1.0,
            Subject::Xbeat
            | Subject::Sockets
            | Subject::Edge
            | Subject::Peer(Name::Heartbeat | Name::Corosync | Name::Bfdd) => 2.0,
        }
    }

    /// Whether it is other software.
    pub const fn is_peer(&self) -> bool {
        matches!(self.subject, Subject::Peer(_))
    }

    /// Subject, links and deadtime.
    pub fn name(&self) -> String {
        let links = if self.links == 1 { "" } else { ", two links" };
        format!("{}{links}, {} ms", self.subject.label(), self.deadtime().as_millis())
    }
}

/// All clusters that run side by side: how many follows from what they cost (a test of the run's own load is in its report).
pub fn setups(peers: &[Name]) -> Vec<Setup> {
    let mut setups: Vec<Setup> = Vec::new();
    for links in [1, 2] {
        setups.extend(COUNTS.map(|count| Setup::new(Subject::Xbeat, links, count)));
    }
    setups.extend([3, 5, 15].map(|count| Setup::new(Subject::Sockets, 1, count)));
    setups.extend([3, 5].map(|count| Setup::new(Subject::Edge, 1, count)));
    for name in peers {
        // The fastest that is stable without loss, and one that is slower.
        let counts: &[u32] = match name {
            Name::Keepalived => &[3, 5, 15],
            Name::Heartbeat => &[5, 15],
            Name::Corosync => &[4, 15],
            Name::Bfdd => &[3, 15],
        };
        setups.extend(counts.iter().map(|count| Setup::new(Subject::Peer(*name), 1, *count)));
    }
    setups
}

/// How frames are lost, one after the other.
pub fn channels() -> Vec<Channel> {
    let independent = [0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5].map(Channel::Independent);
    let bursts = [(0.1, 5.0), (0.1, 20.0), (0.3, 5.0), (0.3, 20.0)];
    let bursts = bursts.map(|(loss, length)| Channel::Bursts { loss, length });
    independent.into_iter().chain(bursts).collect()
}

/// For tables.
pub fn label(channel: Channel) -> String {
    match channel {
        Channel::Independent(loss) => format!("{:.0} %", loss * 100.0),
        Channel::Bursts { loss, length } => format!("{:.0} %, bursts of {length:.0}", loss * 100.0),
    }
}

/// What one cluster showed while frames were lost in one way.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Seen {
    /// For so long.
    pub seconds: f64,
    /// One node called the other dead.
    pub deaths: usize,
    /// Of them, while the machine itself stood still.
    pub stalled: usize,
    /// Silences longer than the deadtime at the nodes' ports, where they were captured.
    pub silences: Option<usize>,
    /// Of the deaths, those that belong to one of these silences, by how far the verdict is behind the deadline.
    pub behind_ms: Vec<f64>,
    /// Probes of the client.
    pub probes: usize,
    /// Those without an answer.
    pub unanswered: usize,
    /// How often an answer came from another node than the one before.
    pub moves: usize,
    /// Frames that the channel judged.
    pub frames: u64,
    /// Those it lost.
    pub lost: u64,
    /// Whether it was not whole again when this began.
    pub was_broken: bool,
}

impl Seen {
    /// Takes in what another run of the same showed.
    pub fn add(&mut self, more: Self) {
        self.seconds += more.seconds;
        self.deaths += more.deaths;
        self.stalled += more.stalled;
        self.silences = self.silences.map_or(more.silences, |all| Some(all + more.silences.unwrap_or(0)));
        self.behind_ms.extend(more.behind_ms);
        self.probes += more.probes;
        self.unanswered += more.unanswered;
        self.moves += more.moves;
        self.frames += more.frames;
        self.lost += more.lost;
        self.was_broken |= more.was_broken;
    }

    /// Hours in which one node judged the other.
    pub fn node_hours(&self, setup: &Setup) -> f64 {
        self.seconds * setup.judges() / 3600.0
    }

    /// Seconds of an hour in which the client gets no answer.
    pub fn lost_service(&self) -> f64 {
        if self.probes == 0 { f64::NAN } else { self.unanswered as f64 / self.probes as f64 * 3600.0 }
    }
}
