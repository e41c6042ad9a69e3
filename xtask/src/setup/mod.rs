//! Finds or installs what the verbs need. Each [`Need`] is one item: looked for first, installed only when missing, so
//! running it twice does nothing the second time.

mod apt;
mod bpf_linker;
mod ebpf_rust;
mod peers;
mod tools;
mod valgrind;

use anyhow::Result;
use clap::ValueEnum;

use self::tools::{DENY, NEXTEST};
pub(crate) use self::{
    bpf_linker::Linker,
    ebpf_rust::{Route, TARGET as EBPF_TARGET},
};
use crate::{progress, workspace::Workspace};

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these items [default: all but the peers]
    #[arg(value_enum)]
    items: Vec<Need>,
}

/// Something that a verb needs from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Need {
    /// A Rust compiler with `core` for the BPF target
    EbpfRust,
    /// The linker for BPF objects, with the LLVM library it loads
    BpfLinker,
    /// The test runner
    Nextest,
    /// The dependency checker
    Deny,
    /// `ip` and `nft`, for tests and demonstrations in network namespaces
    NetTools,
    /// What counts the core's instructions
    Valgrind,
    /// The cluster software that benchmarks put beside xbeat; installed only when asked for
    Peers,
}

impl Need {
    /// What a developer's machine should have.
    const DEFAULT: [Self; 6] =
        [Self::EbpfRust, Self::BpfLinker, Self::Nextest, Self::Deny, Self::NetTools, Self::Valgrind];

    fn name(self) -> &'static str {
        match self {
            Self::EbpfRust => "Rust for eBPF",
            Self::BpfLinker => "bpf-linker",
            Self::Nextest => "cargo-nextest",
            Self::Deny => "cargo-deny",
            Self::NetTools => "ip, nft and ping",
            Self::Valgrind => "valgrind",
            Self::Peers => "peers",
        }
    }

    /// Finds or installs the item and says where it is.
    pub(crate) fn ensure(self, workspace: &Workspace) -> Result<String> {
        match self {
            Self::EbpfRust => ebpf_rust::ensure(workspace).map(|route| route.to_string()),
            Self::BpfLinker => bpf_linker::ensure(workspace).map(|linker| linker.to_string()),
            Self::Nextest => tools::ensure(workspace, &NEXTEST).map(|path| path.display().to_string()),
            Self::Deny => tools::ensure(workspace, &DENY).map(|path| path.display().to_string()),
            Self::NetTools => tools::ensure_net_tools(),
            Self::Valgrind => valgrind::ensure(),
            Self::Peers => peers::ensure(workspace),
        }
    }
}

/// `cargo xtask setup`.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let items = if args.items.is_empty() { &Need::DEFAULT[..] } else { &args.items };
    for need in items {
        let what = need.ensure(workspace)?;
        progress::found(need.name(), &what);
    }
    Ok(())
}

/// What other verbs call: silent about what is there already.
pub(crate) fn ensure(workspace: &Workspace, needs: &[Need]) -> Result<()> {
    needs.iter().try_for_each(|need| need.ensure(workspace).map(drop))
}

/// Finds or installs both halves of the eBPF build.
pub(crate) fn ebpf(workspace: &Workspace) -> Result<(Route, Linker)> {
    Ok((ebpf_rust::ensure(workspace)?, bpf_linker::ensure(workspace)?))
}

/// Finds or installs what linting the eBPF crate takes.
pub(crate) fn ebpf_lints(workspace: &Workspace) -> Result<Route> {
    ebpf_rust::ensure_lints(workspace)
}

/// Whether Debian's packages can be asked for and unpacked here.
pub(crate) fn has_apt() -> bool {
    apt::is_here()
}

/// Finds or installs the test runner.
pub(crate) fn nextest(workspace: &Workspace) -> Result<std::path::PathBuf> {
    tools::ensure(workspace, &NEXTEST)
}

/// Finds or installs the dependency checker.
pub(crate) fn deny(workspace: &Workspace) -> Result<std::path::PathBuf> {
    tools::ensure(workspace, &DENY)
}
