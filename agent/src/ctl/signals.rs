//! SIGTERM and SIGINT leave the cluster in order, SIGHUP reads configuration and keys again, SIGUSR2 puts the binary on
//! disk in this process's place.

use std::io;

use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Leave.
    Leave,
    /// Read configuration and keys again.
    Reload,
    /// Let the binary on disk take over.
    Restart,
}

pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr2: Signal,
}

impl Signals {
    /// # Errors
    /// A handler could not be installed.
    pub(super) fn new() -> io::Result<Self> {
        let signals = Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr2: signal(SignalKind::user_defined2())?,
        };
        // A parent may have left them blocked, and the process before did.
        all().thread_unblock()?;
        Ok(signals)
    }

    /// Hands every signal on for as long as somebody takes them.
    pub(super) async fn forward(mut self, wishes: mpsc::Sender<Wish>) {
        loop {
            let wish = tokio::select! {
                _ = self.term.recv() => Wish::Leave,
                _ = self.int.recv() => Wish::Leave,
                _ = self.hup.recv() => Wish::Reload,
                _ = self.usr2.recv() => Wish::Restart,
            };
            if wishes.send(wish).await.is_err() {
                return;
            }
        }
    }
}

/// All of them.
fn all() -> SigSet {
    let mut set = SigSet::empty();
    for number in [Number::SIGTERM, Number::SIGINT, Number::SIGHUP, Number::SIGUSR2] {
        set.add(number);
    }
    set
}

/// From now on they wait, as far as this thread is concerned, for the process that comes next: unhandled, they would end
/// it. Threads that are started later inherit that, until one asks for them again.
pub(crate) fn hold() {
    if let Err(errno) = all().thread_block() {
        tracing::debug!("signals are not held back: {errno}");
    }
}
