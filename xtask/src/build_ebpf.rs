//! `cargo xtask build-ebpf`: the eBPF object, with BTF, for kernels from 5.10 on; its size, and what the verifier of this
//! machine's kernel makes of it.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};

use crate::{cargo, privilege::Privilege, progress, setup, shell, strip, workspace::Workspace};

const PACKAGE: &str = "agent-ebpf";
/// Programs for tests and benchmarks; each becomes an object beside the product's.
const EXTRAS: [&str; 3] = ["xbeat-selftest", "xbeat-bench", "xbeat-loss"];
/// BTF for maps, functions and lines; the instruction set of 5.10 kernels on every architecture.
const RUSTFLAGS: &str = "-C link-arg=--btf -C debuginfo=2 -C target-cpu=v3";

/// Options of `cargo xtask build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Features of the eBPF crate
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,
    /// Do not load the object to ask the kernel about it
    #[arg(long)]
    no_load: bool,
}

/// `cargo xtask build-ebpf`.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    build(workspace, &args.features)?;
    if args.no_load {
        return Ok(());
    }
    let mut command = cargo::host(workspace);
    command.args(["build", "--package", "agent-tests", "--bin", "objinfo"]);
    cargo::run("building objinfo", &mut command)?;
    let mut objinfo = Privilege::detect().command_or_user(&workspace.debug_binary("objinfo"));
    shell::run_inherited(objinfo.arg(workspace.object()))
}

/// Builds the object into [`Workspace::object`] and says its size. What other verbs call.
pub(crate) fn build(workspace: &Workspace, features: &[String]) -> Result<()> {
    let (route, linker) = setup::ebpf(workspace)?;
    let mut command = route.cargo("build");
    command.current_dir(workspace.root()).env("CARGO_TARGET_DIR", workspace.ebpf_target());
    command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", RUSTFLAGS);
    command.args(["--release", "--package", PACKAGE]);
    if !features.is_empty() {
        command.args(["--features", &features.join(",")]);
    }
    linker.apply(&mut command);
    cargo::run("building the eBPF object", &mut command)?;

    let built = workspace.ebpf_target().join(setup::EBPF_TARGET).join("release");
    for extra in EXTRAS {
        publish(&built.join(extra), &workspace.object().with_file_name(format!("{extra}.bpf.o")))?;
    }
    let size = publish(&built.join(PACKAGE), &workspace.object())?;
    progress::found("eBPF object", &format!("{}, {size} bytes", workspace.object().display()));
    Ok(())
}

/// Lints the crate as the kernel's target sees it: the host sees an empty program. Where the sources of `core` cannot be
/// had this is left out, and said: the crate is built and its programs are tested all the same.
pub(crate) fn lint(workspace: &Workspace) -> Result<()> {
    let route = match setup::ebpf_lints(workspace) {
        Ok(route) => route,
        Err(error) => {
            progress::warn("lints of the eBPF crate", &format!("SKIP: {error:#}"));
            return Ok(());
        }
    };
    let mut command = route.cargo("clippy");
    command.current_dir(workspace.root()).env("CARGO_TARGET_DIR", workspace.ebpf_target());
    command.args(["--locked", "--release", "--package", PACKAGE, "--", "-D", "warnings"]);
    cargo::run("lints of the eBPF crate", &mut command)
}

/// Puts the object where everybody looks for it, and leaves an equal one alone: its time decides what is built again.
fn publish(built: &Path, published: &Path) -> Result<usize> {
    let object = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    let object = strip::debug_info(&object)?;
    match fs::read(published) {
        Ok(old) if old == object => return Ok(object.len()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", published.display()));
        }
        Ok(_) | Err(_) => {}
    }
    fs::write(published, &object).with_context(|| format!("cannot write {}", published.display()))?;
    Ok(object.len())
}
