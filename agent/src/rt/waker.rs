//! What the rt thread sleeps on: one timer at an absolute time, and the descriptors that may have something for it.
//! A wake-up costs two system calls at most: the wait itself, and arming the timer when its time changed.

use std::os::fd::AsFd;

use agent_core::Instant;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Descriptors that are told of in one wait; more are told of in the next.
const EVENTS: usize = 16;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Source {
    /// The timer.
    Timer = 0,
    /// The kernel's ring of news, or a receiving socket.
    Receive = 1,
    /// Another thread.
    Thread = 2,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// The timer was due.
    pub timer: bool,
    /// A frame or news of one.
    pub receive: bool,
}

/// The timer and the descriptors.
pub struct Waker {
    epoll: Epoll,
    timer: TimerFd,
    armed: Instant,
}

impl Waker {
    /// A waker that waits for nothing yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> Result<Self, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // Edges: an expired timer is armed again and a counter counts on, and neither ever has to be read.
        epoll
            .add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, Source::Timer as u64))?;
        Ok(Self { epoll, timer, armed: Instant::NEVER })
    }

    /// Wakes for `descriptor`, too. Of sockets every state wakes, since they are read within bounds; of counters and
    /// the ring each change does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn watch(&self, descriptor: impl AsFd, source: Source, edge: bool) -> Result<(), Errno> {
        let edge = if edge { EpollFlags::EPOLLET } else { EpollFlags::empty() };
        self.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN | edge, source as u64))
    }

    /// Does not wake for `descriptor` any more.
    pub fn forget(&self, descriptor: impl AsFd) {
        // One that is not watched wakes nobody.
        let _ = self.epoll.delete(descriptor);
    }

    /// The timer's time.
    pub const fn armed(&self) -> Instant {
        self.armed
    }

    /// Sets the timer. What is past is due at once.
    ///
    /// # Errors
    /// The kernel's; the timer is as it was then.
    pub fn arm(&mut self, at: Instant) -> Result<(), Errno> {
        if at == Instant::NEVER {
            if self.armed != Instant::NEVER {
                self.timer.unset()?;
            }
        } else {
            // Zero would disarm it.
            let ns = at.0.max(1);
            let time =
                TimeSpec::new((ns / 1_000_000_000) as libc::time_t, (ns % 1_000_000_000) as libc::c_long);
            self.timer.set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        }
        self.armed = at;
        Ok(())
    }

    /// Sleeps until something is there. A signal wakes as well; whoever wakes looks at everything.
    pub fn wait(&mut self) -> Woken {
        let mut events = [EpollEvent::empty(); EVENTS];
        let ready = self.epoll.wait(&mut events, EpollTimeout::NONE).unwrap_or(0);
        let mut woken = Woken::default();
        for event in events.iter().take(ready) {
            woken.timer |= event.data() == Source::Timer as u64;
            woken.receive |= event.data() == Source::Receive as u64;
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agent_core::Instant;
    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::{Source, Waker, Woken};
    use crate::rt::clock;

    #[test]
    fn the_timer_wakes_once_for_each_arming() {
        let mut waker = Waker::new().expect("descriptors");
        let at = clock::now().after(Duration::from_millis(5));
        waker.arm(at).expect("armed");
        assert_eq!(waker.wait(), Woken { timer: true, receive: false });
        assert!(clock::now() >= at);

        // Never read, and yet it is quiet: only the event wakes now.
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).expect("an eventfd");
        waker.watch(&event, Source::Receive, true).expect("watched");
        event.write(1).expect("counted");
        assert_eq!(waker.wait(), Woken { timer: false, receive: true });

        waker.arm(Instant(1)).expect("armed in the past");
        assert_eq!(waker.wait(), Woken { timer: true, receive: false });
        waker.arm(Instant::NEVER).expect("disarmed");
        event.write(1).expect("counted");
        assert_eq!(waker.wait(), Woken { timer: false, receive: true });
    }
}
