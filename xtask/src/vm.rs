//! `cargo xtask test --vm`: finds or gets QEMU and Debian's kernels, builds the agent and its tests without shared
//! libraries, and has `xbeat-vm` boot machines with them. Everything is kept in cargo's target directory, and nothing is
//! installed.

mod apt;
mod binaries;
mod kernels;
mod qemu;

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::{build_ebpf, privilege::Privilege, progress, workspace::Workspace};

/// Options of `cargo xtask test --vm`.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Boot virtual machines with other kernels and run the checks in them, instead of the ordinary tests
    #[arg(long)]
    pub(crate) vm: bool,
    /// Only these kernels, such as 5.10,6.12 [default: all]
    #[arg(long, value_name = "SERIES", value_delimiter = ',', requires = "vm")]
    kernel: Vec<String>,
    /// Leave the machines' logs in the target directory
    #[arg(long, requires = "vm")]
    keep: bool,
    /// Print the table as JSON
    #[arg(long, requires = "vm")]
    json: bool,
}

/// Ends as `xbeat-vm`: same process, same exit code.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "the machines are x86_64, and run what an x86_64 compiler made");
    let wanted = kernels::select(&args.kernel)?;
    // What may be missing first, what only takes time last.
    let qemu = qemu::ensure(workspace)?;
    let mut found: Vec<OsString> = Vec::new();
    let mut had = 0;
    for series in wanted {
        match kernels::ensure(workspace, series) {
            Ok(directory) => {
                had += 1;
                found.extend(["--kernel".into(), format!("{}={}", series.name, directory.display()).into()]);
            }
            Err(error) => {
                progress::warn(&format!("kernel {}", series.name), &format!("SKIP: {error:#}"));
                let reason = format!("{error:#}").replace('\n', " ");
                found.extend(["--missing".into(), format!("{}={reason}", series.name).into()]);
            }
        }
    }
    if had == 0 {
        bail!("no kernel could be had, so nothing was tested: see above");
    }
    build_ebpf::build(workspace, &[])?;
    let programs = binaries::build(workspace)?;
    let program = programs.join("xbeat-vm");
    let mut command = Privilege::detect().command_or_user(&program);
    command.env("XBEAT_BINARY", programs.join("xbeat")).args(found);
    command.arg("--qemu").arg(qemu).arg("--programs").arg(&programs).arg("--objects").arg(workspace.target());
    command.arg("--run").arg(home(workspace).join("run"));
    if args.keep {
        command.arg("--keep");
    }
    if args.json {
        command.arg("--json");
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Where everything for the machines is kept.
fn home(workspace: &Workspace) -> PathBuf {
    workspace.target().join("vm")
}
