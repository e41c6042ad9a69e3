//! What systemd wants to know of a service of `Type=notify`: that it is ready, and that it stops.
//! Outside systemd nothing is told.

use sd_notify::NotifyState;
use tracing::debug;

/// The node takes part.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// The node has left and ends.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        debug!("the service manager could not be told: {error}");
    }
}
