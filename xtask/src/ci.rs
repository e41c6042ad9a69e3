//! `cargo xtask ci`: everything that a change must pass, in the order in which it fails soonest. The last line is the test
//! runner's own summary.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{
    bench, build_ebpf, cargo, progress, setup, shell,
    test::{self, Mode},
    workspace::Workspace,
};

/// Options of `cargo xtask ci`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also check the dependencies against the advisory database, which needs the network
    #[arg(long)]
    advisories: bool,
}

/// `cargo xtask ci`.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    format(workspace)?;
    build_ebpf::build(workspace, &[])?;
    lint(workspace)?;
    build_ebpf::lint(workspace)?;
    document(workspace)?;
    check_dependencies(workspace, args.advisories)?;
    bench::guard(workspace, Mode::Judge)?;
    test::run_all(workspace, Mode::Judge, &[])
}

fn format(workspace: &Workspace) -> Result<()> {
    let mut command = cargo::host(workspace);
    command.args(["fmt", "--all", "--", "--check"]);
    // rustfmt prints its differences on stdout.
    shell::run_quietly(&mut command).context("not formatted; run: cargo fmt --all")?;
    progress::found("format", "clean");
    Ok(())
}

fn lint(workspace: &Workspace) -> Result<()> {
    let mut command = cargo::host(workspace);
    command.args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--keep-going",
        "--",
        "-D",
        "warnings",
    ]);
    cargo::run("lints", &mut command)
}

fn document(workspace: &Workspace) -> Result<()> {
    let mut command = cargo::host(workspace);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command.args(["doc", "--locked", "--workspace", "--no-deps"]);
    cargo::run("documentation", &mut command)
}

fn check_dependencies(workspace: &Workspace, advisories: bool) -> Result<()> {
    let deny = setup::deny(workspace)?;
    let mut command: Command = shell::command(deny);
    command.current_dir(workspace.root()).args(["--locked", "check", "bans", "licenses", "sources"]);
    if advisories {
        command.arg("advisories");
    }
    shell::run_quietly(&mut command)?;
    let checked = if advisories {
        "bans, licenses, sources, advisories"
    } else {
        "bans, licenses, sources (advisories need the network: cargo xtask ci --advisories)"
    };
    progress::found("dependencies", checked);
    Ok(())
}
