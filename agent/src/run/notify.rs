//! What systemd wants to know of a service of `Type=notify` or `notify-reload`: that it is ready, that it stops, and that
//! another process of the same id takes its place. Outside systemd nothing is told.

use sd_notify::NotifyState;
use tracing::debug;

/// The node takes part.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The node has left and ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The process is replaced in place; [`ready`] follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("the service manager could not be told: {error}");
    }
}
