//! The binary on disk in the place of this process: same id, same arguments, same environment. Signals that come meanwhile
//! are held back already, and wait for the one that comes.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Invocation;
use crate::carry::{self, Handover, StoreError};
use crate::settings::Settings;

/// What the kernel puts behind the path of a program whose file was replaced.
const DELETED: &str = " (deleted)";

/// Why this process was not replaced. Its state is still its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplaceError {
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An argument that no program can be given.
    #[error("the command line cannot be repeated")]
    Arguments(#[source] std::ffi::NulError),
    /// The kernel.
    #[error("{} cannot be run: {source}", path.display())]
    Exec {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Where the program is that takes this one's place: its file may have been replaced since the start.
pub(crate) fn program(invocation: &Invocation) -> PathBuf {
    let shown = invocation.binary.as_os_str().to_string_lossy();
    shown.strip_suffix(DELETED).map_or_else(|| invocation.binary.clone(), PathBuf::from)
}

/// Returns only when it could not be done; nobody takes the state then.
pub(super) fn replace(settings: &Settings, handover: &Handover, invocation: &Invocation) -> ReplaceError {
    let state_dir = &settings.runtime.state_dir;
    let error = match carry::store(state_dir, handover) {
        Ok(()) => match exec(&program(invocation)) {
            Ok(never) => match never {},
            Err(error) => error,
        },
        Err(error) => error.into(),
    };
    carry::discard(state_dir);
    error
}

fn exec(path: &Path) -> Result<Infallible, ReplaceError> {
    let text = |text: OsString| CString::new(text.into_vec()).map_err(ReplaceError::Arguments);
    let file = text(path.as_os_str().to_owned())?;
    let arguments = std::env::args_os().map(text).collect::<Result<Vec<_>, _>>()?;
    let failed = |errno: Errno| ReplaceError::Exec { path: path.to_owned(), source: errno.into() };
    // Descriptors close on it, all of them; the mask of signals and those that wait stay.
    nix::unistd::execv(&file, &arguments).map_err(failed)
}
