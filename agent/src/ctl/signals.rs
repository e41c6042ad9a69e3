//! SIGTERM and SIGINT leave the cluster in order, SIGHUP reads the keys again.

use std::io;

use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Leave.
    Leave,
    /// Read the keys again.
    Reload,
}

pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// # Errors
    /// A handler could not be installed.
    pub(super) fn new() -> io::Result<Self> {
        let signals = Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        };
        // A parent may have left them blocked.
        let mut set = SigSet::empty();
        for number in [Number::SIGTERM, Number::SIGINT, Number::SIGHUP] {
            set.add(number);
        }
        set.thread_unblock()?;
        Ok(signals)
    }

    /// Hands every signal on for as long as somebody takes them.
    pub(super) async fn forward(mut self, wishes: mpsc::Sender<Wish>) {
        loop {
            let wish = tokio::select! {
                _ = self.term.recv() => Wish::Leave,
                _ = self.int.recv() => Wish::Leave,
                _ = self.hup.recv() => Wish::Reload,
            };
            if wishes.send(wish).await.is_err() {
                return;
            }
        }
    }
}
