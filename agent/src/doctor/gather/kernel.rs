//! The kernel's release, its eBPF, this process's capabilities, and bpffs.

use std::path::Path;

use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{number, text};
use crate::doctor::facts::{Bpffs, Kernel, Object};
use crate::gate::bpffs::mounts_are_private;
use crate::io::xdp::OBJECT;

pub(super) fn kernel() -> Kernel {
    let release = text("/proc/sys/kernel/osrelease").unwrap_or_default();
    Kernel {
        version: version(&release),
        release,
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        object: object(),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Loads the agent's maps and programs, and drops them again. Nothing is pinned or attached.
fn object() -> Object {
    if OBJECT.is_empty() {
        return Object::NotBuiltIn;
    }
    match EbpfLoader::new().load(OBJECT).map_err(Refusal::Maps).and_then(|mut ebpf| programs(&mut ebpf)) {
        Ok(()) => Object::Loaded,
        Err(refusal) => {
            let (text, denied) = refusal.chain();
            if denied { Object::Denied } else { Object::Refused(text) }
        }
    }
}

fn programs(ebpf: &mut Ebpf) -> Result<(), Refusal> {
    for (_, program) in ebpf.programs_mut() {
        // Each is one of the two kinds; the kind that it is not is refused before the kernel is asked.
        if let Ok(xdp) = <&mut Xdp>::try_from(&mut *program) {
            xdp.load().map_err(Refusal::Program)?;
        } else if let Ok(classifier) = <&mut SchedClassifier>::try_from(program) {
            classifier.load().map_err(Refusal::Program)?;
        }
    }
    Ok(())
}

enum Refusal {
    Maps(EbpfError),
    Program(ProgramError),
}

impl Refusal {
    /// The causes on one line, without the verifier's log, and whether it was for want of permission.
    fn chain(&self) -> (String, bool) {
        let first: &(dyn std::error::Error + 'static) = match self {
            Self::Maps(error) => error,
            Self::Program(error) => error,
        };
        let (mut text, mut denied) = (String::new(), false);
        let mut cause = Some(first);
        while let Some(error) = cause {
            let line = error.to_string().lines().next().unwrap_or_default().to_owned();
            if !text.contains(&line) {
                text = if text.is_empty() { line } else { format!("{text}: {line}") };
            }
            let io = error.downcast_ref::<std::io::Error>();
            denied |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied);
            cause = error.source();
        }
        (text, denied)
    }
}

pub(super) fn capabilities() -> Vec<String> {
    let held = caps::read(None, caps::CapSet::Effective).unwrap_or_default();
    let mut names: Vec<String> = held.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

pub(super) fn bpffs(directory: &Path) -> Bpffs {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let mounted = statfs(existing).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    Bpffs { path: directory.to_owned(), mounted, private: mounts_are_private() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn releases_have_two_numbers_in_front() {
        assert_eq!(super::version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(super::version("5.10.0-35-amd64"), Some((5, 10)));
        assert_eq!(super::version("6.6"), Some((6, 6)));
        assert_eq!(super::version("unknown"), None);
    }
}
