//! Starts the agent's threads and waits for their end.

use thiserror::Error;

use crate::settings::Settings;

/// Why the agent ended otherwise than in order.
#[derive(Debug, Error)]
pub enum RunError {
    /// The realtime half is not in this build.
    #[error("this build has no realtime half")]
    Absent,
}

/// Runs the agent until it has left the cluster.
///
/// # Errors
/// It could not start, or a thread failed.
pub fn run(_settings: Settings) -> Result<(), RunError> {
    Err(RunError::Absent)
}
