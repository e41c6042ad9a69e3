//! `xbeat doctor`: what this machine has that the agent needs, what may get in its way, and what to do about each.
//!
//! `gather` reads and changes nothing: no program is attached, no device opened that starts something when opened. Each
//! check in `check` is a function of the facts alone, so that a test can make up any machine.

pub mod check;
pub mod facts;
pub mod gather;

use serde::Serialize;

pub use facts::Facts;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but less well or less safely than it could.
    Warn,
    /// The agent does not work like this.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// What it came to.
    pub status: Verdict,
    /// What was found.
    pub what: String,
    /// What to do about it, where there is something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, status: Verdict::Ok, what: what.into(), advice: None }
    }

    pub(crate) fn warn(check: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Verdict::Warn, what: what.into(), advice: Some(advice.into()) }
    }

    pub(crate) fn fail(check: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Verdict::Fail, what: what.into(), advice: Some(advice.into()) }
    }
}

/// All findings, in the order in which an operator would look.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    check::files::configuration(facts, &mut findings);
    check::kernel::kernel(facts, &mut findings);
    check::kernel::object(facts, &mut findings);
    check::kernel::privileges(facts, &mut findings);
    check::timing::clock(facts, &mut findings);
    check::timing::processors(facts, &mut findings);
    if !facts.configuration.errors.is_empty() {
        // What the rest is about stands in the configuration.
        return findings;
    }
    check::timing::scheduling(facts, &mut findings);
    check::timing::memory(facts, &mut findings);
    check::kernel::bpffs(facts, &mut findings);
    check::files::agent(facts, &mut findings);
    check::network::interfaces(facts, &mut findings);
    check::network::managers(facts, &mut findings);
    check::network::firewall(facts, &mut findings);
    check::network::pings(facts, &mut findings);
    check::files::keys(facts, &mut findings);
    check::files::state(facts, &mut findings);
    check::files::watchdog(facts, &mut findings);
    check::files::serial(facts, &mut findings);
    findings
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.status).max().unwrap_or(Verdict::Ok)
}
