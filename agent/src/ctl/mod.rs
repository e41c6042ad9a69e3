//! The control thread: serves people by socket, metrics and log. If it hangs, heartbeats go on: it shares bounded
//! queues and atomics with the realtime threads, and no lock.

pub mod event;
pub mod label;
pub mod log;
pub mod moment;
pub mod protocol;
pub mod socket;
pub mod status;
