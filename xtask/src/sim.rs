//! `cargo xtask sim`: clusters simulated by seed, from a release build. With `--seed S` one seed is replayed with a trace, with
//! `--mutations` rules are broken on purpose and must be noticed. Ends as the simulator: same process, same exit code.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context, Result};

use crate::{build, shell, workspace::Workspace};

/// The simulator's binary.
const BINARY: &str = "xbeat-sim";

/// Options of `cargo xtask sim`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seeds to run
    #[arg(long)]
    seeds: Option<u64>,
    /// Replay this seed alone, with a trace
    #[arg(long)]
    seed: Option<u64>,
    /// Break one rule after the other and show which seed notices
    #[arg(long)]
    mutations: bool,
    /// Further options of the simulator, after `--`
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// `cargo xtask sim`.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    build::release(workspace, &[("agent-tests", BINARY)])?;
    let program = workspace.release_binary(BINARY);
    let mut command = shell::command(&program);
    command.current_dir(workspace.root());
    for (name, value) in [("--seeds", args.seeds), ("--seed", args.seed)] {
        if let Some(value) = value {
            command.arg(name).arg(value.to_string());
        }
    }
    if args.mutations {
        command.arg("--mutations");
    }
    let error = command.args(&args.args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
