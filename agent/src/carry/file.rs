//! The file in the state directory: written whole or not at all, good for one reading in the same boot.
//!
//! Nothing here is synced to the disk: in the boot in which the file counts, the kernel's memory has it, and after a
//! power loss the boot is another. That a disk is slow must not lengthen the pause.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::changes::{self, Refused};
use super::{FORMAT, Handover, Shape};
use crate::generation;
use crate::settings::Settings;

const FILE: &str = "carried";
const TEMPORARY: &str = "carried.new";
const MARK: &str = "carried.taken";
/// Most that is read: every list of the state at its bound is far below.
const FILE_MAX: u64 = 16 * 1024 * 1024;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why the state was not written. An earlier one is gone or stands as it was; either is older than the last frame.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The boot has no name.
    #[error("the kernel does not say which boot this is ({BOOT_ID})")]
    NoBoot,
    /// The file.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Why this start goes on with no earlier process's state.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Nobody handed anything over.
    #[error("no process has handed its state over")]
    Nothing,
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not whole.
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    /// Of another version.
    #[error("it was written by another version of xbeat, in format {0} and not {FORMAT}")]
    Format(u32),
    /// The machine was booted since.
    #[error("the machine was booted since it was written")]
    Boot,
    /// It was taken already, or this node has had a later life.
    #[error("heartbeats have been sent since it was written")]
    Stale,
    /// The maps in the kernel that belong to it.
    #[error("the maps in bpffs that belong to it are gone, or of another layout")]
    Maps,
    /// The configuration is about something else now.
    #[error("the configuration has changed too much: {}", changes::list(.0))]
    Changed(Vec<Refused>),
    /// It could not be marked as taken.
    #[error("{} cannot be marked as taken: {source}", path.display())]
    Mark {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The newest state that was taken, or life that began: no state up to it is ever taken again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    boot: String,
    incarnation: u64,
    seq: u64,
}

/// The name of this boot, empty when the kernel does not tell.
pub fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Writes the state, for the next process.
///
/// # Errors
/// There is none to take then.
pub fn store(state_dir: &Path, handover: &Handover) -> Result<(), StoreError> {
    if handover.boot.is_empty() {
        return Err(StoreError::NoBoot);
    }
    let path = state_dir.join(FILE);
    let content = serde_json::to_string(handover).map_err(io::Error::other);
    let written = content.and_then(|content| write(state_dir, FILE, TEMPORARY, &sealed(&content)));
    written.map_err(|source| StoreError::Write { path, source })
}

/// Takes the file away again, when no process comes.
pub fn discard(state_dir: &Path) {
    // What is left is older than the next frame, and never taken for that.
    let _ = fs::remove_file(state_dir.join(FILE));
}

/// Takes what the process before handed over; nobody takes it again. `layout` is that of the pinned maps, if all of them
/// are there.
///
/// # Errors
/// Why this start has none; the file, if there was one, is gone.
pub fn take(settings: &Settings, layout: Option<u64>) -> Result<Handover, NotTaken> {
    let state_dir = &settings.runtime.state_dir;
    let path = state_dir.join(FILE);
    let found = read(&path);
    let taken = found.and_then(|handover| {
        judge(&handover, settings, layout)?;
        let mark = Mark {
            boot: handover.boot.clone(),
            incarnation: handover.state.incarnation,
            seq: handover.state.seq,
        };
        let failed = |source| NotTaken::Mark { path: state_dir.join(MARK), source };
        write_mark(state_dir, &mark).map_err(failed)?;
        Ok(handover)
    });
    match fs::remove_file(&path) {
        Ok(()) => taken,
        Err(error) if error.kind() == io::ErrorKind::NotFound => taken,
        // Marked as taken, so that it does no harm; but a directory that changes under us is not to be trusted.
        Err(source) => taken.and(Err(NotTaken::Mark { path, source })),
    }
}

/// Notes that a life without carried state began: no earlier state is taken any more. It can fail only where no state
/// could be written either.
pub fn mark(state_dir: &Path, incarnation: u64) {
    let mark = Mark { boot: boot_id(), incarnation, seq: 0 };
    if let Err(error) = write_mark(state_dir, &mark) {
        tracing::debug!("{}: {error}", state_dir.join(MARK).display());
    }
}

fn judge(handover: &Handover, settings: &Settings, layout: Option<u64>) -> Result<(), NotTaken> {
    let state_dir = &settings.runtime.state_dir;
    if handover.boot != boot_id() {
        return Err(NotTaken::Boot);
    }
    let newest = (handover.state.incarnation, handover.state.seq);
    let is_taken = read_mark(state_dir)
        .is_some_and(|mark| mark.boot == handover.boot && (mark.incarnation, mark.seq) >= newest);
    // A file that cannot be read is told when the next number is wanted.
    let stored = generation::stored(&settings.runtime).ok().flatten();
    if is_taken || stored.is_some_and(|stored| stored > handover.state.incarnation) {
        return Err(NotTaken::Stale);
    }
    if handover.layout.is_some() && handover.layout != layout {
        return Err(NotTaken::Maps);
    }
    let refused = changes::refused(&handover.shape, &Shape::of(settings), |_| false);
    if refused.is_empty() { Ok(()) } else { Err(NotTaken::Changed(refused)) }
}

fn read(path: &Path) -> Result<Handover, NotTaken> {
    let unreadable = |source| NotTaken::Unreadable { path: path.to_owned(), source };
    let damaged = || NotTaken::Damaged(path.to_owned());
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NotTaken::Nothing),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged()),
        Err(source) => return Err(unreadable(source)),
    }
    let content = unsealed(&text).ok_or_else(damaged)?;
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Head = serde_json::from_str(content).map_err(|_| damaged())?;
    if head.format != FORMAT {
        return Err(NotTaken::Format(head.format));
    }
    serde_json::from_str(content).map_err(|_| damaged())
}

/// The content behind its digest: half a file has another.
fn sealed(content: &str) -> String {
    format!("{}\n{content}\n", digest(content))
}

fn unsealed(text: &str) -> Option<&str> {
    let (seal, content) = text.strip_suffix('\n')?.split_once('\n')?;
    (seal == digest(content)).then_some(content)
}

fn digest(content: &str) -> String {
    sha2::Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_mark(state_dir: &Path) -> Option<Mark> {
    let text = fs::read_to_string(state_dir.join(MARK)).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_mark(state_dir: &Path, mark: &Mark) -> io::Result<()> {
    let content = serde_json::to_string(mark).map_err(io::Error::other)?;
    write(state_dir, MARK, TEMPORARY, &content)
}

fn write(state_dir: &Path, name: &str, temporary: &str, content: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(state_dir)?;
    let temporary = state_dir.join(temporary);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content.as_bytes())?;
    drop(file);
    fs::rename(&temporary, state_dir.join(name))
}
