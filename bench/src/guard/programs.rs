//! What the kernel makes of the product's programs: how many instructions the verifier had to walk through, and how large they
//! are. The same object has the same figures each time, on kernels of one series.

use agent_tests::kernel::{PRODUCT, object};
use anyhow::{Context as _, Result, bail};
use aya::{Ebpf, programs::Program};

use super::{Class, Measured};

/// Loads every program of the product and takes its figures.
///
/// # Errors
/// The object is not there, or the kernel refuses a program.
pub fn measure(measured: &mut Measured) -> Result<()> {
    let path = object(PRODUCT);
    let mut object = Ebpf::load_file(&path)
        .with_context(|| format!("cannot load {} (cargo xtask build-ebpf makes it)", path.display()))?;
    for (name, program) in object.programs_mut() {
        load(program).with_context(|| format!("the kernel refuses the program {name}"))?;
        let info = program.info().with_context(|| format!("no information on the program {name}"))?;
        measured.add(Class::Jited, name, f64::from(info.size_jitted()));
        match info.verified_instruction_count() {
            Some(count) => measured.add(Class::Verified, name, f64::from(count)),
            None => measured.skip(Class::Verified, "told by kernels from 5.16 on"),
        }
        match info.size_translated() {
            Some(bytes) => measured.add(Class::Translated, name, f64::from(bytes)),
            None => measured.skip(Class::Translated, "this kernel does not tell"),
        }
    }
    Ok(())
}

fn load(program: &mut Program) -> Result<()> {
    if let Program::Xdp(xdp) = program {
        return Ok(xdp.load()?);
    }
    if let Program::SchedClassifier(classifier) = program {
        return Ok(classifier.load()?);
    }
    bail!("unexpected program type {:?}", program.prog_type())
}
