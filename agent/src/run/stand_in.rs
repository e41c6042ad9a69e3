//! Stands in for the control thread: a signal leaves, notes go to the log.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use std::os::fd::AsFd;

use crate::bridge::{Command, ControlSide};

pub(super) fn run(mut side: ControlSide) -> Result<(), Errno> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    let signals = SignalFd::new(&set)?;
    loop {
        let mut ready = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(side.notes_ready.as_fd(), PollFlags::POLLIN),
            PollFd::new(side.ended.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut ready, PollTimeout::NONE)?;
        let [signal, notes, ended] = ready.map(|fd| fd.any().unwrap_or(false));
        if signal {
            let _ = signals.read_signal()?;
            let _ = side.commands.push(Command::Leave);
            let _ = nix::unistd::write(&side.commands_ready, &1u64.to_ne_bytes());
        }
        if notes {
            let _ = nix::unistd::read(&side.notes_ready, &mut [0; 8]);
            for notes in &mut side.notes {
                while let Ok(note) = notes.pop() {
                    tracing::info!("{note:?}");
                }
            }
        }
        if ended {
            return Ok(());
        }
    }
}
