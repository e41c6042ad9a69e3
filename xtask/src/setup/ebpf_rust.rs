//! The Rust compiler for the BPF target, by either route: Debian's packages, which bring a prebuilt `core`, or a rustup
//! toolchain with `rust-src`, which builds it. What is there already wins.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::apt;
use crate::{progress::Step, shell, workspace::Workspace};

/// The kernel's byte order is the host's; every supported host is little-endian.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
const DEBIAN_BIN: &str = "/usr/bin";
/// The newest LLVM whose bitcode the pinned bpf-linker reads, and the oldest compiler that knows our edition and lints.
const MAX_LLVM: u32 = 22;
const MIN_MINOR: u32 = 95;

/// Where the compiler for the BPF target comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Debian's own compiler, called by path.
    Debian,
    /// This rustup toolchain, which builds `core` from `rust-src`.
    Rustup { toolchain: String },
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian => write!(f, "Debian's {DEBIAN_BIN}/rustc with a prebuilt core for {TARGET}"),
            Self::Rustup { toolchain } => write!(f, "rustup toolchain {toolchain} with rust-src"),
        }
    }
}

impl Route {
    /// A program of this route's toolchain (`cargo`, `rustc`), in an environment that cannot reach another.
    fn program(&self, name: &str) -> Command {
        match self {
            Self::Debian => {
                let mut command = shell::command(Path::new(DEBIAN_BIN).join(name));
                // First on PATH, so that cargo finds the compiler beside it and not rustup's proxy.
                let path = std::env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("{DEBIAN_BIN}:{path}")).env_remove("RUSTUP_TOOLCHAIN");
                command
            }
            Self::Rustup { toolchain } => {
                let mut command = shell::command(name);
                command.env("RUSTUP_TOOLCHAIN", toolchain);
                command
            }
        }
    }

    /// This route's cargo with a subcommand for the BPF target.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = self.program("cargo");
        // aya-ebpf uses unstable features, and so does building `core`: both compilers are stable ones.
        command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.args([subcommand, "--target", TARGET]);
        match self {
            Self::Debian => {}
            Self::Rustup { .. } => {
                command.args(["-Z", "build-std=core"]);
            }
        }
        command
    }

    /// The directory of the compiler's own libraries.
    pub(crate) fn library_dir(&self) -> Option<PathBuf> {
        sysroot(self).map(|root| root.join("lib"))
    }

    fn is_usable(&self) -> bool {
        let Some(version) = shell::probe(self.program("rustc").arg("-vV")) else { return false };
        if !is_supported(&version) {
            return false;
        }
        match self {
            Self::Debian => {
                shell::is_executable(&Path::new(DEBIAN_BIN).join("cargo")) && has_prebuilt_core(self)
            }
            Self::Rustup { .. } => sysroot(self)
                .is_some_and(|root| root.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()),
        }
    }
}

/// Finds a route or makes one.
///
/// # Errors
/// Neither Debian's packages nor rustup's component could be installed; the message names both remedies.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Route> {
    let pinned = Route::Rustup { toolchain: pinned_toolchain(workspace)? };
    let nightly = Route::Rustup { toolchain: "nightly".to_owned() };
    for route in [Route::Debian, pinned.clone(), nightly] {
        if route.is_usable() {
            return Ok(route);
        }
    }
    let apt_error = match apt::install(&DEBIAN_PACKAGES) {
        Ok(()) if Route::Debian.is_usable() => return Ok(Route::Debian),
        Ok(()) => anyhow::anyhow!("Debian's compiler is not one that this workspace can use"),
        Err(error) => error,
    };
    let rustup_error = match add_rust_src(&pinned) {
        Ok(()) if pinned.is_usable() => return Ok(pinned),
        Ok(()) => anyhow::anyhow!("the toolchain is still not usable"),
        Err(error) => error,
    };
    bail!(
        "no Rust for {TARGET}.\n\
         On Debian: {}\n  tried: {apt_error:#}\n\
         Elsewhere: rustup component add rust-src\n  tried: {rustup_error:#}",
        apt::remedy(&DEBIAN_PACKAGES)
    )
}

/// Finds or makes the route that can lint: Debian has no clippy, so the pinned toolchain with `rust-src`.
///
/// # Errors
/// rustup could not add the component.
pub(crate) fn ensure_lints(workspace: &Workspace) -> Result<Route> {
    let pinned = Route::Rustup { toolchain: pinned_toolchain(workspace)? };
    if !pinned.is_usable() {
        add_rust_src(&pinned).context("linting the eBPF crate needs: rustup component add rust-src")?;
        ensure!(pinned.is_usable(), "{pinned} does not build for the kernel: rustup component add rust-src");
    }
    Ok(pinned)
}

fn add_rust_src(route: &Route) -> Result<()> {
    let Route::Rustup { toolchain } = route else { bail!("not a rustup toolchain") };
    let step = Step::start(format!("adding rust-src to the toolchain {toolchain}"));
    shell::run_quietly(shell::command("rustup").args([
        "component",
        "add",
        "rust-src",
        "--toolchain",
        toolchain,
    ]))?;
    step.done("");
    Ok(())
}

/// The channel of `rust-toolchain.toml`: what the host's side is built with too.
pub(crate) fn pinned_toolchain(workspace: &Workspace) -> Result<String> {
    let file = workspace.root().join("rust-toolchain.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let channel = text.lines().find_map(|line| line.trim().strip_prefix("channel"));
    let quoted = channel.and_then(|rest| rest.split('"').nth(1));
    quoted.map(str::to_owned).with_context(|| format!("{} names no channel", file.display()))
}

fn sysroot(route: &Route) -> Option<PathBuf> {
    shell::probe(route.program("rustc").args(["--print", "sysroot"])).map(PathBuf::from)
}

fn has_prebuilt_core(route: &Route) -> bool {
    let dir = shell::probe(route.program("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    let Some(Ok(entries)) = dir.map(fs::read_dir) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

/// Judges `rustc -vV`.
fn is_supported(version: &str) -> bool {
    let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
    let minor = field("release: 1.").and_then(leading_number);
    let llvm = field("LLVM version: ").and_then(leading_number);
    minor.is_some_and(|minor| minor >= MIN_MINOR) && llvm.is_some_and(|llvm| llvm <= MAX_LLVM)
}

fn leading_number(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_judged_by_age_and_llvm() {
        let version = |release: &str, llvm: &str| {
            format!("rustc {release} (x)\nbinary: rustc\nrelease: {release}\nLLVM version: {llvm}\n")
        };
        for (release, llvm, expected) in [
            ("1.95.0", "22.1.2", true),
            ("1.97.0-nightly", "22.1.4", true),
            ("1.94.1", "21.1.8", false),
            ("1.99.0-nightly", "23.1.0", false),
            ("", "", false),
        ] {
            assert_eq!(is_supported(&version(release, llvm)), expected, "{release} with LLVM {llvm}");
        }
    }
}
