//! Opens devices on an ordinary thread: a driver in trouble may hold `open` back for seconds, and the serial thread has
//! other lines to serve meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::eventfd::EventFd;

use super::port::{LineSettings, Loss, Port};
use crate::takeover::wake;

/// Stack of the thread.
const STACK: usize = 256 * 1024;

enum Wish {
    Open(usize),
    Close(Port),
}

/// The serial thread's side. Dropped, it ends the thread.
pub(super) struct Opener {
    wishes: Sender<Wish>,
    opened: Receiver<(usize, Result<Port, Loss>)>,
    ready: Arc<EventFd>,
}

impl Opener {
    /// Starts the thread for these lines.
    ///
    /// # Errors
    /// No thread or no descriptor could be had.
    pub(super) fn start(lines: Vec<LineSettings>) -> io::Result<Self> {
        let (wishes, wished) = channel();
        let (done, opened) = channel();
        let ready = Arc::new(super::event()?);
        let bell = Arc::clone(&ready);
        let body = move || {
            // Each line has at most one wish of each kind under way, so neither channel grows.
            while let Ok(wish) = wished.recv() {
                match wish {
                    Wish::Open(place) => {
                        let Some(line) = lines.get(place) else { continue };
                        if done.send((place, Port::open(line))).is_err() {
                            return;
                        }
                        wake(&bell);
                    }
                    Wish::Close(port) => port.close(),
                }
            }
        };
        std::thread::Builder::new().name("tty".to_owned()).stack_size(STACK).spawn(body)?;
        Ok(Self { wishes, opened, ready })
    }

    /// Wants the line with this number opened; [`Opener::next`] tells what became of it.
    pub(super) fn open(&self, line: usize) {
        // Without the thread nothing is opened any more: the line stays down, and is shown so.
        let _ = self.wishes.send(Wish::Open(line));
    }

    /// Wants it closed.
    pub(super) fn close(&self, port: Port) {
        if let Err(unsent) = self.wishes.send(Wish::Close(port)) {
            drop(unsent);
        }
    }

    /// The next line that was opened, or could not be.
    pub(super) fn next(&self) -> Option<(usize, Result<Port, Loss>)> {
        self.opened.try_recv().ok()
    }

    /// Readable when there is one.
    pub(super) fn ready(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Takes the word that there is one.
    pub(super) fn hush(&self) {
        let _ = self.ready.read();
    }
}
