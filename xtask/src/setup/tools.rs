//! Programs that come from crates.io, and the system's network tools.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt;
use crate::{cargo, progress, progress::Step, shell, workspace::Workspace};

/// A program that `cargo install` builds.
pub(crate) struct CargoTool {
    pub(crate) package: &'static str,
    /// The version to install.
    pub(crate) version: &'static str,
    /// What a version that is there already must begin with.
    pub(crate) accepted: &'static str,
    pub(crate) program: &'static str,
}

/// The test runner.
pub(crate) const NEXTEST: CargoTool =
    CargoTool { package: "cargo-nextest", version: "0.9.143", accepted: "0.9.", program: "cargo-nextest" };
/// The dependency checker.
pub(crate) const DENY: CargoTool =
    CargoTool { package: "cargo-deny", version: "0.20.2", accepted: "0.", program: "cargo-deny" };

/// Network tools and the package of each.
const NET_TOOLS: [(&str, &str); 3] = [("ip", "iproute2"), ("nft", "nftables"), ("ping", "iputils-ping")];

/// Finds the program, in the workspace's tools first, or builds it there.
///
/// # Errors
/// `cargo install` failed: no network, or no C compiler.
pub(crate) fn ensure(workspace: &Workspace, tool: &CargoTool) -> Result<PathBuf> {
    let own = workspace.tools().join("bin").join(tool.program);
    let on_path = shell::find_program(tool.program);
    for candidate in [Some(own.clone()), on_path].into_iter().flatten() {
        if is_accepted(&candidate, tool) {
            return Ok(candidate);
        }
    }
    install(workspace, tool).with_context(|| {
        format!(
            "cannot install {0}; by hand: cargo install {0} --version {1} --locked",
            tool.package, tool.version
        )
    })?;
    Ok(own)
}

fn is_accepted(program: &Path, tool: &CargoTool) -> bool {
    let Some(text) = shell::probe(shell::command(program).arg("--version")) else { return false };
    text.split_whitespace().nth(1).is_some_and(|version| version.starts_with(tool.accepted))
}

fn install(workspace: &Workspace, tool: &CargoTool) -> Result<()> {
    let mut step = Step::start(format!("installing {} {}", tool.package, tool.version));
    let mut command = cargo::host(workspace);
    command
        .args(["install", tool.package, "--version", tool.version, "--locked", "--root"])
        .arg(workspace.tools());
    // Built to be used a few times: half the compile time for a program a little slower.
    command.env_remove("CARGO_TARGET_DIR").envs([
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ]);
    cargo::watch(&mut step, &mut command)?;
    step.done("");
    Ok(())
}

/// Finds or installs `ip`, `nft` and `ping`. Without them, tests and demonstrations that need them say so and are skipped, hence
/// no error here.
pub(crate) fn ensure_net_tools() -> Result<String> {
    let missing: Vec<&str> = NET_TOOLS
        .iter()
        .filter(|(program, _)| shell::find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty()
        && let Err(error) = apt::install(&missing)
    {
        progress::warn("network tools", &format!("{error:#}; install {} by hand", missing.join(" and ")));
    }
    let paths: Vec<String> = NET_TOOLS
        .iter()
        .map(|(program, _)| {
            shell::find_program(program)
                .map_or_else(|| format!("no {program}"), |path| path.display().to_string())
        })
        .collect();
    Ok(paths.join(", "))
}
