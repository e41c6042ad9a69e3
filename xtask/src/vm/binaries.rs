//! The programs that run in a machine, built without shared libraries: a machine has nothing but what is put into it.
//! They have a target directory of their own, since their flags would have everything else built again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::home;
use crate::{cargo, progress::Step, shell, workspace::Workspace};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Test binaries, by the names that machines know.
const TESTS: [&str; 2] = ["xdp_verdict", "gate_verdict"];

/// Builds all of them into one directory. The eBPF object must have been built.
///
/// # Errors
/// The compiler's, or the C library's static half is missing.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut command = static_cargo(workspace, "build");
    command.args(["--package", "xbeat", "--bin", "xbeat", "--package", "agent-tests"]);
    command.args(["--bin", "xbeat-vm", "--bin", "xbeat-vm-guest"]);
    cargo::run("building static binaries", &mut command).context(
        "the static binaries cannot be built (on Fedora they need glibc-static; Debian has it in libc6-dev)",
    )?;
    let directory = home(workspace).join("build").join(TARGET).join("release");
    let step = Step::start("building static tests");
    for (name, built) in tests(workspace)? {
        fs::copy(&built, directory.join(&name))
            .with_context(|| format!("cannot copy {}", built.display()))?;
    }
    step.done("");
    Ok(directory)
}

/// Test binaries have a hash in their names: cargo tells which they are.
fn tests(workspace: &Workspace) -> Result<Vec<(String, PathBuf)>> {
    let mut command = static_cargo(workspace, "test");
    command.args(["--package", "agent-tests", "--no-run", "--message-format=json-render-diagnostics"]);
    for test in TESTS {
        command.args(["--test", test]);
    }
    let output = command.stdin(Stdio::null()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{} failed:\n{}", shell::describe(&command), String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let built: Vec<(String, PathBuf)> = text.lines().filter_map(executable).collect();
    let missing = TESTS.iter().find(|test| !built.iter().any(|(name, _)| name == *test));
    match missing {
        Some(test) => bail!("cargo built no {test}"),
        None => Ok(built),
    }
}

/// Name and file, if the line tells of a test binary of ours.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let file = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    TESTS.contains(&name).then(|| (name.to_owned(), Path::new(file).to_owned()))
}

fn static_cargo(workspace: &Workspace, verb: &str) -> Command {
    let mut command = cargo::host(workspace);
    command.args([verb, "--release", "--target", TARGET]);
    command
        .env("CARGO_TARGET_DIR", home(workspace).join("build"))
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static")
        // The object is not beside this target directory.
        .env("XBEAT_EBPF_OBJECT", workspace.object())
        // They go into the memory of small machines.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    command
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn the_binary_of_a_test_is_read_from_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"xdp_verdict"},"executable":"/t/xdp_verdict-1a"}"#;
        let (name, file) = executable(line).unwrap();
        assert_eq!((name.as_str(), file.to_str().unwrap()), ("xdp_verdict", "/t/xdp_verdict-1a"));
        assert!(executable(r#"{"target":{"name":"xdp_verdict"},"executable":null}"#).is_none());
        assert!(executable(r#"{"target":{"name":"other"},"executable":"/t/other"}"#).is_none());
        assert!(executable("not JSON").is_none());
    }
}
