//! Says something from an address, all the time: what a service does whose agent is gone. The gate must stop it.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};

use crate::lab::clock;

/// Between two datagrams.
const INTERVAL_NS: u64 = 20_000_000;
/// Where they go: nobody listens there.
const PORT: u16 = 7_071;

pub(super) struct Talk {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Talk {
    pub(super) fn start(from: Ipv4Addr, to: Ipv4Addr) -> Result<Self> {
        let socket =
            UdpSocket::bind((from, PORT)).with_context(|| format!("{from} is not on this machine"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new().name("talk".into()).spawn(move || {
            while !told.load(Ordering::Relaxed) {
                // What the gate drops may come back as an error.
                let _ = socket.send_to(b"still here", (to, PORT));
                clock::sleep_until(clock::now_ns() + INTERVAL_NS);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}
