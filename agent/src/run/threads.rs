//! Starts the three threads and waits for their end. The rt thread decides when it is over; the others follow.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};

use agent_core::Carried;
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use tracing::{error, info, warn};

use super::RunError;
use super::queues::Control;
use crate::bridge::Purpose;
use crate::carry::Stays;
use crate::ctl::signals;
use crate::gate::keeper::Keeper;
use crate::generation;
use crate::io::rival::Sighting;
use crate::links::follower::Follower;
use crate::rt::admission::{ASK_EVERY, Told};
use crate::rt::sched::{self, Granted, Outcome};
use crate::rt::{Ended, Parts, Rt, clock};
use crate::settings::Settings;
use crate::takeover::netlink::Requests;
use crate::takeover::{Takeover, leftovers};

/// Stack of the realtime threads; what the loops use is prefaulted.
const RT_STACK: usize = 512 * 1024;
/// Stack of the control thread.
const CTL_STACK: usize = 1024 * 1024;

/// How the threads ended in order.
pub(super) enum Left {
    /// Everything is released and told.
    Finished,
    /// Another process goes on with this. The addresses are still here.
    Paused {
        /// With what.
        carried: Box<Carried>,
        /// What for.
        purpose: Purpose,
    },
}

/// Runs the threads until the node has left, pauses, or cannot go on.
///
/// # Errors
/// A thread could not be started, or ended otherwise than in order.
pub(super) fn run(
    settings: &Arc<Settings>,
    parts: Parts,
    takeover: Takeover,
    follower: Follower,
    control: Control,
) -> Result<(Left, Keeper), RunError> {
    let Control { side, end } = control;
    let stats = Arc::clone(&parts.stats);
    let rt = Rt::new(parts).map_err(super::descriptor("the rt thread's descriptors"))?;
    // However it ends, `rt` finds its queue of commands abandoned then, and leaves.
    let ctl = spawn("ctl", CTL_STACK, move || crate::ctl::run(side).map_err(RunError::Control))?;
    // What the rt thread asks of the kernel, it asks first.
    let (granted, rt_granted) = mpsc::sync_channel(1);
    let takeover = {
        let (settings, stats) = (Arc::clone(settings), Arc::clone(&stats));
        spawn("takeover", RT_STACK, move || {
            let rt = rt_granted.recv().unwrap_or(Granted::Plain);
            let outcome = sched::takeover_thread(&settings.runtime, rt);
            // Each life has its own `stats`, and this thread is the only one of its kind in it.
            let _ = stats.takeover_told.set(Told::own(outcome));
            tell_takeover(outcome);
            takeover.run();
        })?
    };
    // It ends when it finds that `rt` has, however that ends.
    let follower = spawn("links", CTL_STACK, move || follower.run())?;
    let rt = {
        let settings = Arc::clone(settings);
        let gone = WakeAtEnd(rt.takeover_bell());
        spawn("rt", RT_STACK, move || {
            // Dropped after `rt` however the thread ends: then the takeover thread finds its queue abandoned.
            let _gone = gone;
            let outcome = sched::rt_thread(&settings.runtime, settings.timing.keepalive);
            stats.scheduling.store(outcome.granted.code(), Ordering::Relaxed);
            // After the class, which the control thread changes when it has asked again. Nobody else sets it.
            let _ = stats.rt_told.set(Told::own(outcome));
            // It does not wait: there is room for it. That nobody listens any more is no matter here.
            let _ = granted.send(outcome.granted);
            tell_rt(outcome, &settings);
            stats.began_ns.store(clock::now().0, Ordering::Relaxed);
            live(rt, &settings)
        })?
    };
    super::notify::ready();
    let left = finish(rt, takeover, ctl, &end, settings);
    // What is not pinned lasts until here.
    let (keeper, _programs) = follower.join().map_err(|_| RunError::Defect("links"))?;
    Ok((left?, keeper))
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    stack: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(stack)
        .spawn(body)
        .map_err(|source| RunError::Thread { name, source })
}

/// Wakes the takeover thread once more.
struct WakeAtEnd(Arc<EventFd>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        crate::takeover::wake(&self.0);
    }
}

/// The rt thread: life after life, until the node has left.
fn live(mut rt: Rt, settings: &Settings) -> Result<Left, RunError> {
    rt.begin();
    loop {
        match rt.run() {
            Ended::Finished => {
                if let Err(errno) = rt.close_watchdog() {
                    warn!("the watchdog could not be stopped and will reset the machine: {errno}");
                }
                return Ok(Left::Finished);
            }
            Ended::Paused(purpose) => {
                let carried = rt.hand_over().ok_or(RunError::Defect("rt"))?;
                return Ok(Left::Paused { carried: Box::new(carried), purpose });
            }
            Ended::NoTimer(errno) => return Err(RunError::Timer(errno.into())),
            Ended::NoTakeover => return Err(RunError::Defect("takeover")),
            Ended::Rival(sighting) => return Err(RunError::Rival(rival(&sighting, settings).into())),
            Ended::Outlived(incarnation) => {
                rt.start_over(incarnation).map_err(|source| RunError::StartOver { incarnation, source })?;
                warn!("a peer knows a later life of this node: starting over with incarnation {incarnation}");
                // Between two lives, in which nothing is sent. Should it not last, the next start is told again.
                if let Err(error) = generation::raise(&settings.runtime, incarnation) {
                    warn!("incarnation {incarnation} is not stored: {error}");
                }
                rt.begin();
            }
        }
    }
}

/// What an operator must know who gave two machines one identity.
fn rival(sighting: &Sighting, settings: &Settings) -> String {
    let (node, id) = (settings.node_name(settings.me), settings.me.raw());
    let place = sighting.place(settings);
    format!(
        "another node already runs as {node} (id {id}) {place}: stop it there, or set `node` in [cluster] here to \
         the name of this machine's own [[node]]"
    )
}

fn finish(
    rt: JoinHandle<Result<Left, RunError>>,
    takeover: JoinHandle<()>,
    ctl: JoinHandle<Result<(), RunError>>,
    end: &OwnedFd,
    settings: &Settings,
) -> Result<Left, RunError> {
    let result = rt.join().unwrap_or(Err(RunError::Defect("rt")));
    let takeover = takeover.join().map_err(|_| RunError::Defect("takeover"));
    if takeover.is_err() {
        withdraw(settings);
    }
    match result {
        Ok(Left::Paused { purpose: Purpose::Restart, .. }) => {
            signals::hold();
            super::notify::reloading();
        }
        Ok(Left::Finished | Left::Paused { purpose: Purpose::Stop, .. }) | Err(_) => {
            super::notify::stopping()
        }
    }
    // A full counter means that it has been told already.
    let _ = nix::unistd::write(end, &1u64.to_ne_bytes());
    let ctl = ctl.join().unwrap_or(Err(RunError::Defect("ctl")));
    match result? {
        // Whatever became of the others: the next process has them anew, and only it can take the addresses away.
        left @ Left::Paused { .. } => Ok(left),
        Left::Finished => takeover.and(ctl).map(|()| Left::Finished),
    }
}

/// Removes what the takeover thread left when it ended by a defect.
fn withdraw(settings: &Settings) {
    match Requests::open() {
        Ok(mut requests) => leftovers::remove(settings, &Stays::default(), &mut requests),
        Err(errno) => error!("service addresses may be left on this node: {errno}"),
    }
}

fn tell_rt(outcome: Outcome, settings: &Settings) {
    if let Some(errno) = outcome.affinity {
        warn!("the rt thread is not pinned to CPUs {:?}: {errno}", settings.runtime.cpus);
    }
    match outcome.granted {
        Granted::Deadline => info!("the rt thread runs under SCHED_DEADLINE"),
        Granted::Fifo => {
            let why = outcome.deadline.map(|errno| format!(" ({})", not_admitted(errno)));
            info!(
                "the rt thread runs under SCHED_FIFO {}{}",
                settings.runtime.priority,
                why.unwrap_or_default()
            );
        }
        Granted::Plain if settings.runtime.realtime => {
            let why = match (outcome.fifo, outcome.deadline) {
                (None, Some(errno @ Errno::EBUSY)) => not_admitted(errno),
                (fifo, deadline) => {
                    let errno = fifo.or(deadline).map(|errno| errno.to_string()).unwrap_or_default();
                    format!("{errno} (run it as root, or LimitRTPRIO=99 in the unit)")
                }
            };
            warn!("no realtime scheduling: {why}; under load this node will be late");
        }
        Granted::Plain => info!("no realtime scheduling, as configured"),
    }
}

fn tell_takeover(outcome: Outcome) {
    if let Some(errno) = outcome.fifo {
        warn!("the takeover thread has no realtime scheduling: {errno}");
    } else if let Some(errno) = outcome.deadline {
        info!("the takeover thread runs under SCHED_FIFO ({})", not_admitted(errno));
    }
}

fn not_admitted(errno: Errno) -> String {
    if errno == Errno::EBUSY {
        format!(
            "SCHED_DEADLINE was not admitted: {errno}; it is asked for again every {} s",
            ASK_EVERY.as_secs()
        )
    } else {
        format!("SCHED_DEADLINE was not admitted: {errno}")
    }
}
