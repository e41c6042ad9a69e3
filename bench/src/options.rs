//! What all benchmarks of whole clusters have in common on the command line, and the frame in which they run.

use std::path::PathBuf;
use std::process::ExitCode;

use agent_tests::lab::clock;
use anyhow::Result;

use crate::peers::Name;
use crate::report::Report;

/// Options of every benchmark that runs clusters.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Measure other cluster software, too, where it is installed
    #[arg(long)]
    pub peers: bool,
    /// How often each fault is tried
    #[arg(long, value_name = "N")]
    pub runs: Option<usize>,
    /// Directory for NAME.json, NAME.md and the plots
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Options {
    /// The peers to measure. Versions and what is left out go into the report.
    pub fn peers(&self, report: &mut Report) -> Vec<Name> {
        if !self.peers {
            return Vec::new();
        }
        let (here, absent): (Vec<Name>, Vec<Name>) =
            Name::ALL.into_iter().partition(|name| name.software().is_installed());
        report.versions.extend(here.iter().map(|name| format!("{} {}", name.label(), name.version())));
        let skipped = absent
            .iter()
            .map(|name| format!("{}: not installed (cargo xtask bench --install-peers)", name.label()));
        report.skipped.extend(skipped);
        here
    }
}

/// Runs a benchmark: ends early and in order when the user interrupts, and prints an error for people.
pub fn run(work: impl FnOnce() -> Result<()>) -> ExitCode {
    match clock::catch_interrupts().and_then(|()| work()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
