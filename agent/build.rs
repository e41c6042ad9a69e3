//! Puts the eBPF object that `cargo xtask build-ebpf` made where the daemon can embed it, and the version into the
//! environment. Without an object the daemon is built with an empty one, and then receives through sockets alone.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Names another object than the one in cargo's target directory.
const OBJECT_VARIABLE: &str = "XBEAT_EBPF_OBJECT";
const OBJECT: &str = "xbeat.bpf.o";

fn main() -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    embed_object(&out_dir)?;
    println!("cargo::rustc-env=XBEAT_VERSION={}", version()?);
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

/// Copies the object to `OUT_DIR/xbeat.bpf.o`. Empty means: none was built.
fn embed_object(out_dir: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={OBJECT_VARIABLE}");
    let (source, named) = match env::var_os(OBJECT_VARIABLE) {
        Some(file) => (PathBuf::from(file), true),
        None => (target_dir(out_dir)?.join(OBJECT), false),
    };
    // A file that is missing counts as changed, so the object is picked up by the build after it appears.
    println!("cargo::rerun-if-changed={}", source.display());
    let object = match fs::read(&source) {
        Ok(object) => object,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !named => Vec::new(),
        Err(error) => return Err(format!("cannot read {}: {error}", source.display()).into()),
    };
    if object.is_empty() {
        println!("cargo::warning=built without the eBPF object: run `cargo xtask build`");
    }
    fs::write(out_dir.join(OBJECT), object)?;
    Ok(())
}

/// Cargo's target directory: `OUT_DIR` is `TARGET_DIR/[TRIPLE/]PROFILE/build/PACKAGE-HASH/out`.
fn target_dir(out_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let profile_dir = out_dir.ancestors().nth(3).ok_or("OUT_DIR is not inside a target directory")?;
    let parent = profile_dir.parent().ok_or("OUT_DIR is not inside a target directory")?;
    let triple = env::var("TARGET")?;
    let dir = if parent.ends_with(&triple) { parent.parent().unwrap_or(parent) } else { parent };
    Ok(dir.to_owned())
}

/// The package's version, with the commit for release builds. Others leave it out: they would be built again after each
/// commit.
fn version() -> Result<String, Box<dyn Error>> {
    let version = env::var("CARGO_PKG_VERSION")?;
    if env::var("PROFILE")? != "release" {
        return Ok(version);
    }
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    Ok(git(&["describe", "--always", "--tags", "--abbrev=10"])
        .map_or_else(|| version.clone(), |commit| format!("{version} ({commit})")))
}

/// What git says in the package's directory; `None` without git or outside a repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
