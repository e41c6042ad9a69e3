//! The key file: which keys verify, which one signs. Secrets live only while the file is read; no message shows them.
//! What remains is HMAC's states, in a [`Keyring`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use agent_common::KeyId;
use agent_common::maps::KeyState;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use toml::de::DeTable;
use zeroize::{Zeroize as _, Zeroizing};

use crate::bridge::Keyring;
use crate::config::report::{Finding, Findings};
use crate::config::section::Section;

pub mod generate;

/// Fewest bytes of a secret: SHA-256's output length (RFC 2104, section 3).
pub const SECRET_MIN: usize = 32;
/// Most bytes of a secret: SHA-256's block length.
pub const SECRET_MAX: usize = 64;
/// Largest file that is read.
const FILE_MAX: u64 = 64 * 1024;
const KEYS_MAX: usize = 255;

/// Why the key file was not used. Keys in force stay in force.
#[derive(Debug, Error)]
pub enum KeyError {
    /// It could not be read.
    #[error("cannot read the key file {}: {source}{}", path.display(), remedy(source))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory, a device, or far too large.
    #[error("{} is not a key file", path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// Others than its owner can read or write it.
    #[error("the key file {0} can be read by others (mode {1:04o}): run `chmod 600 {0}`, and make new keys if others have access to this host", path.display(), mode)]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to neither root nor this process's user.
    #[error("the key file {0} belongs to user {uid}: run `chown root {0}`", path.display())]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Its content is wrong.
    #[error("{}", lines(path, findings))]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, in order of place; without any part of a secret.
        findings: Vec<Finding>,
    },
}

fn remedy(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::NotFound {
        "; make one with `xbeat keygen`, and copy it to every node"
    } else {
        ""
    }
}

fn lines(path: &Path, findings: &[Finding]) -> String {
    let file = path.display().to_string();
    let lines: Vec<String> = findings.iter().map(|finding| finding.one_line(&file, "error")).collect();
    lines.join("\n")
}

/// Reads the key file.
///
/// # Errors
/// It cannot be read, others can read it, or its content is wrong.
pub fn load(path: &Path) -> Result<Keyring, KeyError> {
    let text = read(path)?;
    let keys = parse(path, &text)?;
    let mut states = vec![KeyState::default(); KEYS_MAX + 1];
    for key in &keys.list {
        if let Some(state) = states.get_mut(usize::from(key.id.raw())) {
            *state = KeyState::from_secret(&key.secret);
        }
    }
    Ok(Keyring { sign_with: keys.sign_with, states })
}

/// Overwrites HMAC's states: whoever has them can sign, so they are worth as much as the secrets. The kernel's copy goes with
/// its map.
pub fn wipe(states: &mut [KeyState]) {
    for state in states {
        state.inner.zeroize();
        state.outer.zeroize();
        state.screen.zeroize();
        state.valid.zeroize();
    }
}

/// The text of a key file that only its owner can read.
fn read(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    // Without O_NONBLOCK the open of a pipe would wait for its writer.
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = open.map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > FILE_MAX {
        return Err(KeyError::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let uid = metadata.uid();
    if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
        return Err(KeyError::Owner { path: path.to_owned(), uid });
    }
    read_text(file, metadata.len()).map_err(unreadable)
}

/// The buffer has its final size from the start: one that grows would leave copies behind.
fn read_text(file: File, length: u64) -> io::Result<Zeroizing<String>> {
    let capacity = usize::try_from(length).unwrap_or(0) + 1;
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    file.take(length).read_to_string(&mut text)?;
    Ok(text)
}

struct Keys {
    sign_with: KeyId,
    list: Vec<Key>,
}

struct Key {
    id: KeyId,
    secret: Zeroizing<Vec<u8>>,
}

fn parse(path: &Path, text: &str) -> Result<Keys, KeyError> {
    let mut findings = Findings::new(text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        // The parser's own message may quote the text.
        findings.syntax(
            error.span().unwrap_or(0..0),
            "this is not TOML",
            "compare with a file of `xbeat keygen`",
        );
    }
    let root = Section::new("the key file", document.get_ref(), 0..0, &["sign_with", "key"], &mut findings);
    let keys = keys(&root, &mut findings);
    match keys {
        Some(keys) if findings.is_sound() => Ok(keys),
        Some(_) | None => {
            Err(KeyError::Invalid { path: path.to_owned(), findings: findings.into_error_list().0 })
        }
    }
}

fn keys(root: &Section<'_>, findings: &mut Findings<'_>) -> Option<Keys> {
    let sections = root.tables("key", "[[key]]", &["id", "secret"], KEYS_MAX, findings);
    if sections.is_empty() && !root.has("key") {
        findings.missing(0..0, "there is no [[key]]", "make a key with `xbeat keygen --add`");
    }
    let mut list: Vec<Key> = Vec::new();
    for section in &sections {
        let id = key_id(section, "id", findings);
        let secret = secret(section, findings);
        let (Some(id), Some(secret)) = (id, secret) else { continue };
        if list.iter().any(|key| key.id == id) {
            let message = format!("key {} is there twice", id.raw());
            findings.error(section.key_span("id"), message, "give each key its own `id`");
        }
        list.push(Key { id, secret });
    }
    let sign_with = key_id(root, "sign_with", findings)?;
    if findings.is_sound() && !list.iter().any(|key| key.id == sign_with) {
        findings.error(
            root.key_span("sign_with"),
            format!("`sign_with` names key {}, which is not in the file", sign_with.raw()),
            "write the `id` of a [[key]] below",
        );
    }
    Some(Keys { sign_with, list })
}

fn key_id(section: &Section<'_>, key: &str, findings: &mut Findings<'_>) -> Option<KeyId> {
    if !section.has(key) {
        findings.missing(
            section.span(),
            format!("{} lacks `{key}`", section.title()),
            format!("add {key} = 1"),
        );
    }
    let id = section.integer(key, 1..=255, findings)?;
    u8::try_from(id.value).ok().and_then(KeyId::new)
}

fn secret(section: &Section<'_>, findings: &mut Findings<'_>) -> Option<Zeroizing<Vec<u8>>> {
    if !section.has("secret") {
        findings.missing(section.span(), "[[key]] lacks `secret`", "make a key with `xbeat keygen --add`");
    }
    let written = section.string("secret", "BASE64", findings)?;
    let mut secret = Zeroizing::new(vec![0; base64::decoded_len_estimate(written.value.len())]);
    let help = "make a key with `xbeat keygen --add`";
    let Ok(length) = STANDARD.decode_slice(written.value, &mut secret) else {
        findings.error(written.span, "`secret` in [[key]] is not base64", help);
        return None;
    };
    secret.truncate(length);
    if (SECRET_MIN..=SECRET_MAX).contains(&length) {
        return Some(secret);
    }
    let message =
        format!("`secret` in [[key]] has {length} bytes, and {SECRET_MIN} to {SECRET_MAX} are needed");
    findings.error(written.span, message, help);
    None
}

#[cfg(test)]
mod tests;
