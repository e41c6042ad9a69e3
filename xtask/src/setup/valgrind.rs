//! valgrind, with which `bench guard` counts the core's instructions.

use anyhow::Result;

use super::apt;
use crate::{progress, shell};

const PROGRAM: &str = "valgrind";
const PACKAGE: &str = "valgrind";

/// Finds or installs it. Without it the guard says so and skips what it would count, hence no error here.
pub(crate) fn ensure() -> Result<String> {
    if shell::find_program(PROGRAM).is_none()
        && let Err(error) = apt::install(&[PACKAGE])
    {
        progress::warn(PROGRAM, &format!("{error:#}; install it by hand"));
    }
    let found = shell::find_program(PROGRAM);
    Ok(found.map_or_else(|| "none".to_owned(), |path| path.display().to_string()))
}
