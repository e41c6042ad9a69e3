//! `xbeat run`: everything that can be refused before the first thread starts.

use std::path::{Path, PathBuf};

use super::{Exit, print};
use crate::ctl::{log, socket};
use crate::keys::KeyError;
use crate::run::Invocation;
use crate::settings::Settings;

pub(super) fn run(path: &Path, socket: Option<PathBuf>) -> Exit {
    log::init();
    let binary = match std::env::current_exe() {
        Ok(binary) => binary,
        Err(error) => {
            tracing::error!("cannot find this program's own file: {error} (is /proc mounted?)");
            return Exit::No;
        }
    };
    let invocation = Invocation { config: path.to_owned(), socket, binary };
    let settings = match invocation.settings() {
        Ok((settings, warnings)) => {
            for warning in warnings {
                tracing::warn!("{}", warning.one_line(&path.display().to_string(), "configuration"));
            }
            settings
        }
        Err(errors) => {
            print::err(&errors.render(print::look()));
            return Exit::Configuration;
        }
    };
    if socket::answers(&settings.control_socket) {
        let socket = settings.control_socket.display();
        tracing::error!(
            "an agent answers on {socket} already: stop it, or give this one its own [control] socket"
        );
        return Exit::No;
    }
    if let Err(error) = crate::hosts::keep_own(&settings) {
        tracing::error!("this node could not keep the id that it joins with: {error}");
        return Exit::No;
    }
    start(settings, invocation)
}

fn start(settings: Settings, invocation: Invocation) -> Exit {
    match crate::run::run(settings, invocation) {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            exit(&error)
        }
    }
}

/// An error with its causes, on one line. A cause that its effect quotes already is not repeated.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The exit code of the innermost cause that has one.
fn exit(error: &(dyn std::error::Error + 'static)) -> Exit {
    let mut exit = Exit::No;
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<KeyError>() {
            exit = Exit::Configuration;
        }
        let denied = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if denied == Some(std::io::ErrorKind::PermissionDenied) {
            exit = Exit::NotPermitted;
        }
        cause = error.source();
    }
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_decide_the_exit_code() {
        let denied = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let path = PathBuf::from("/k");
        let unreadable = KeyError::Unreadable { path: path.clone(), source: denied() };
        assert_eq!(exit(&unreadable), Exit::NotPermitted);
        assert_eq!(exit(&KeyError::NotAFile { path }), Exit::Configuration);
        assert_eq!(exit(&denied()), Exit::NotPermitted);
        assert_eq!(exit(&std::io::Error::other("full")), Exit::No);
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        let source = std::io::Error::other("no space");
        let error = crate::generation::GenerationError::Read { path: "/g".into(), source };
        assert_eq!(chain(&error), "cannot read /g: no space");
        let source = std::io::Error::other("no space");
        let error = KeyError::Unreadable { path: "/k".into(), source };
        assert_eq!(chain(&error).matches("no space").count(), 1);
    }
}
