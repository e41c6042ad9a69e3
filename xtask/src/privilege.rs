//! Who may do what: building is the user's, and only what needs root asks for it.

use std::{
    ffi::OsStr, fs, io::IsTerminal as _, os::unix::fs::MetadataExt as _, path::Path, process::Command,
};

use crate::shell;

/// How a command can be run as root from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// This process is root.
    Root,
    /// `sudo` runs it without a question.
    Sudo,
    /// `sudo` is there and may ask the person at the terminal for a password.
    SudoAsks,
    /// No way.
    None,
}

impl Privilege {
    /// Looks at the user, at sudo and at the terminal.
    pub(crate) fn detect() -> Self {
        if fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0) {
            return Self::Root;
        }
        if shell::find_program("sudo").is_none() {
            return Self::None;
        }
        if shell::probe(Command::new("sudo").args(["-n", "true"])).is_some() {
            return Self::Sudo;
        }
        if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
            Self::SudoAsks
        } else {
            Self::None
        }
    }

    /// Makes sure that [`Privilege::command`] will not ask in the middle of a progress display: asks now if it must.
    pub(crate) fn ready(self) -> bool {
        match self {
            Self::Root | Self::Sudo => true,
            Self::SudoAsks => Command::new("sudo").arg("-v").status().is_ok_and(|status| status.success()),
            Self::None => false,
        }
    }

    /// The program as root; `None` when there is no way.
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Option<Command> {
        match self {
            Self::Root => Some(shell::command(program)),
            Self::Sudo | Self::SudoAsks => {
                let mut command = shell::command("sudo");
                command.arg("-E").arg(program);
                Some(command)
            }
            Self::None => None,
        }
    }

    /// A program of the workspace as root where possible, else as the user.
    pub(crate) fn command_or_user(self, program: &Path) -> Command {
        self.command(program).unwrap_or_else(|| shell::command(program))
    }
}
