//! The whole of a machine's files: its first process, the agent, the object, the tests, and the modules that it loads.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use super::modules::Modules;

/// What a machine loads, where its kernel has it as a module.
const MODULES: [&str; 6] = ["virtio_pci", "virtio_net", "virtio_rng", "i6300esb", "sch_ingress", "cls_bpf"];
/// Where the guest finds the order of loading.
pub const MODULE_LIST: &str = "lib/modules.list";
/// The eBPF objects, by their file names.
pub const OBJECTS: [&str; 2] = ["xbeat.bpf.o", "xbeat-selftest.bpf.o"];
/// Test binaries that run in a machine.
pub const TESTS: [&str; 2] = ["xdp_verdict", "gate_verdict"];

/// What goes in.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Static binaries: `xbeat`, `xbeat-vm-guest`, and each of [`TESTS`].
    pub programs: &'a Path,
    /// Where the [`OBJECTS`] are.
    pub objects: &'a Path,
    /// The kernel's unpacked modules.
    pub modules: &'a Path,
    /// The key file's content.
    pub keys: &'a str,
}

/// Makes the archive.
///
/// # Errors
/// A part cannot be read, or a module that is needed was not unpacked.
pub fn build(parts: Parts<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in [
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "etc",
        "etc/xbeat",
        "bin",
        "tests",
        "lib",
        "lib/modules",
        "var",
        "var/lib",
    ] {
        archive.directory(directory, 0o755);
    }
    archive.device("dev/console", 0o600, 5, 1);
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    archive.file("init", 0o755, &read(&parts.programs.join("xbeat-vm-guest"))?);
    archive.file("bin/xbeat", 0o755, &read(&parts.programs.join("xbeat"))?);
    for test in TESTS {
        archive.file(&format!("tests/{test}"), 0o755, &read(&parts.programs.join(test))?);
    }
    for object in OBJECTS {
        archive.file(object, 0o644, &read(&parts.objects.join(object))?);
    }
    archive.file("etc/xbeat/keys.toml", 0o600, parts.keys.as_bytes());
    let mut list = String::new();
    for path in Modules::read(parts.modules)?.in_order(&MODULES)? {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("lib/modules/{file}"), 0o644, &read(&path)?);
        list += &format!("{file}\n");
    }
    archive.file(MODULE_LIST, 0o644, list.as_bytes());
    Ok(archive.finish())
}
