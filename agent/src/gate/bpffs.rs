//! The directory in bpffs where gate and programs are pinned. bpffs is mounted where the configured directory has none.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where every distribution has it; its parent is sysfs, in which no directory can be made.
const USUAL: &str = "/sys/fs/bpf";

/// Why there is no such directory.
#[derive(Debug, thiserror::Error)]
pub enum BpffsError {
    /// It cannot be made.
    #[error("the directory {path} cannot be made: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// bpffs cannot be mounted.
    #[error("bpffs cannot be mounted on {path}: {source} (it needs CAP_SYS_ADMIN, or mount it beforehand)")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Errno,
    },
}

/// Makes sure that `directory` exists and is in a bpffs. Returns whether one had to be mounted.
///
/// # Errors
/// Neither is there nor could be made; nothing is mounted then.
pub fn ensure(directory: &Path) -> Result<bool, BpffsError> {
    let base = existing(directory);
    if is_bpffs(base) {
        make(directory)?;
        return Ok(false);
    }
    let point = if directory.starts_with(USUAL) && Path::new(USUAL).is_dir() {
        Path::new(USUAL)
    } else {
        make(directory)?;
        directory
    };
    let failed = |source| BpffsError::Mount { path: point.to_owned(), source };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), point, Some("bpf"), flags, Some("mode=0700")).map_err(failed)?;
    make(directory)?;
    Ok(true)
}

/// Whether this process's mounts are its own, so that a bpffs mounted by it, and with it the gate, ends with it.
pub fn mounts_are_private() -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    match (of("self"), of("1")) {
        (Ok(own), Ok(first)) => own != first,
        _ => false,
    }
}

fn existing(mut path: &Path) -> &Path {
    while !path.exists() {
        match path.parent() {
            Some(parent) => path = parent,
            None => break,
        }
    }
    path
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn make(directory: &Path) -> Result<(), BpffsError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| BpffsError::Directory { path: directory.to_owned(), source })
}
