//! Another version of the daemon, made from the one that was built: the same but for two instructions of its XDP program,
//! which do not depend on each other and change places. The kernel knows it by another tag.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::agent::xbeat_binary;

/// `EM_BPF`.
const MACHINE: u16 = 247;
/// Bytes of an ELF header, and of one of a section's headers.
const HEADER: usize = 64;
/// Bytes of an instruction.
const INSTRUCTION: usize = 8;
/// `BPF_ALU64 | BPF_MOV`, of an immediate and of a register.
const MOVES: [u8; 2] = [0xb7, 0xbf];

/// Copies the daemon as it was built.
///
/// # Errors
/// It was not built.
pub fn copy_binary(to: &Path) -> Result<()> {
    fs::copy(xbeat_binary()?, to).context("cannot copy xbeat")?;
    Ok(())
}

/// Puts another version of the daemon in the place of the file, as a package manager does.
///
/// # Errors
/// The object in it is not of the expected kind.
pub fn upgrade_binary(path: &Path) -> Result<()> {
    let mut bytes = fs::read(xbeat_binary()?).context("cannot read xbeat")?;
    let objects = objects(&bytes);
    ensure!(!objects.is_empty(), "there is no eBPF object in the binary");
    let mut patched = 0;
    for object in objects {
        if let Some(at) = swappable(&bytes, object) {
            let (first, second) =
                bytes.get_mut(at..at + 2 * INSTRUCTION).context("beyond the end")?.split_at_mut(INSTRUCTION);
            first.swap_with_slice(second);
            patched += 1;
        }
    }
    ensure!(patched > 0, "no two instructions of the XDP program can change places");
    replace_binary(path, &bytes)
}

/// Puts anything else in the place of the file.
///
/// # Errors
/// It cannot be written.
pub fn replace_binary(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content).context("cannot write the new binary")?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(&new, path).context("cannot put the new binary in place")
}

/// Where eBPF objects begin.
fn objects(bytes: &[u8]) -> Vec<usize> {
    let magic = b"\x7fELF\x02\x01\x01";
    let starts = bytes.windows(magic.len()).enumerate().filter(|(_, window)| window == magic);
    starts.map(|(at, _)| at).filter(|at| number(bytes, at + 18, 2) == Some(u64::from(MACHINE))).collect()
}

/// Where two neighbouring moves between different registers are, of which no jump leads to the second.
fn swappable(bytes: &[u8], object: usize) -> Option<usize> {
    let (at, length) = section(bytes, object, "xdp")?;
    let code: Vec<&[u8]> = bytes.get(at..at + length)?.chunks_exact(INSTRUCTION).collect();
    let jumps = code.iter().enumerate().filter(|(_, insn)| insn[0] & 7 == 5 || insn[0] & 7 == 6);
    let targets: Vec<i64> = jumps
        .map(|(place, insn)| place as i64 + 1 + i64::from(i16::from_le_bytes([insn[2], insn[3]])))
        .collect();
    let place = code.windows(2).enumerate().position(|(place, pair)| {
        let [(one_to, one_from), (two_to, two_from)] = [pair[0], pair[1]].map(registers);
        pair.iter().all(|insn| MOVES.contains(&insn[0]) && insn[2] == 0 && insn[3] == 0)
            && one_to != two_to
            && one_from != Some(two_to)
            && two_from != Some(one_to)
            && !targets.contains(&(place as i64 + 1))
            // The half of a wide constant is no instruction of its own.
            && place.checked_sub(1).is_none_or(|before| code[before][0] != 0x18)
    })?;
    Some(at + place * INSTRUCTION)
}

/// Where a move leads, and from which register.
fn registers(insn: &[u8]) -> (u8, Option<u8>) {
    (insn[1] & 15, (insn[0] == MOVES[1]).then_some(insn[1] >> 4))
}

/// Place and length of the section of this name.
fn section(bytes: &[u8], object: usize, name: &str) -> Option<(usize, usize)> {
    let at = |offset: u64| Some(object + usize::try_from(offset).ok()?);
    let headers = at(number(bytes, object + 40, 8)?)?;
    let count = number(bytes, object + 60, 2)?;
    let names = headers + usize::try_from(number(bytes, object + 62, 2)?).ok()? * HEADER;
    let names = at(number(bytes, names + 24, 8)?)?;
    (0..usize::try_from(count).ok()?).map(|index| headers + index * HEADER).find_map(|header| {
        let start = names + usize::try_from(number(bytes, header, 4)?).ok()?;
        let found = bytes.get(start..)?.split(|byte| *byte == 0).next()?;
        let place = at(number(bytes, header + 24, 8)?)?;
        let length = usize::try_from(number(bytes, header + 32, 8)?).ok()?;
        (found == name.as_bytes()).then_some((place, length))
    })
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + length)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The one pinned link whose name begins so.
///
/// # Errors
/// There is none, or several.
pub fn pinned_link(bpffs: &Path, prefix: &str) -> Result<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(bpffs).context("cannot list the pins")? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            found.push(path);
        }
    }
    let only = found.pop().ok_or_else(|| anyhow!("no pin {prefix}* in {}", bpffs.display()))?;
    ensure!(found.is_empty(), "several pins {prefix}* in {}", bpffs.display());
    Ok(only)
}
