//! The network between two machines: what one sends is handed to the other at once, and dropped when that does not take
//! it, as on a wire. QEMU's own way from machine to machine waits for a machine that is booting, as busily as it can.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::config::Node;
use super::machine::PRIORITY;
use crate::lab::realtime;

/// More than a frame of any kind.
const FRAME_MAX: usize = 1 << 16;
/// Between two looks whether it is over.
const LOOK: Duration = Duration::from_millis(100);

/// A running wire.
#[derive(Debug)]
pub struct Wire {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Starts it; its ends, `NODE.wire`, are there when this returns, and the machines' own are `NODE.card`.
    ///
    /// # Errors
    /// A socket or a thread cannot be had.
    pub fn start(directory: &Path) -> Result<Self> {
        let mut wire = Self { stop: Arc::default(), threads: Vec::new() };
        for node in Node::BOTH {
            let from = directory.join(format!("{}.wire", node.name()));
            let to = directory.join(format!("{}.card", node.peer().name()));
            let socket =
                UnixDatagram::bind(&from).with_context(|| format!("cannot make {}", from.display()))?;
            socket.set_read_timeout(Some(LOOK))?;
            let out = UnixDatagram::unbound()?;
            out.set_nonblocking(true)?;
            let stop = Arc::clone(&wire.stop);
            wire.threads.push(thread::Builder::new().name("wire".into()).spawn(move || {
                // Where it is not permitted, a busy host delays frames.
                realtime::fifo(PRIORITY);
                carry(&socket, &out, &to, &stop);
            })?);
        }
        Ok(wire)
    }
}

fn carry(socket: &UnixDatagram, out: &UnixDatagram, to: &Path, stop: &AtomicBool) {
    let mut frame = vec![0; FRAME_MAX];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut frame) {
            Ok(length) => {
                // A machine that is not there, or takes nothing now, loses it.
                let _ = out.send_to(frame.get(..length).unwrap_or_default(), to);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::Wire;

    #[test]
    fn frames_reach_the_other_machine_and_one_that_takes_nothing_holds_nobody_up() {
        let directory = std::env::temp_dir().join(format!("xbeat-wire-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let wire = Wire::start(&directory).unwrap();
        let card = |name: &str| UnixDatagram::bind(directory.join(format!("{name}.card"))).unwrap();
        let (alpha, beta) = (card("alpha"), card("beta"));
        let mut frame = [0; 100];
        alpha.send_to(b"to beta", directory.join("alpha.wire")).unwrap();
        beta.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(beta.recv(&mut frame).unwrap(), 7);
        // Nobody reads: more than any queue holds is taken all the same.
        alpha.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        for _ in 0..2000 {
            alpha.send_to(b"lost", directory.join("alpha.wire")).unwrap();
        }
        beta.send_to(b"to alpha", directory.join("beta.wire")).unwrap();
        alpha.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(alpha.recv(&mut frame).unwrap(), 8);
        drop(wire);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
