//! `cargo xtask build`: the one file to deploy, `target/release/xbeat`, with the eBPF object inside.

use anyhow::Result;

use crate::{build_ebpf, cargo, progress, workspace::Workspace};

/// Options of `cargo xtask build`.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// `cargo xtask build`.
pub(crate) fn run(workspace: &Workspace, _args: &Args) -> Result<()> {
    build_ebpf::build(workspace, &[])?;
    release(workspace, &[("xbeat", "xbeat")])?;
    progress::found("binary", &workspace.release_binary("xbeat").display().to_string());
    Ok(())
}

/// Builds release binaries, given as (package, binary).
pub(crate) fn release(workspace: &Workspace, binaries: &[(&str, &str)]) -> Result<()> {
    let mut command = cargo::host(workspace);
    command.args(["build", "--release"]);
    for (package, binary) in binaries {
        command.args(["--package", package, "--bin", binary]);
    }
    let names: Vec<&str> = binaries.iter().map(|(_, binary)| *binary).collect();
    cargo::run(&format!("building {}", names.join(", ")), &mut command)
}
