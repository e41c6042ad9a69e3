//! `xbeat restart` and `xbeat reload`: asks for another process, and waits until that one answers in the agent's place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::poll;

use super::{Agent, ClientError, PATIENCE, finish};
use crate::cli::{Exit, print};
use crate::ctl::process::Process;
use crate::ctl::protocol::{Answer, Request};
use crate::rt::clock;

/// How long the next process may take until it answers: it loads the programs and brings the links up first.
const COMING: Duration = Duration::from_secs(30);
/// How long the agent may take to judge and to pause.
const JUDGING: Duration = Duration::from_secs(25);
/// Between two looks whether it is there.
const LOOK_MS: u8 = 20;

/// `xbeat restart`.
pub fn restart(config: &Path, socket: Option<PathBuf>) -> Exit {
    finish(change_over(config, socket, &Request::Restart))
}

/// `xbeat reload`.
pub fn reload(config: &Path, socket: Option<PathBuf>) -> Exit {
    finish(change_over(config, socket, &Request::Reload))
}

fn change_over(config: &Path, socket: Option<PathBuf>, request: &Request) -> Result<Exit, ClientError> {
    // What is wrong with the configuration is the agent's to tell: it may be what was changed.
    let mut agent = Agent::connect(config, socket)?;
    agent.set_patience(Some(JUDGING + PATIENCE))?;
    let done = match agent.ask(request)? {
        Answer::Done => "the keys were read again; the configuration has not changed".to_owned(),
        Answer::Replacing { socket, started_ns, failures, parts } => {
            drop(agent);
            let process = wait_for_next(&socket, started_ns, failures)?;
            report(&process, &parts)?
        }
        Answer::Status { .. } | Answer::Events | Answer::Refused { .. } => {
            return Err(ClientError::NotUnderstood);
        }
    };
    Ok(print::out(&format!("{done}\n")).err().unwrap_or(Exit::Done))
}

/// Another process than that which was started at `started_ns`, or that one after another failure.
fn wait_for_next(socket: &Path, started_ns: u64, failures: u64) -> Result<Process, ClientError> {
    let until = clock::now().after(COMING);
    loop {
        let found = look(socket);
        match found {
            Ok(process) if process.started_ns != started_ns || process.failures > failures => {
                return Ok(process);
            }
            Ok(_) | Err(_) if clock::now() < until => {}
            Ok(_) => return Err(ClientError::NotReplaced(COMING.as_secs())),
            Err(error) => return Err(error),
        }
        // Nothing to wait for but time. Interrupted, it is looked again.
        let _ = poll(&mut [], LOOK_MS);
    }
}

fn look(socket: &Path) -> Result<Process, ClientError> {
    let mut agent = Agent::connect(Path::new(""), Some(socket.to_owned()))?;
    match agent.ask(&Request::Status)? {
        Answer::Status { status } => Ok(status.process),
        Answer::Events | Answer::Done | Answer::Replacing { .. } | Answer::Refused { .. } => {
            Err(ClientError::NotUnderstood)
        }
    }
}

/// How it went.
fn report(process: &Process, parts: &[String]) -> Result<String, ClientError> {
    if let Some(failure) = process.failure.as_ref().filter(|_| process.failures > 0) {
        return Err(ClientError::Refused(format!("{failure}; the process before goes on")));
    }
    let Some(pause_us) = process.pause_us else {
        let reason = process.reason.clone().unwrap_or_else(|| "nothing was handed over".to_owned());
        return Err(ClientError::WithoutState(reason));
    };
    let what = if parts.is_empty() { String::new() } else { format!(" with the new {}", parts.join(", ")) };
    Ok(format!("restarted{what}: it paused for {} ms, and nothing was given up", pause_us / 1_000))
}
