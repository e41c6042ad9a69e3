//! `xbeat keygen`, with the steps that follow it.

use std::path::Path;

use agent_common::KeyId;

use super::{Exit, print};
use crate::keys::KeyError;
use crate::keys::generate::{self, KeygenError};

pub(super) fn keygen(path: &Path, id: Option<u8>, add: bool) -> Exit {
    let id = id.and_then(KeyId::new);
    let made = if add { generate::add(path, id) } else { created(path, id) };
    let file = path.display();
    match made {
        Ok(id) => {
            let id = id.raw();
            let text = if add {
                format!(
                    "Key {id} is in {file}; it verifies, and does not sign yet. In three steps:\n\
                     1. Copy {file} to every node, and run `systemctl reload xbeat` on each.\n\
                     2. When all have it: set sign_with = {id}, copy it and reload again.\n\
                     3. When all sign with it: remove the old [[key]], copy it and reload again.\n"
                )
            } else {
                format!("Key {id} is in {file}. Copy the file to every node, with mode 0600.\n")
            };
            print::out(&text).err().unwrap_or(Exit::Done)
        }
        Err(error) => {
            print::err(&format!("xbeat: {error}\n"));
            exit(&error)
        }
    }
}

fn created(path: &Path, id: Option<KeyId>) -> Result<KeyId, KeygenError> {
    let id = id.or(KeyId::new(1)).ok_or(KeygenError::Full)?;
    generate::create(path, id)?;
    Ok(id)
}

fn exit(error: &KeygenError) -> Exit {
    let denied = |source: &std::io::Error| source.kind() == std::io::ErrorKind::PermissionDenied;
    match error {
        KeygenError::Write { source, .. } | KeygenError::Present(KeyError::Unreadable { source, .. })
            if denied(source) =>
        {
            Exit::NotPermitted
        }
        KeygenError::Present(_) => Exit::Configuration,
        KeygenError::Exists { .. }
        | KeygenError::Write { .. }
        | KeygenError::Random(_)
        | KeygenError::IdTaken { .. }
        | KeygenError::Full => Exit::No,
    }
}
