//! Commands that ask a running agent. It is found by its socket, or by the configuration that names the socket.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::cli::{EventsArgs, Exit, print};
use crate::config::{self, ConfigErrors};
use crate::ctl::event::Event;
use crate::ctl::moment;
use crate::ctl::protocol::{Answer, RESULT_PATIENCE, Request};
use crate::ctl::status::Status;

pub mod changeover;
pub mod live;
mod table;

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a command got no answer.
#[derive(Debug, Error)]
enum ClientError {
    /// The socket could not be found in the configuration.
    #[error("{}", .0.render(print::look()).trim_end())]
    Configuration(#[source] Box<ConfigErrors>),
    #[error("no agent answers on {}: start it with `systemctl start xbeat` or `xbeat run`", .0.display())]
    NotRunning(PathBuf),
    #[error("not permitted to talk to the agent on {}: run as root", .0.display())]
    NotPermitted(PathBuf),
    #[error("the agent on {} did not answer: {source}", path.display())]
    NoAnswer { path: PathBuf, source: io::Error },
    #[error("the agent refused: {0}")]
    Refused(String),
    #[error("no other process answers after {0} s, and the one before still does: see its log")]
    NotReplaced(u64),
    #[error("restarted, but without the state of the process before: {0}")]
    WithoutState(String),
    #[error("the answer is not of this version of xbeat")]
    NotUnderstood,
}

impl ClientError {
    const fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) => Exit::Configuration,
            Self::NotRunning(_) => Exit::NotRunning,
            Self::NotPermitted(_) => Exit::NotPermitted,
            Self::NoAnswer { .. }
            | Self::Refused(_)
            | Self::NotReplaced(_)
            | Self::WithoutState(_)
            | Self::NotUnderstood => Exit::No,
        }
    }
}

/// `xbeat status`.
pub fn status(config: &Path, socket: Option<PathBuf>, json: bool) -> Exit {
    finish(ask_status(config, socket, json))
}

/// `xbeat events`.
pub fn events(config: &Path, socket: Option<PathBuf>, args: &EventsArgs) -> Exit {
    finish(ask_events(config, socket, args))
}

/// `xbeat standby`, `takeover` and `maintenance`: waits for the result.
pub fn operate(config: &Path, socket: Option<PathBuf>, request: &Request, done: &str) -> Exit {
    let operate = || {
        let mut agent = Agent::connect(config, socket)?;
        // The agent answers before that, if only that it does not know.
        agent.set_patience(Some(RESULT_PATIENCE + PATIENCE))?;
        let Answer::Done = agent.ask(request)? else { return Err(ClientError::NotUnderstood) };
        Ok(print::out(&format!("{done}\n")).err().unwrap_or(Exit::Done))
    };
    finish(operate())
}

fn finish(result: Result<Exit, ClientError>) -> Exit {
    result.unwrap_or_else(|error| {
        print::err(&format!("xbeat: {error}\n"));
        error.exit()
    })
}

fn ask_status(config: &Path, socket: Option<PathBuf>, json: bool) -> Result<Exit, ClientError> {
    let mut agent = Agent::connect(config, socket)?;
    let Answer::Status { status } = agent.ask(&Request::Status)? else {
        return Err(ClientError::NotUnderstood);
    };
    let text = if json { json_line(&status)? } else { table::table(&status) };
    Ok(print::out(&text).err().unwrap_or(Exit::Done))
}

fn json_line(status: &Status) -> Result<String, ClientError> {
    let line = serde_json::to_string(status).map_err(|_| ClientError::NotUnderstood)?;
    Ok(line + "\n")
}

fn ask_events(config: &Path, socket: Option<PathBuf>, args: &EventsArgs) -> Result<Exit, ClientError> {
    let mut agent = Agent::connect(config, socket)?;
    let Answer::Events = agent.ask(&Request::Events { follow: args.follow, lines: args.lines })? else {
        return Err(ClientError::NotUnderstood);
    };
    if args.follow {
        agent.wait_for_ever()?;
    }
    while let Some(line) = agent.line()? {
        let text = if args.json { line } else { human(&line) };
        if let Err(exit) = print::out(&text) {
            return Ok(exit);
        }
    }
    Ok(Exit::Done)
}

/// An event for people; a line that this version does not know is shown as it came.
fn human(line: &str) -> String {
    serde_json::from_str::<Event>(line).map_or_else(
        |_| line.to_owned(),
        |event| format!("{} {}\n", moment::time_of_day(event.t_ns), event.to_text()),
    )
}

/// A connection to the agent.
struct Agent {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Agent {
    fn connect(config: &Path, socket: Option<PathBuf>) -> Result<Self, ClientError> {
        let path = match socket {
            Some(path) => path,
            None => {
                config::load(config)
                    .map_err(|errors| ClientError::Configuration(Box::new(errors)))?
                    .0
                    .control_socket
            }
        };
        let stream = UnixStream::connect(&path).map_err(|error| {
            let path = path.clone();
            let is = |kind| error.kind() == kind;
            if is(io::ErrorKind::PermissionDenied) {
                ClientError::NotPermitted(path)
            } else if is(io::ErrorKind::NotFound) || is(io::ErrorKind::ConnectionRefused) {
                ClientError::NotRunning(path)
            } else {
                ClientError::NoAnswer { path, source: error }
            }
        })?;
        let agent = Self { path, stream: BufReader::new(stream) };
        agent.set_patience(Some(PATIENCE))?;
        Ok(agent)
    }

    fn wait_for_ever(&self) -> Result<(), ClientError> {
        self.set_patience(None)
    }

    fn set_patience(&self, patience: Option<Duration>) -> Result<(), ClientError> {
        let stream = self.stream.get_ref();
        let set = stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience));
        set.map_err(|source| self.no_answer(source))
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let request = serde_json::to_string(request).map_err(|_| ClientError::NotUnderstood)? + "\n";
        let written = self.stream.get_mut().write_all(request.as_bytes());
        written.map_err(|source| self.no_answer(source))?;
        let line = self.line()?.ok_or_else(|| self.no_answer(io::ErrorKind::UnexpectedEof.into()))?;
        match serde_json::from_str(&line).map_err(|_| ClientError::NotUnderstood)? {
            Answer::Refused { error } => Err(ClientError::Refused(error)),
            answer @ (Answer::Status { .. } | Answer::Events | Answer::Done | Answer::Replacing { .. }) => {
                Ok(answer)
            }
        }
    }

    /// The next line with its newline, `None` when the agent has closed.
    fn line(&mut self) -> Result<Option<String>, ClientError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(line)),
            // An agent that ends with unread requests resets.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(source) => Err(self.no_answer(source)),
        }
    }

    fn no_answer(&self, source: io::Error) -> ClientError {
        ClientError::NoAnswer { path: self.path.clone(), source }
    }
}
