//! Takes the debugging information out of an eBPF object: it is there for the linker to make BTF of, is four fifths of
//! the file, and nothing reads it once BTF is made.

use anyhow::{Context, Result};
use object::build::elf::{Builder, SectionData};

/// The object without its DWARF sections. Programs, maps, BTF and its line numbers stay.
pub(crate) fn debug_info(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the eBPF object is not ELF")?;
    for section in &mut builder.sections {
        section.delete = section.name.starts_with(b".debug_") || section.name.starts_with(b".rel.debug_");
    }
    // LLVM keeps all names in one section; the writer wants those of sections apart.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the eBPF object without its debugging information")?;
    Ok(stripped)
}
