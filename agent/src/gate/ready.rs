//! Loaded programs that outlive a process: pinned by a digest of the object that they came from, beside the maps that they
//! were loaded onto. The kernel takes tenths of a second to verify them; a process that goes on finds them done.
//!
//! ```text
//! DIRECTORY/programs-9b1c40e2d3f8a657/{xbeat,xbeat_ingress,xbeat_egress}
//! ```
//! A start without state takes them away with the maps that they are about.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_obj::programs::XdpAttachType;
use sha2::Digest as _;
use tracing::debug;

use super::classifier::{self, Side};
use super::{ingress, pins};
use crate::io::xdp::{OBJECT, load_programs};
use crate::settings::{Settings, XdpSetting};

/// How the directories of programs begin.
pub(super) const PREFIX: &str = "programs-";

/// Why the programs cannot be made ready. Nothing has changed on any interface.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The kernel or the object.
    #[error("the eBPF object of this version could not be loaded: {0}")]
    Object(#[from] EbpfError),
    /// The verifier.
    #[error("the kernel refused the programs of this version: {0}")]
    Program(#[from] ProgramError),
}

/// Where the programs of this binary's object are pinned.
pub(super) fn directory(pins: &Path) -> PathBuf {
    let digest = sha2::Sha256::digest(OBJECT);
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    pins.join(format!("{PREFIX}{short}"))
}

/// Takes those programs of the object that are pinned as loaded.
pub fn adopt(ebpf: &mut Ebpf, pins: &Path) {
    let directory = directory(pins);
    let mut missing = 0;
    for name in names() {
        let path = directory.join(name);
        if !path.exists() {
            missing += 1;
            continue;
        }
        match (ebpf.program_mut(name), pinned(name, &path)) {
            (Some(place), Ok(program)) => *place = program,
            (None, _) => {}
            // It is loaded anew.
            (Some(_), Err(error)) => {
                debug!("{}: {error}", path.display());
                missing += 1;
            }
        }
    }
    if missing == 0 {
        drop_spare_maps(ebpf);
    }
}

/// The programs that are pinned have the maps of the load that they came from. Those that this load made beside the
/// pinned ones are for programs that nobody will load.
fn drop_spare_maps(ebpf: &mut Ebpf) {
    let names = ebpf.maps().map(|(name, _)| name.to_owned());
    let spare: Vec<String> = names.filter(|name| !pins::is_pinned(name)).collect();
    for name in spare {
        drop(ebpf.take_map(&name));
    }
}

/// Pins those that are loaded. What cannot be pinned is loaded again by the next process.
pub fn keep(ebpf: &mut Ebpf, pins: &Path) {
    let directory = directory(pins);
    if let Err(error) = fs::create_dir_all(&directory) {
        return debug!("{}: {error}", directory.display());
    }
    for name in names() {
        let path = directory.join(name);
        let Some(program) = ebpf.program_mut(name).filter(|program| program.fd().is_ok()) else { continue };
        if !path.exists()
            && let Err(error) = program.pin(&path)
        {
            debug!("{}: {error}", path.display());
        }
    }
}

/// Loads the programs onto the maps that a running agent has pinned, for the process that goes on from it.
///
/// # Errors
/// The kernel does not take them: that process could not go on.
pub fn prepare(settings: &Settings) -> Result<(), ReadyError> {
    let directory = &settings.runtime.bpffs;
    if settings.runtime.xdp == XdpSetting::Off || pins::complete(directory).is_none() {
        return Ok(());
    }
    let mut loader = EbpfLoader::new();
    pins::on_pinned_maps(directory, &mut loader);
    let mut ebpf = loader.load(OBJECT)?;
    adopt(&mut ebpf, directory);
    load_programs(&mut ebpf, settings.runtime.xdp)?;
    classifier::load(&mut ebpf, Side::Egress)?;
    keep(&mut ebpf, directory);
    Ok(())
}

fn names() -> [&'static str; 3] {
    [ingress::PROGRAM, Side::Ingress.program(), Side::Egress.program()]
}

fn pinned(name: &str, path: &Path) -> Result<Program, ProgramError> {
    if name == ingress::PROGRAM {
        Xdp::from_pin(path, XdpAttachType::Interface).map(Program::Xdp)
    } else {
        SchedClassifier::from_pin(path).map(Program::SchedClassifier)
    }
}
