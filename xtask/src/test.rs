//! `cargo xtask test`: the eBPF object, then every test of the workspace. Tests that need root run as root where that is
//! possible without a question, and otherwise say `SKIP: reason`. The last line is the test runner's own summary.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    build_ebpf, cargo,
    privilege::Privilege,
    setup::{self, Need},
    shell, vm,
    workspace::Workspace,
};

/// Set for tests when this machine can run the privileged ones: skipping one is then a failure.
pub(crate) const REQUIRE_PRIVILEGED: &str = "XBEAT_REQUIRE_PRIVILEGED";

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    vm: vm::Args,
    /// Options of the test runner, such as a filter or `-p PACKAGE`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// How strictly to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// For a person: what cannot run here is skipped.
    Developer,
    /// For a machine that judges a change: the lock file is fixed, and what could run must not be skipped.
    Judge,
}

/// `cargo xtask test`.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.vm.vm {
        return vm::run(workspace, &args.vm);
    }
    build_ebpf::build(workspace, &[])?;
    run_all(workspace, Mode::Developer, &args.args)
}

/// Runs the tests, and ends as the test runner: same process, same exit code. The object must have been built.
pub(crate) fn run_all(workspace: &Workspace, mode: Mode, args: &[OsString]) -> Result<()> {
    setup::ensure(workspace, &[Need::NetTools])?;
    let nextest = setup::nextest(workspace)?;
    build_binaries(workspace, mode)?;

    let privilege = Privilege::detect();
    let mut command = shell::command(nextest);
    command.current_dir(workspace.root()).env("CARGO_TARGET_DIR", workspace.target());
    command.args(["nextest", "run"]);
    if !args.iter().any(|arg| arg == "-p" || arg == "--package") {
        command.arg("--workspace");
    }
    match mode {
        Mode::Developer => {}
        Mode::Judge => {
            command.args(["--locked", "--profile", "ci"]);
            if is_loadable(workspace, privilege) {
                command.env(REQUIRE_PRIVILEGED, "1");
            }
        }
    }
    match privilege {
        Privilege::Sudo => {
            command.env(runner_variable()?, "sudo -E");
        }
        Privilege::Root | Privilege::SudoAsks | Privilege::None => {}
    }
    let error = command.args(args).exec();
    Err(error).context("cannot run the test runner")
}

/// The daemon and the laboratory: tests start them, and cargo builds no binaries for the tests of another package.
pub(crate) fn build_binaries(workspace: &Workspace, mode: Mode) -> Result<()> {
    let mut command = cargo::host(workspace);
    command.args(["build", "--workspace", "--exclude", "xtask", "--bins"]);
    match mode {
        Mode::Developer => {}
        Mode::Judge => {
            command.arg("--locked");
        }
    }
    cargo::run("building the binaries that tests start", &mut command)
}

/// Whether this kernel and this user can load the object.
pub(crate) fn is_loadable(workspace: &Workspace, privilege: Privilege) -> bool {
    let objinfo = workspace.debug_binary("objinfo");
    let mut command = runnable(privilege, &objinfo);
    shell::run_quietly(command.arg("--require").arg(workspace.object())).is_ok()
}

fn runnable(privilege: Privilege, program: &Path) -> Command {
    match privilege {
        Privilege::Root | Privilege::Sudo => privilege.command_or_user(program),
        Privilege::SudoAsks | Privilege::None => shell::command(program),
    }
}

/// Cargo's variable for what starts the host's test binaries: `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER`.
fn runner_variable() -> Result<String> {
    let version = shell::probe(shell::command("rustc").arg("-vV")).context("cannot run rustc")?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")))
}
