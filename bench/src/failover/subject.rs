//! What is measured: a cluster software and how fast it is set.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::Fault;
use super::peer::PeerStand;
use super::stand::Stand;
use super::xbeat::XbeatStand;
use crate::peers::{Name, Setting};

/// The settings of xbeat, (keepalive, deadtime) in milliseconds.
const SETTINGS_MS: [(u64, u64); 4] = [(2, 10), (10, 30), (10, 50), (100, 300)];
/// The one that goals are about, and with which its peers are compared.
pub(super) const MAIN_MS: (u64, u64) = (10, 30);
/// The slow one, for peers when all settings are asked for.
const SLOW: Setting = Setting::new(100, 3);

/// A software that needs longer than this is waited for while others are measured.
const SLOW_TO_SETTLE: Duration = Duration::from_secs(2);

/// Who decides that the service of xbeat moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Votes {
    /// Two nodes, `tie_break = "always"`: the survivor alone.
    Alone,
    /// Two nodes and a witness, a majority of votes.
    Witness,
}

/// A software at a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Ours.
    Xbeat {
        /// Who decides.
        votes: Votes,
        /// Between two heartbeats, milliseconds.
        keepalive_ms: u64,
        /// Silence that is death, milliseconds.
        deadtime_ms: u64,
    },
    /// Another.
    Peer {
        /// Which.
        name: Name,
        /// How fast.
        setting: Setting,
    },
}

impl Subject {
    /// xbeat, two nodes, at the setting that goals are about.
    pub(super) const MAIN: Self =
        Self::Xbeat { votes: Votes::Alone, keepalive_ms: MAIN_MS.0, deadtime_ms: MAIN_MS.1 };
    /// The same with a witness.
    pub(super) const WITNESSED: Self =
        Self::Xbeat { votes: Votes::Witness, keepalive_ms: MAIN_MS.0, deadtime_ms: MAIN_MS.1 };

    /// Whether a node of it that hears nobody takes over, or goes on, without anybody's vote.
    pub(super) const fn decides_alone(self) -> bool {
        match self {
            Self::Xbeat { votes: Votes::Alone, .. } | Self::Peer { .. } => true,
            Self::Xbeat { votes: Votes::Witness, .. } => false,
        }
    }

    /// All that take part, with these peers; `slow`: those also at xbeat's slowest setting, where they can be.
    pub fn all(peers: &[Name], slow: bool) -> Vec<Self> {
        let alone = SETTINGS_MS.map(|(keepalive_ms, deadtime_ms)| Self::Xbeat {
            votes: Votes::Alone,
            keepalive_ms,
            deadtime_ms,
        });
        let mut all = alone.to_vec();
        all.push(Self::WITNESSED);
        for name in peers {
            let software = name.software();
            all.push(Self::Peer { name: *name, setting: software.fastest() });
            if slow && software.takes(SLOW) {
                all.push(Self::Peer { name: *name, setting: SLOW });
            }
        }
        all
    }

    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Xbeat { votes: Votes::Alone, .. } => "xbeat",
            Self::Xbeat { votes: Votes::Witness, .. } => "xbeat with a witness",
            Self::Peer { name, .. } => name.label(),
        }
    }

    /// `10/30`: heartbeat and deadtime as they are configured, in milliseconds.
    pub fn setting(self) -> String {
        let deadtime_ms = self.deadtime().as_secs_f64() * 1e3;
        format!("{}/{deadtime_ms:.0}", self.interval().as_millis())
    }

    /// Label and setting.
    pub fn title(self) -> String {
        format!("{} {}", self.label(), self.setting())
    }

    /// Between two heartbeats.
    pub(super) fn interval(self) -> Duration {
        match self {
            Self::Xbeat { keepalive_ms, .. } => Duration::from_millis(keepalive_ms),
            Self::Peer { setting, .. } => setting.interval,
        }
    }

    /// As it is configured.
    pub(super) fn deadtime(self) -> Duration {
        match self {
            Self::Xbeat { deadtime_ms, .. } => Duration::from_millis(deadtime_ms),
            Self::Peer { setting, .. } => setting.deadtime(),
        }
    }

    /// Whether it is xbeat.
    pub const fn is_ours(self) -> bool {
        match self {
            Self::Xbeat { .. } => true,
            Self::Peer { .. } => false,
        }
    }

    /// Whether it takes seconds to recover.
    pub(super) fn is_slow(self) -> bool {
        match self {
            Self::Xbeat { .. } => false,
            Self::Peer { name, .. } => name.software().settle() > SLOW_TO_SETTLE,
        }
    }

    /// Why a fault cannot be measured with it.
    pub const fn lacks(self, fault: Fault) -> Option<&'static str> {
        match (self, fault) {
            (Self::Peer { name: Name::Corosync | Name::Bfdd, .. }, Fault::Move) => {
                Some("moves no address itself: its own orderly move does not exist")
            }
            (Self::Xbeat { .. } | Self::Peer { .. }, _) => None,
        }
    }

    /// Starts it.
    pub(super) fn start(self) -> Result<Box<dyn Stand>> {
        Ok(match self {
            Self::Xbeat { votes, keepalive_ms, deadtime_ms } => Box::new(XbeatStand::start(
                votes,
                Duration::from_millis(keepalive_ms),
                Duration::from_millis(deadtime_ms),
            )?),
            Self::Peer { name, setting } => Box::new(PeerStand::start(name, setting)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Subject;
    use crate::failover::Fault;
    use crate::peers::Name;

    #[test]
    fn all_settings_take_part() {
        let titles = |peers: &[Name], slow: bool| {
            Subject::all(peers, slow).into_iter().map(Subject::title).collect::<Vec<_>>()
        };
        let ours =
            ["xbeat 2/10", "xbeat 10/30", "xbeat 10/50", "xbeat 100/300", "xbeat with a witness 10/30"];
        assert_eq!(titles(&[], true), ours);
        assert_eq!(titles(&[Name::Keepalived], false)[5..], ["keepalived 10/30"]);
        assert_eq!(titles(&[Name::Keepalived], true)[5..], ["keepalived 10/30", "keepalived 100/300"]);
    }

    #[test]
    fn only_what_moves_an_address_is_moved() {
        let without: Vec<&str> = Subject::all(&Name::ALL, false)
            .into_iter()
            .filter(|subject| subject.lacks(Fault::Move).is_some())
            .map(Subject::label)
            .collect();
        assert_eq!(without, ["corosync", "bfdd"]);
        assert!(Subject::all(&Name::ALL, true).iter().all(|subject| subject.lacks(Fault::Kill).is_none()));
    }
}
