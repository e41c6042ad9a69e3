//! The incarnation: a number above that of every earlier life of this node, known before the first frame is sent.
//! Peers refuse a lower one, so a file that cannot be read or written stops the start instead of guessing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::settings::{Generation, RuntimeSettings};

const FILE: &str = "generation";
const TEMPORARY: &str = "generation.new";
/// Longest content: 20 digits and a newline.
const CONTENT_MAX: u64 = 21;

/// Why there is no incarnation. The stored number is unchanged in each case.
#[derive(Debug, Error)]
pub enum GenerationError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else than a number.
    #[error(
        "{} is damaged: it must hold one number and a newline; write one above all that were used before, \
         as `date +%s%3N > {}` does",
        path.display(),
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The next number could not be made to last.
    #[error("cannot write the next generation to {}; make the directory writable, or set generation = \"time\" in [runtime]", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The clock is not set.
    #[error("the clock stands before 2020: with generation = \"time\" it must be set before the start")]
    ClockNotSet,
}

/// Milliseconds from 1970 to 2020, below which a clock is not set.
const YEAR_2020_MS: u64 = 1_577_836_800_000;

/// The incarnation of this start, which lasts on disk before it is returned. `wall_ms`: milliseconds since 1970.
///
/// # Errors
/// The state directory cannot be used, or the clock is not set; the stored number stays as it was.
pub fn next(runtime: &RuntimeSettings, wall_ms: u64) -> Result<u64, GenerationError> {
    match runtime.generation {
        Generation::File => count_up(&runtime.state_dir),
        Generation::Time if wall_ms < YEAR_2020_MS => Err(GenerationError::ClockNotSet),
        Generation::Time => Ok(wall_ms),
    }
}

/// The newest stored number; `None` where incarnations come from the time.
///
/// # Errors
/// The file cannot be read, or holds no number.
pub fn stored(runtime: &RuntimeSettings) -> Result<Option<u64>, GenerationError> {
    match runtime.generation {
        Generation::File => read(&runtime.state_dir.join(FILE)).map(Some),
        Generation::Time => Ok(None),
    }
}

/// Makes the stored number at least `incarnation`, which this node has taken while it ran: the next start is above it.
/// Incarnations that come from the time are not stored.
///
/// # Errors
/// The file cannot be read or written; the stored number stays as it was.
pub fn raise(runtime: &RuntimeSettings, incarnation: u64) -> Result<(), GenerationError> {
    match runtime.generation {
        Generation::File => raise_to(&runtime.state_dir, incarnation),
        Generation::Time => Ok(()),
    }
}

fn raise_to(state_dir: &Path, incarnation: u64) -> Result<(), GenerationError> {
    let path = state_dir.join(FILE);
    if read(&path)? >= incarnation {
        return Ok(());
    }
    write(state_dir, &path, incarnation).map_err(|source| GenerationError::Write { path, source })
}

fn count_up(state_dir: &Path) -> Result<u64, GenerationError> {
    let path = state_dir.join(FILE);
    let last = read(&path)?;
    let next = last.checked_add(1).ok_or_else(|| GenerationError::Damaged { path: path.clone() })?;
    write(state_dir, &path, next).map_err(|source| GenerationError::Write { path, source })?;
    Ok(next)
}

/// The stored number, 0 when there is none yet.
fn read(path: &Path) -> Result<u64, GenerationError> {
    let mut content = String::new();
    match File::open(path).and_then(|file| file.take(CONTENT_MAX + 1).read_to_string(&mut content)) {
        Ok(_) => (),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => content.clear(),
        Err(source) => return Err(GenerationError::Read { path: path.to_owned(), source }),
    }
    // The newline shows that the number is whole.
    let digits = content.strip_suffix('\n').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| GenerationError::Damaged { path: path.to_owned() })
}

fn write(state_dir: &Path, path: &Path, number: u64) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(state_dir)?;
    let temporary = state_dir.join(TEMPORARY);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
    file.write_all(format!("{number}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(state_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_with_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("new/below");
        assert_eq!(count_up(&state_dir).unwrap(), 1);
        assert_eq!(count_up(&state_dir).unwrap(), 2);
        fs::write(state_dir.join(FILE), "41\n").unwrap();
        assert_eq!(count_up(&state_dir).unwrap(), 42);
        assert_eq!(fs::read_to_string(state_dir.join(FILE)).unwrap(), "42\n");
    }

    #[test]
    fn a_number_taken_meanwhile_is_kept_and_never_lowered() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(count_up(dir.path()).unwrap(), 1);
        raise_to(dir.path(), 501).unwrap();
        raise_to(dir.path(), 7).unwrap();
        assert_eq!(count_up(dir.path()).unwrap(), 502);
        fs::write(dir.path().join(FILE), "damaged").unwrap();
        assert!(matches!(raise_to(dir.path(), 503), Err(GenerationError::Damaged { .. })));
    }

    #[test]
    fn a_leftover_of_an_interrupted_write_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "7\n").unwrap();
        fs::write(dir.path().join(TEMPORARY), "8").unwrap();
        assert_eq!(count_up(dir.path()).unwrap(), 8);
    }

    #[test]
    fn a_damaged_file_stops_the_start_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for content in [
            "",
            "\n",
            "12",
            "12\n3\n",
            "-1\n",
            "1e3\n",
            "99999999999999999999999\n",
            "18446744073709551615\n",
        ] {
            fs::write(&path, content).unwrap();
            let error = count_up(dir.path()).unwrap_err();
            assert!(matches!(error, GenerationError::Damaged { .. }), "{content:?} gave {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::write(&path, [0xff, 0xfe, b'\n']).unwrap();
        assert!(matches!(count_up(dir.path()), Err(GenerationError::Damaged { .. })));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = count_up(&file.join("state")).unwrap_err();
        assert!(error.to_string().contains("generation"), "{error}");
    }

    #[test]
    fn time_needs_a_clock() {
        let runtime = RuntimeSettings {
            realtime: false,
            scheduling: crate::settings::Scheduling::Auto,
            priority: 60,
            cpus: Vec::new(),
            state_dir: PathBuf::new(),
            bpffs: PathBuf::new(),
            xdp: crate::settings::XdpSetting::Off,
            generation: Generation::Time,
            announce_refresh: std::time::Duration::from_secs(60),
        };
        assert_eq!(next(&runtime, 1_800_000_000_123).unwrap(), 1_800_000_000_123);
        assert!(matches!(next(&runtime, 1_000), Err(GenerationError::ClockNotSet)));
    }
}
