//! What a kernel makes of the object: loaded program by program, with the verifier's own words where it refuses.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::programs::{Program as Loadable, ProgramError};

use super::protocol::Program;

/// Last lines of the verifier's log that are told.
const LOG_LINES: usize = 12;

/// Loads every program of an object; a program that is refused says why.
///
/// # Errors
/// The object cannot be read, or its maps cannot be made.
pub fn programs(path: &Path) -> Result<Vec<Program>> {
    let mut object = Ebpf::load_file(path).with_context(|| format!("cannot load {}", path.display()))?;
    object.programs_mut().map(|(name, program)| one(name, program)).collect()
}

fn one(name: &str, program: &mut Loadable) -> Result<Program> {
    let loaded = if let Loadable::Xdp(xdp) = program {
        xdp.load()
    } else if let Loadable::SchedClassifier(classifier) = program {
        classifier.load()
    } else {
        bail!("{name} is of a type that this project has not");
    };
    let refused = loaded.err().map(|error| explain(&error));
    let verified = program.info().ok().and_then(|info| info.verified_instruction_count());
    Ok(Program { name: name.to_owned(), verified, refused })
}

fn explain(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return error.to_string() };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    format!("{io_error}: {}", tail.join(" | "))
}
