//! `xbeat keygen`: makes a key file, or adds a key to one. A file that exists is never overwritten blindly.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use agent_common::KeyId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{KeyError, SECRET_MIN, parse, read};

/// Why no key was made. The file is as it was.
#[derive(Debug, Error)]
pub enum KeygenError {
    /// There is a file already.
    #[error("{0} is there already: `xbeat keygen --add --out {0}` adds a key to it; nothing was changed", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The new file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no random bytes.
    #[error("the kernel gave no random bytes: {0}")]
    Random(#[source] getrandom::Error),
    /// The file that a key was to be added to is not in order.
    #[error(transparent)]
    Present(#[from] KeyError),
    /// The id is in use.
    #[error("key {id} is in the file already: give another with --id, or leave it out")]
    IdTaken {
        /// Which id.
        id: u8,
    },
    /// All ids are in use.
    #[error("the file has a key for every id: remove those that no node signs with")]
    Full,
}

/// Makes a key file with one key, and its directory where that is missing.
///
/// # Errors
/// There is one already, or it cannot be written.
pub fn create(path: &Path, id: KeyId) -> Result<(), KeygenError> {
    let head = "# The keys of an xbeat cluster: the same file on every node, readable by its owner only.\n";
    let text = Zeroizing::new(format!("{head}sign_with = {}\n{}", id.raw(), *entry(id)?));
    match write_new(path, &text) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeygenError::Exists { path: path.to_owned() })
        }
        Err(source) => Err(KeygenError::Write { path: path.to_owned(), source }),
    }
}

/// Adds a key to a file, which goes on signing with the one that it signs with; says the new key's id.
///
/// # Errors
/// The file is not in order, the id is in use, or it cannot be written.
pub fn add(path: &Path, id: Option<KeyId>) -> Result<KeyId, KeygenError> {
    let text = read(path)?;
    let keys = parse(path, &text)?;
    let taken = |id: KeyId| keys.list.iter().any(|key| key.id == id);
    let id = match id {
        Some(id) if taken(id) => return Err(KeygenError::IdTaken { id: id.raw() }),
        Some(id) => id,
        None => (1..=255).filter_map(KeyId::new).find(|id| !taken(*id)).ok_or(KeygenError::Full)?,
    };
    let separator = if text.ends_with('\n') { "" } else { "\n" };
    let text = Zeroizing::new(format!("{}{separator}{}", *text, *entry(id)?));
    replace(path, &text).map_err(|source| KeygenError::Write { path: path.to_owned(), source })?;
    Ok(id)
}

fn entry(id: KeyId) -> Result<Zeroizing<String>, KeygenError> {
    let mut secret = Zeroizing::new([0; SECRET_MIN]);
    getrandom::fill(secret.as_mut_slice()).map_err(KeygenError::Random)?;
    let encoded = Zeroizing::new(STANDARD.encode(secret.as_slice()));
    Ok(Zeroizing::new(format!("\n[[key]]\nid = {}\nsecret = \"{}\"\n", id.raw(), *encoded)))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Whole or not at all, whenever it is interrupted.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => write_new(&temporary, text)?,
    }
    fs::rename(&temporary, path)?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
