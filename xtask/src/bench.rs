//! `cargo xtask bench NAME`: builds for release, then runs the benchmark `bench-NAME` as root where that is possible.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{
    build, build_ebpf,
    privilege::Privilege,
    setup::{self, Need},
    workspace::Workspace,
};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which benchmark
    #[arg(value_enum)]
    name: Name,
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
            Self::Guard => "bench-guard",
            Self::Peers => "bench-peers",
        }
    }
}

/// `cargo xtask bench`. Ends as the benchmark: same process, same exit code.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let benchmark = ("bench", args.name.binary());
    if args.name != Name::Core {
        build_ebpf::build(workspace, &[])?;
    }
    match args.name {
        Name::Xdp | Name::Gate | Name::Core | Name::Guard => build::release(workspace, &[benchmark])?,
        Name::Failover
        | Name::Loss
        | Name::Starvation
        | Name::Flood
        | Name::Cost
        | Name::Soak
        | Name::Peers => {
            setup::ensure(workspace, &[Need::NetTools])?;
            build::release(workspace, &[("xbeat", "xbeat"), benchmark])?;
        }
    }
    let program = workspace.release_binary(args.name.binary());
    let privilege = Privilege::detect();
    let root = if privilege.ready() { privilege } else { Privilege::None };
    let mut command = root.command_or_user(&program);
    command.current_dir(workspace.root()).args(&args.args);
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
