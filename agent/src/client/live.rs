//! What `xbeat top` shows, as it comes: the status again and again, and events as they happen. Two threads that end with
//! the process; an agent that goes away is asked again.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, park_timeout};
use std::time::Duration;

use super::{Agent, ClientError, finish, human};
use crate::cli::Exit;
use crate::ctl::protocol::{Answer, Request};
use crate::ctl::status::Status;

/// Between two looks at an agent that does not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// Past events to begin with.
const EVENTS: u32 = 50;
/// What waits for the screen; a screen that is too slow makes the threads wait.
const WAITING: usize = 64;

/// Something new.
#[derive(Debug)]
pub enum News {
    /// The present status.
    Status(Box<Status>),
    /// There is none, and why.
    NoAnswer(String),
    /// Something happened: a line for people.
    Event(String),
}

/// Asks the agent for its status `every` so often, and follows its events.
///
/// # Errors
/// It does not answer now: has been told, and is how the command ends.
pub fn watch(config: &Path, socket: Option<PathBuf>, every: Duration) -> Result<Receiver<News>, Exit> {
    let first = Agent::connect(config, socket).and_then(|mut agent| Ok((status(&mut agent)?, agent.path)));
    let (first, path) = match first {
        Ok(first) => first,
        Err(error) => return Err(finish(Err(error))),
    };
    let (news, seen) = mpsc::sync_channel(WAITING);
    // There is room, and the screen is not gone yet.
    let _ = news.send(News::Status(first));
    let (events, events_path) = (news.clone(), path.clone());
    let spawned =
        thread::Builder::new().name("status".into()).spawn(move || poll(&path, every, &news)).and_then(
            |_| thread::Builder::new().name("events".into()).spawn(move || follow(&events_path, &events)),
        );
    match spawned {
        Ok(_) => Ok(seen),
        Err(error) => {
            crate::cli::print::err(&format!("xbeat: a thread could not be started: {error}\n"));
            Err(Exit::No)
        }
    }
}

fn status(agent: &mut Agent) -> Result<Box<Status>, ClientError> {
    match agent.ask(&Request::Status)? {
        Answer::Status { status } => Ok(status),
        Answer::Events | Answer::Done | Answer::Replacing { .. } | Answer::Refused { .. } => {
            Err(ClientError::NotUnderstood)
        }
    }
}

fn connect(path: &Path) -> Result<Agent, ClientError> {
    Agent::connect(Path::new(""), Some(path.to_owned()))
}

/// Until the screen is gone.
fn poll(path: &Path, every: Duration, news: &SyncSender<News>) {
    loop {
        park_timeout(every);
        let new = match connect(path).and_then(|mut agent| status(&mut agent)) {
            Ok(status) => News::Status(status),
            Err(error) => News::NoAnswer(error.to_string()),
        };
        if news.send(new).is_err() {
            return;
        }
    }
}

/// Until the screen is gone. After a break only what is new.
fn follow(path: &Path, news: &SyncSender<News>) {
    let mut lines = EVENTS;
    loop {
        let followed = connect(path).and_then(|mut agent| {
            agent.ask(&Request::Events { follow: true, lines: Some(lines) })?;
            lines = 0;
            agent.wait_for_ever()?;
            while let Some(line) = agent.line()? {
                if news.send(News::Event(human(&line).trim_end().to_owned())).is_err() {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        // What keeps it from answering, the poll says.
        if matches!(followed, Ok(false)) {
            return;
        }
        park_timeout(AGAIN);
    }
}
