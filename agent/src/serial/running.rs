//! The serial thread as it runs: started with the agent's other threads, and waited for when they have ended.

use std::io;
use std::thread::{Builder, JoinHandle};

use tracing::{error, warn};

use super::Serial;
use crate::rt::sched;
use crate::settings::RuntimeSettings;

/// Stack of the thread; what the loop uses is prefaulted.
const STACK: usize = 512 * 1024;

/// The thread. Dropped, it waits for its end: the rt thread's side must be gone by then.
pub struct Running(Option<JoinHandle<()>>);

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(serial: Serial, runtime: &RuntimeSettings) -> io::Result<Self> {
        let runtime = runtime.clone();
        let body = move || {
            if let Some(errno) = sched::serial_thread(&runtime).fifo {
                warn!("the serial thread has no realtime scheduling: {errno}");
            }
            serial.run();
        };
        Builder::new()
            .name("serial".to_owned())
            .stack_size(STACK)
            .spawn(body)
            .map(|thread| Self(Some(thread)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.take().is_some_and(|thread| thread.join().is_err()) {
            error!("thread serial ended by a defect: please report what is above");
        }
    }
}
