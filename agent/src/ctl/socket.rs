//! The control socket: made for its owner only, taken over from a dead predecessor, never from a living one.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why there is no control socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another agent answers there.
    #[error("an agent answers on {} already: stop it, or give this one its own [control] socket", path.display())]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// There is something else than a socket.
    #[error("{} is not a socket, and is left alone: give [control] socket another path", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// It could not be made.
    #[error("cannot make the control socket {}", path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The socket; its path is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: Option<u64>,
}

/// Whether somebody listens there.
pub fn answers(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

impl ControlSocket {
    /// Makes the socket, mode 0600.
    ///
    /// # Errors
    /// Somebody listens there, there is something else, or the directory cannot be written; nothing has changed.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let make = |source| SocketError::Make { path: path.to_owned(), source };
        if answers(path) {
            return Err(SocketError::Taken { path: path.to_owned() });
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::NotASocket { path: path.to_owned() });
            }
            Ok(_) | Err(_) => (),
        }
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(make)?;
        }
        // Under another name until its mode is right, then put in place at once.
        let mut name = path.as_os_str().to_owned();
        name.push(".n");
        let temporary = PathBuf::from(name);
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(make(error)),
            Ok(()) | Err(_) => (),
        }
        let listener = UnixListener::bind(&temporary).map_err(make)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600)).map_err(make)?;
        std::fs::rename(&temporary, path).map_err(make)?;
        listener.set_nonblocking(true).map_err(make)?;
        Ok(Self { listener, path: path.to_owned(), inode: inode(path) })
    }

    /// The listener for the control thread's runtime, which must be entered.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A successor may have put its own there.
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).ok().map(|found| found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_connect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/xbeat.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(answers(&path));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_living_agent_keeps_its_socket_and_a_dead_one_loses_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xbeat.sock");
        let first = ControlSocket::bind(&path).unwrap();
        assert!(matches!(ControlSocket::bind(&path), Err(SocketError::Taken { .. })));
        assert!(answers(&path));
        drop(first);
        // What kill -9 leaves: the path without a listener. The standard library's listener does not remove it.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists() && !answers(&path));
        let second = ControlSocket::bind(&path).unwrap();
        assert!(answers(&path));
        drop(second);
    }

    #[test]
    fn a_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(ControlSocket::bind(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }
}
