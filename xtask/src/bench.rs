//! `cargo xtask bench NAME`: builds for release, then runs the benchmark `bench-NAME` as root where that is possible. With
//! `--install-peers` the other cluster software is installed first, which needs no name.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{
    build, build_ebpf, cargo,
    privilege::Privilege,
    progress,
    setup::{self, Need},
    shell,
    test::{self, Mode},
    workspace::Workspace,
};

/// What this verb takes away from the options of a benchmark.
const INSTALL_PEERS: &str = "--install-peers";
/// What counts the core's instructions, and what runs the core.
const GUARD: &str = "bench-guard";
const SUBJECT: &str = "bench-subject";

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which benchmark; without it, all are listed
    #[arg(value_enum)]
    name: Option<Name>,
    /// Install Debian's packages of other cluster software first, without starting a service; with a NAME that can, measure
    /// it, too
    #[arg(long)]
    install_peers: bool,
    /// Options of the benchmark itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// The benchmarks that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Nanoseconds of the XDP program, by verdict
    Xdp,
    /// Nanoseconds that the gate adds, by packet
    Gate,
    /// Nanoseconds of a heartbeat in the core, by the size of the cluster
    Core,
    /// Failover over veth, stage by stage, beside other cluster software
    Failover,
    /// False deaths and lost service under loss, beside the closed form
    Loss,
    /// Deaths, true and false, while the processors are taken away
    Starvation,
    /// What forged, replayed and foreign frames cost
    Flood,
    /// Processor time, wake-ups, memory and bytes of a heartbeat, by the size of the cluster
    Cost,
    /// Random faults on five nodes, watched from outside
    Soak,
    /// Instruction counts and ratios against bench/budgets.toml
    Guard,
    /// The plots of reports again, from their JSON
    Redraw,
    /// Each other cluster software once: whether it starts, detects and recovers
    Peers,
}

impl Name {
    fn binary(self) -> &'static str {
        match self {
            Self::Xdp => "bench-xdp",
            Self::Gate => "bench-gate",
            Self::Core => "bench-core",
            Self::Failover => "bench-failover",
            Self::Loss => "bench-loss",
            Self::Starvation => "bench-starvation",
            Self::Flood => "bench-flood",
            Self::Cost => "bench-cost",
            Self::Soak => "bench-soak",
            Self::Guard => GUARD,
            Self::Redraw => "bench-redraw",
            Self::Peers => "bench-peers",
        }
    }

    /// Whether it runs the daemon, in namespaces.
    fn runs_clusters(self) -> bool {
        self == Self::Soak || self.has_peers()
    }

    /// Whether it can put other cluster software beside xbeat.
    fn has_peers(self) -> bool {
        match self {
            Self::Xdp | Self::Gate | Self::Core | Self::Guard | Self::Redraw | Self::Soak => false,
            Self::Failover | Self::Loss | Self::Starvation | Self::Flood | Self::Cost | Self::Peers => true,
        }
    }
}

/// `cargo xtask bench`. Ends as the benchmark: same process, same exit code.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let (given, rest): (Vec<_>, Vec<_>) = args.args.iter().cloned().partition(|arg| arg == INSTALL_PEERS);
    let installs_peers = args.install_peers || !given.is_empty();
    if installs_peers {
        let what = Need::Peers.ensure(workspace)?;
        progress::found("peers", &what);
    }
    let Some(name) = args.name else {
        if !installs_peers {
            list();
        }
        return Ok(());
    };
    if name == Name::Guard {
        return run_guard(workspace, &rest);
    }
    if !matches!(name, Name::Core | Name::Redraw) {
        build_ebpf::build(workspace, &[])?;
    }
    let benchmark = ("bench", name.binary());
    if name.runs_clusters() {
        setup::ensure(workspace, &[Need::NetTools])?;
        build::release(workspace, &[("xbeat", "xbeat"), benchmark])?;
    } else {
        build::release(workspace, &[benchmark])?;
    }
    let program = workspace.release_binary(name.binary());
    let privilege = Privilege::detect();
    let root = if privilege.ready() { privilege } else { Privilege::None };
    let mut command = root.command_or_user(&program);
    command.current_dir(workspace.root()).args(&rest);
    if installs_peers && name.has_peers() && !rest.contains(&"--peers".into()) {
        command.arg("--peers");
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

fn list() {
    println!("cargo xtask bench NAME [OPTIONS]; `NAME --help` has the options. The names:");
    for value in Name::value_variants().iter().filter_map(ValueEnum::to_possible_value) {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        println!("  {:<12}{help}", value.get_name());
    }
}

/// The guard for a person: what cannot run here is skipped.
fn run_guard(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    build_ebpf::build(workspace, &[])?;
    let mut build = cargo::host(workspace);
    build.args(["build", "--package", "bench", "--bin", GUARD]);
    cargo::run(&format!("building {GUARD}"), &mut build)?;
    prepare_subject(workspace)?;
    let privilege = Privilege::detect();
    let root = if privilege.ready() { privilege } else { Privilege::None };
    let mut command = guard_command(workspace, root);
    let error = command.args(args).exec();
    Err(error).with_context(|| format!("cannot run {GUARD}"))
}

/// The guard as part of `ci`, after the object was built. Only the core is built for release, and by itself: it is what is
/// counted, while the guard is built as the tests are.
pub(crate) fn guard(workspace: &Workspace, mode: Mode) -> Result<()> {
    test::build_binaries(workspace, mode)?;
    prepare_subject(workspace)?;
    let privilege = match Privilege::detect() {
        able @ (Privilege::Root | Privilege::Sudo) => able,
        Privilege::SudoAsks | Privilege::None => Privilege::None,
    };
    let mut command = guard_command(workspace, privilege);
    command.arg("--brief");
    match mode {
        Mode::Developer => {}
        Mode::Judge => {
            if test::is_loadable(workspace, privilege) {
                command.env(test::REQUIRE_PRIVILEGED, "1");
            }
        }
    }
    shell::run_inherited(&mut command)
}

fn prepare_subject(workspace: &Workspace) -> Result<()> {
    setup::ensure(workspace, &[Need::Valgrind])?;
    build::release(workspace, &[(SUBJECT, SUBJECT)])
}

fn guard_command(workspace: &Workspace, privilege: Privilege) -> Command {
    let mut command = privilege.command_or_user(&workspace.debug_binary(GUARD));
    command.current_dir(workspace.root()).env("XBEAT_EBPF_OBJECT", workspace.object());
    command.arg("--subject").arg(workspace.release_binary(SUBJECT));
    command
}
