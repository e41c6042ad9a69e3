//! Life after life of one agent: what each begins with, and what becomes of the state of one that pauses. The binary on
//! disk takes this process's place, or, where it cannot, this process goes on as if nothing had been.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use super::threads::Left;
use super::{Beginning, RunError, live, replace};
use crate::bridge::{Begun, Keyring, Process, Purpose};
use crate::carry::{self, Handover, NotTaken, Stays};
use crate::config::{self, ConfigErrors, Warning};
use crate::gate::keeper::Keeper;
use crate::gate::pins;
use crate::rt::{clock, sched};
use crate::settings::Settings;
use crate::takeover::leftovers;
use crate::takeover::netlink::Requests;
use crate::{generation, keys};

/// How this process was started.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The configuration file.
    pub config: PathBuf,
    /// The control socket, if the command line names one.
    pub socket: Option<PathBuf>,
    /// The binary, as it was found at the start: what is there later takes this process's place.
    pub binary: PathBuf,
}

impl Invocation {
    /// What the configuration means to this process now.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn settings(&self) -> Result<(Settings, Vec<Warning>), ConfigErrors> {
        let (mut settings, warnings) = config::load(&self.config)?;
        if let Some(socket) = &self.socket {
            settings.control_socket.clone_from(socket);
        }
        Ok((settings, warnings))
    }
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// See [`RunError`].
pub fn run(settings: Settings, invocation: Invocation) -> Result<(), RunError> {
    sched::limit_arenas();
    let settings = Arc::new(settings);
    let mut process = Process::new(invocation, clock::now());
    let mut keeper = Keeper::open(&settings);
    let mut handover = take(&settings, &mut process);
    let mut keyring = keys::load(&settings.key_file);
    loop {
        let beginning = keyring
            .map_err(RunError::from)
            .and_then(|keyring| begin(&settings, keyring, keeper, handover.as_ref(), &mut process));
        let (carried, purpose) = match beginning.and_then(|beginning| live(&settings, beginning)) {
            Ok(Left::Finished) => return Ok(()),
            Ok(Left::Paused { carried, purpose }) => (*carried, purpose),
            Err(error) => {
                withdraw(&settings, handover.is_some());
                return Err(error);
            }
        };
        let layout = pins::complete(&settings.runtime.bpffs);
        let paused = Handover::new(&settings, layout, process.restarts, clock::now(), carried);
        let failure = match purpose {
            Purpose::Stop => match carry::store(&settings.runtime.state_dir, &paused) {
                Ok(()) => {
                    stopped(&settings);
                    return Ok(());
                }
                Err(error) => error.to_string(),
            },
            Purpose::Restart => replace::replace(&settings, &paused, &process.invocation).to_string(),
        };
        warn!("this process goes on, since no other can take its place: {failure}");
        (process.failures, process.failure) = (process.failures + 1, Some(failure));
        keeper = Keeper::open(&settings);
        keyring = keys::load(&settings.key_file);
        handover = Some(paused);
    }
}

/// This process was to go on serving, and cannot even begin.
fn withdraw(settings: &Settings, was_handed_over: bool) {
    if was_handed_over && let Ok(mut requests) = Requests::open() {
        leftovers::remove(settings, &Stays::default(), &mut requests);
    }
}

/// What an earlier process left for this one.
fn take(settings: &Settings, process: &mut Process) -> Option<Handover> {
    match carry::take(settings, pins::complete(&settings.runtime.bpffs)) {
        Ok(handover) => {
            process.restarts = handover.restarts + 1;
            Some(handover)
        }
        Err(NotTaken::Nothing) => None,
        Err(error) => {
            warn!("this node starts without the state that was handed over: {error}");
            process.begun = Begun::Fresh { why: Some(error.to_string()) };
            None
        }
    }
}

fn begin(
    settings: &Settings,
    keyring: Keyring,
    mut keeper: Keeper,
    handover: Option<&Handover>,
    process: &mut Process,
) -> Result<Beginning, RunError> {
    let now = clock::now();
    let (incarnation, stays) = match handover {
        Some(handover) => {
            process.begun = Begun::Carried { paused_at: handover.paused_at };
            (handover.state.incarnation, handover.stays(settings, now))
        }
        None => {
            keeper.begin();
            let incarnation = generation::next(&settings.runtime, clock::wall_ns() / 1_000_000)?;
            carry::mark(&settings.runtime.state_dir, incarnation);
            (incarnation, Stays::default())
        }
    };
    let start = carry::start(handover);
    Ok(Beginning { keyring, keeper, incarnation, start, stays, process: process.clone() })
}

fn stopped(settings: &Settings) {
    let initdead = settings.timing.initdead.as_millis();
    info!(
        "stopped in maintenance: what was served here stays served until an agent is back, for {initdead} ms at most"
    );
}
