//! The table of kernels: a row for each, a column for each check, for people as Markdown and for programs as JSON.

use std::fmt::Write as _;

use anyhow::{Error, Result};
use serde::Serialize;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The machines boot.
    Boot,
    /// Every program of the object is taken by the verifier.
    Load,
    /// XDP's verdict on each frame of the corpus is that of userspace.
    Frames,
    /// The gate's verdict on each packet.
    Gates,
    /// How the agent receives on virtio-net.
    Receive,
    /// How it guards what leaves.
    Egress,
    /// How it receives with `xdp = "tcx"`.
    Classifier,
    /// Two nodes see each other, and one serves.
    Cluster,
    /// The holder's agent is killed: its kernel shuts the gate, the other takes over.
    Killed,
    /// The network is cut, and the serial line goes on.
    Serial,
    /// The holder's kernel panics.
    Panic,
    /// The holder's agent is killed and its watchdog resets the machine.
    Watchdog,
    /// An orderly stop stops the watchdog.
    Stop,
}

impl Check {
    /// All, in the order of the columns.
    pub const ALL: [Self; 13] = [
        Self::Boot,
        Self::Load,
        Self::Frames,
        Self::Gates,
        Self::Receive,
        Self::Egress,
        Self::Classifier,
        Self::Cluster,
        Self::Killed,
        Self::Serial,
        Self::Panic,
        Self::Watchdog,
        Self::Stop,
    ];

    /// The column's head.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Load => "object loads",
            Self::Frames => "XDP verdicts",
            Self::Gates => "gate verdicts",
            Self::Receive => "receives by",
            Self::Egress => "egress by",
            Self::Classifier => "xdp = \"tcx\"",
            Self::Cluster => "two nodes",
            Self::Killed => "agent killed",
            Self::Serial => "network cut, serial left",
            Self::Panic => "kernel panic",
            Self::Watchdog => "watchdog",
            Self::Stop => "orderly stop",
        }
    }
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "result", content = "detail")]
pub enum Outcome {
    /// As it should be, and what was seen.
    Passed(String),
    /// Not so, and why.
    Failed(String),
    /// Not tried, and why.
    Skipped(String),
}

/// What one kernel came to.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The series that was asked for, as `6.1`, or `host`.
    pub series: String,
    /// `uname -r`, empty when it never ran.
    pub release: String,
    /// In the order in which they were made.
    pub checks: Vec<(Check, Outcome)>,
}

impl Row {
    /// A row without a check.
    pub fn new(series: &str) -> Self {
        Self { series: series.to_owned(), release: String::new(), checks: Vec::new() }
    }

    /// Makes a check, notes what it came to, and tells it. A failure is noted and not handed on: the next check is made.
    pub fn make(&mut self, check: Check, work: impl FnOnce() -> Result<String>) -> bool {
        let outcome = match work() {
            Ok(detail) => Outcome::Passed(detail),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        self.note(check, outcome)
    }

    /// Notes what a check came to, and tells it. Returns whether it passed.
    pub fn note(&mut self, check: Check, outcome: Outcome) -> bool {
        let (mark, detail) = match &outcome {
            Outcome::Passed(detail) => ("ok  ", detail),
            Outcome::Failed(why) => ("FAIL", why),
            Outcome::Skipped(why) => ("skip", why),
        };
        eprintln!("{mark} {} {}: {detail}", self.series, check.label());
        let passed = matches!(outcome, Outcome::Passed(_));
        self.checks.push((check, outcome));
        passed
    }

    /// All checks that were not made are skipped for this reason.
    pub fn skip_the_rest(&mut self, why: &str) {
        for check in Check::ALL {
            if self.outcome(check).is_none() {
                self.checks.push((check, Outcome::Skipped(why.to_owned())));
            }
        }
    }

    /// Whether any check failed.
    pub fn has_failed(&self) -> bool {
        self.checks.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
    }

    fn outcome(&self, check: Check) -> Option<&Outcome> {
        self.checks.iter().find(|(of, _)| *of == check).map(|(_, outcome)| outcome)
    }
}

/// All kernels.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// One for each kernel.
    pub kernels: Vec<Row>,
    /// Over all.
    pub summary: Summary,
}

/// What all checks came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Kernels on which at least one check was made.
    pub kernels: usize,
    /// Checks.
    pub passed: usize,
    /// Checks.
    pub failed: usize,
    /// Checks.
    pub skipped: usize,
}

impl Summary {
    /// Whether the run is good: something ran, and nothing failed.
    pub const fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kernels, passed, failed, skipped } = self;
        write!(f, "kernels {kernels}, checks {passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl Table {
    /// Makes it.
    pub fn new(kernels: Vec<Row>) -> Self {
        let mut summary = Summary::default();
        for row in &kernels {
            let before = summary.passed + summary.failed;
            for (_, outcome) in &row.checks {
                match outcome {
                    Outcome::Passed(_) => summary.passed += 1,
                    Outcome::Failed(_) => summary.failed += 1,
                    Outcome::Skipped(_) => summary.skipped += 1,
                }
            }
            summary.kernels += usize::from(summary.passed + summary.failed > before);
        }
        Self { kernels, summary }
    }

    /// A column for each kernel, a line for each check: narrower than the other way round.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| check |");
        for row in &self.kernels {
            let release = if row.release.is_empty() { "did not run" } else { &row.release };
            let _ = write!(text, " {} ({release}) |", row.series);
        }
        text += "\n|---|";
        text += &"---|".repeat(self.kernels.len());
        for check in Check::ALL {
            let _ = write!(text, "\n| {} |", check.label());
            for row in &self.kernels {
                let _ = write!(text, " {} |", row.outcome(check).map_or_else(String::new, cell));
            }
        }
        text + "\n"
    }

    /// As one object.
    ///
    /// # Errors
    /// None in fact.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(Error::from)
    }
}

/// Longest text of a cell, in characters; the log and JSON have all of it.
const CELL_MAX: usize = 200;

/// A bar would end the cell.
fn cell(outcome: &Outcome) -> String {
    let text = match outcome {
        Outcome::Passed(detail) if detail.is_empty() => "yes".to_owned(),
        Outcome::Passed(detail) => detail.clone(),
        Outcome::Failed(why) => format!("**FAILED**: {why}"),
        Outcome::Skipped(why) => format!("skipped: {why}"),
    };
    let text = text.replace('|', "/").replace('\n', " ");
    if text.chars().count() <= CELL_MAX {
        return text;
    }
    text.chars().take(CELL_MAX).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Check, Outcome, Row, Table};

    #[test]
    fn a_table_counts_and_shows_what_was_made() {
        let mut old = Row::new("5.10");
        old.release = "5.10.0-46-amd64".to_owned();
        assert!(old.make(Check::Boot, || Ok("5.1 s".to_owned())));
        assert!(!old.make(Check::Load, || anyhow::bail!("refused | by\nthe verifier")));
        old.skip_the_rest("after the failure");
        let mut absent = Row::new("6.1");
        absent.skip_the_rest("no network");
        let table = Table::new(vec![old, absent]);
        let summary = table.summary;
        assert_eq!(summary.to_string(), "kernels 1, checks 1 passed, 1 failed, 24 skipped");
        assert!(!summary.is_good());
        let text = table.markdown();
        assert!(
            text.starts_with("| check | 5.10 (5.10.0-46-amd64) | 6.1 (did not run) |\n|---|---|---|\n"),
            "{text}"
        );
        assert!(
            text.contains("| object loads | **FAILED**: refused / by the verifier | skipped: no network |"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 2 + Check::ALL.len());
        assert!(table.json().unwrap().contains("\"passed\": 1"));
    }

    #[test]
    fn nothing_that_ran_is_not_good() {
        let mut absent = Row::new("6.1");
        absent.skip_the_rest("no network");
        assert!(!Table::new(vec![absent]).summary.is_good());
        let mut good = Row::new("6.1");
        good.note(Check::Boot, Outcome::Passed(String::new()));
        assert!(Table::new(vec![good]).summary.is_good());
    }
}
