//! `cargo xtask bench redraw FILE...`: the plots of reports again, from their JSON.

use std::path::PathBuf;
use std::process::ExitCode;

use bench::{options, report};
use clap::Parser;

/// Draws the plots of reports again.
#[derive(Parser)]
struct Arguments {
    /// NAME.json of a directory that was given as --out
    #[arg(required = true, value_name = "FILE")]
    reports: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    options::run(|| arguments.reports.iter().try_for_each(|file| report::redraw(file)))
}
