//! Printing that survives a reader who goes away: `xbeat events | head` ends quietly.

use std::io::{self, IsTerminal as _, Write as _};

use super::Exit;
use crate::config::Look;

/// Writes to standard output and flushes. A reader who went away ends the command as done.
///
/// # Errors
/// How the command ends.
pub fn out(text: &str) -> Result<(), Exit> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Exit::Done),
        Err(error) => {
            err(&format!("xbeat: cannot write the output: {error}\n"));
            Err(Exit::No)
        }
    }
}

/// Writes to standard error; where that is gone, nobody is left to tell.
pub fn err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// How configuration errors look on standard error.
pub fn look() -> Look {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    match (io::stderr().is_terminal(), plain || dumb) {
        (false, _) => Look::Plain,
        (true, true) => Look::Framed,
        (true, false) => Look::Coloured,
    }
}
