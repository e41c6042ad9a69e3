//! `xbeat doctor`: looks at this machine, and says what is in the agent's way and what to do about it.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::{Exit, print};
use crate::doctor::{self, Finding, Verdict, gather};

/// The report as one object, a stable interface.
#[derive(Serialize)]
struct Report<'a> {
    /// The worst of them.
    status: Verdict,
    findings: &'a [Finding],
}

pub(super) fn doctor(config: &Path, socket: Option<&Path>, json: bool) -> Exit {
    let facts = gather::gather(config, socket);
    let findings = doctor::examine(&facts);
    let worst = doctor::worst(&findings);
    let text = if json {
        let report = Report { status: worst, findings: &findings };
        let Ok(line) = serde_json::to_string(&report) else { return Exit::No };
        line + "\n"
    } else {
        table(&findings)
    };
    match print::out(&text) {
        Err(exit) => exit,
        Ok(()) if worst == Verdict::Fail => Exit::No,
        Ok(()) => Exit::Done,
    }
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    for Finding { check, status, what, advice } in findings {
        let word = match status {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        // Writing to a String does not fail, here and below.
        let _ = writeln!(text, "{word}  {check:<width$}  {what}");
        if let Some(advice) = advice {
            let _ = writeln!(text, "      {:<width$}  -> {advice}", "");
        }
    }
    let (warnings, failures) = (count(Verdict::Warn), count(Verdict::Fail));
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let _ = match (failures, warnings) {
        (0, 0) => writeln!(text, "Nothing is in the agent's way"),
        (0, _) => writeln!(text, "The agent works here; {}", plural(warnings, "warning")),
        (_, _) => writeln!(
            text,
            "The agent does not work here as configured: {}, {}",
            plural(failures, "failure"),
            plural(warnings, "warning")
        ),
    };
    text
}
