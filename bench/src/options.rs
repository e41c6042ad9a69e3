//! What all benchmarks of whole clusters have in common on the command line, and the frame in which they run.

use std::path::PathBuf;
use std::process::ExitCode;

use agent_tests::lab::clock;
use anyhow::Result;

use crate::peers::{self, Name};
use crate::report::Report;

/// Options of every benchmark that runs clusters.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Measure other cluster software, too, where it is installed
    #[arg(long)]
    pub peers: bool,
    /// Install Debian's packages of it first, without starting a service
    #[arg(long)]
    pub install_peers: bool,
    /// How often each fault is tried
    #[arg(long, value_name = "N")]
    pub runs: Option<usize>,
    /// Directory for NAME.json, NAME.md and the plots
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Options {
    /// The peers to measure, installed before if that was asked for. Versions and what is left out go into the report.
    ///
    /// # Errors
    /// They could not be installed.
    pub fn peers(&self, report: &mut Report) -> Result<Vec<Name>> {
        if self.install_peers {
            peers::install()?;
        }
        if !self.peers && !self.install_peers {
            return Ok(Vec::new());
        }
        let (here, absent): (Vec<Name>, Vec<Name>) =
            Name::ALL.into_iter().partition(|name| name.software().is_installed());
        report.versions.extend(here.iter().map(|name| format!("{} {}", name.label(), peers::version(*name))));
        let skipped = absent
            .iter()
            .map(|name| format!("{}: not installed (cargo xtask bench --install-peers)", name.label()));
        report.skipped.extend(skipped);
        Ok(here)
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
