//! bpf-linker and the LLVM library that it loads when it runs. The pair counts as found only after it has linked
//! something: the linker alone answers `--version` and then panics for want of a library.

use std::{
    ffi::OsStr,
    fmt, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{apt, ebpf_rust, tools};
use crate::{shell, workspace::Workspace};

const VERSION: &str = "0.10.3";
const CARGO_PACKAGE: tools::CargoTool =
    tools::CargoTool { package: "bpf-linker", version: VERSION, accepted: "0.10.", program: "bpf-linker" };

/// The LLVM that this version of the linker was made for, as its library's name begins.
const LLVM_LIBRARY: &str = "libLLVM";
const LLVM_VERSION: &str = "22";
const LLVM_PACKAGE: &str = "libllvm22";

/// The least that the linker can be tried on.
const PROBE: &str = "target triple = \"bpfel\"\ndefine i32 @probe() section \"xdp\" {\n  ret i32 2\n}\n";

/// A linker that works.
pub(crate) struct Linker {
    program: PathBuf,
    /// Holds one LLVM library and nothing else: the linker takes the first it meets, whatever its version.
    llvm_dir: PathBuf,
    library: PathBuf,
}

impl fmt::Display for Linker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.program.display(), self.library.display())
    }
}

impl Linker {
    /// Makes a cargo command use this linker for the BPF target.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.program);
        command.env("LD_LIBRARY_PATH", &self.llvm_dir);
    }

    fn works(&self, scratch: &Path) -> Result<()> {
        let (source, object) = (scratch.join("probe.ll"), scratch.join("probe.o"));
        fs::write(&source, PROBE).with_context(|| format!("cannot write {}", source.display()))?;
        let mut command = shell::command(&self.program);
        command.env("LD_LIBRARY_PATH", &self.llvm_dir).env("RUST_BACKTRACE", "0");
        command.args(["--cpu", "v2", "--export", "probe", "-o"]).args([&object, &source]);
        shell::run_quietly(&mut command)
    }
}

/// Finds or installs the linker and a library that it works with.
///
/// # Errors
/// The linker could not be installed, or no LLVM library fits; the message names the remedy.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Linker> {
    let program = tools::ensure(workspace, &CARGO_PACKAGE)?;
    match with_any_library(workspace, &program) {
        Ok(linker) => Ok(linker),
        Err(found) => {
            apt::install(&[LLVM_PACKAGE]).with_context(|| no_library(&found))?;
            with_any_library(workspace, &program).map_err(|found| anyhow::anyhow!(no_library(&found)))
        }
    }
}

fn no_library(tried: &[String]) -> String {
    let tried = if tried.is_empty() { "none found".to_owned() } else { tried.join("\n") };
    format!(
        "bpf-linker needs a shared library of LLVM {LLVM_VERSION}: on Debian run `{}`, elsewhere install it or add the \
         pinned toolchain with rustup. Tried: {tried}",
        apt::remedy(&[LLVM_PACKAGE])
    )
}

/// Tries each library in turn. On failure returns what was tried, with the reason.
fn with_any_library(workspace: &Workspace, program: &Path) -> Result<Linker, Vec<String>> {
    let mut tried = Vec::new();
    for library in libraries(workspace) {
        match with_library(workspace, program, &library) {
            Ok(linker) => return Ok(linker),
            Err(error) => tried.push(format!("{}: {error:#}", library.display())),
        }
    }
    Err(tried)
}

fn with_library(workspace: &Workspace, program: &Path, library: &Path) -> Result<Linker> {
    let llvm_dir = workspace.tools().join("llvm");
    fs::create_dir_all(&llvm_dir).with_context(|| format!("cannot create {}", llvm_dir.display()))?;
    let link = llvm_dir.join("libLLVM.so");
    if fs::read_link(&link).ok().as_deref() != Some(library) {
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                bail!("cannot replace {}: {error}", link.display());
            }
            Ok(()) | Err(_) => {}
        }
        std::os::unix::fs::symlink(library, &link)
            .with_context(|| format!("cannot create {}", link.display()))?;
    }
    let linker = Linker { program: program.to_owned(), llvm_dir, library: library.to_owned() };
    linker.works(&workspace.tools())?;
    Ok(linker)
}

/// Candidates: the pinned compiler's own, then the system's.
fn libraries(workspace: &Workspace) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    if let Ok(toolchain) = ebpf_rust::pinned_toolchain(workspace) {
        dirs.extend(ebpf_rust::Route::Rustup { toolchain }.library_dir());
    }
    let arch = std::env::consts::ARCH;
    let multiarch = format!("/usr/lib/{arch}-linux-gnu");
    let versioned = format!("/usr/lib/llvm-{LLVM_VERSION}/lib");
    dirs.extend([multiarch, versioned, "/usr/lib64".to_owned(), "/usr/lib".to_owned()].map(PathBuf::from));
    let mut found: Vec<PathBuf> = dirs.iter().flat_map(|dir| libraries_in(dir)).collect();
    found.dedup();
    found
}

fn libraries_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| fits(path)).collect();
    files.sort();
    files
}

/// Whether the file's name is that of a library of our LLVM: `libLLVM.so.22.1`, `libLLVM-22.so`, and rustup's variants.
fn fits(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(OsStr::to_str) else { return false };
    let Some(rest) = name.strip_prefix(LLVM_LIBRARY) else { return false };
    // rustup's `libLLVM-22-rust-*.so` is a linker script, not a library.
    let is_script = rest.contains("-rust-") && rest.ends_with(".so");
    let version = rest.trim_start_matches(".so").trim_start_matches(['.', '-']);
    !is_script && version.starts_with(LLVM_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_libraries_of_the_right_llvm_are_tried() {
        for (name, expected) in [
            ("libLLVM.so.22.1", true),
            ("libLLVM-22.so", true),
            ("libLLVM.so.22.1-rust-1.95.0-stable", true),
            ("libLLVM-22-rust-1.95.0-stable.so", false),
            ("libLLVM-14.so.1", false),
            ("libLLVM.so.21.1", false),
            ("libLLVMSupport.a", false),
        ] {
            assert_eq!(fits(Path::new(name)), expected, "{name}");
        }
    }
}
