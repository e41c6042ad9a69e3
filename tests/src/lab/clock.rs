//! CLOCK_MONOTONIC for the laboratory, in nanoseconds: the clock of the agent's events and of the kernel's stamps.
//! Waiting is polling with a limit, and ends early when the user interrupts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// Set by SIGINT and SIGTERM once [`catch_interrupts`] was called.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Readings of two clocks that are no further apart are of one moment.
const APART_NS: u64 = 5_000;
/// How often they are tried again.
const READINGS_MAX: u32 = 20;
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now_ns() -> u64 {
    read_ns(ClockId::CLOCK_MONOTONIC)
}

/// What CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, in nanoseconds. The three readings may be torn apart, by seconds where
/// the thread is starved: the closest of a few is taken.
pub fn realtime_offset_ns() -> u64 {
    let read = || {
        let before = now_ns();
        let wall = read_ns(ClockId::CLOCK_REALTIME);
        let apart = now_ns().saturating_sub(before);
        (apart, wall.saturating_sub(before + apart / 2))
    };
    let mut closest = read();
    for _ in 0..READINGS_MAX {
        if closest.0 <= APART_NS {
            break;
        }
        closest = closest.min(read());
    }
    closest.1
}

fn read_ns(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux; a time of zero would show at once.
    clock_gettime(clock).map_or(0, |time| to_ns(&time))
}

/// A kernel time as nanoseconds.
pub fn to_ns(time: &TimeSpec) -> u64 {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// A duration as nanoseconds.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds as milliseconds, from `from` to `to`; negative when `to` was earlier.
pub fn ms_between(from: u64, to: u64) -> f64 {
    if to >= from { (to - from) as f64 / 1e6 } else { -((from - to) as f64 / 1e6) }
}

/// Sleeps until `at_ns`.
pub fn sleep_until(at_ns: u64) {
    let seconds = i64::try_from(at_ns / 1_000_000_000).unwrap_or(i64::MAX);
    let rest = i64::try_from(at_ns % 1_000_000_000).unwrap_or(0);
    let at = TimeSpec::new(seconds, rest);
    // Interrupted by a signal: the caller's loop looks again.
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &at);
}

/// Sleeps for `duration`, or less when the user interrupts.
///
/// # Errors
/// The user interrupted.
pub fn pause(duration: Duration) -> Result<()> {
    let end = now_ns() + ns(duration);
    while now_ns() < end {
        check_interrupt()?;
        sleep_until(end.min(now_ns() + ns(POLL) * 4));
    }
    check_interrupt()
}

/// Looks every few milliseconds until `condition` gives a value.
///
/// # Errors
/// `limit` is over, the user interrupted, or the condition failed.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = now_ns() + ns(limit);
    loop {
        check_interrupt()?;
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if now_ns() >= end {
            bail!("waited {} ms in vain for {what}", limit.as_millis());
        }
        sleep_until(now_ns() + ns(POLL));
    }
}

/// Makes SIGINT and SIGTERM end every wait with an error, so that all is cleaned up on the way out.
///
/// # Errors
/// The kernel refused the handlers.
pub fn catch_interrupts() -> Result<()> {
    extern "C" fn handler(_signal: i32) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// # Errors
/// The user interrupted.
pub fn check_interrupt() -> Result<()> {
    if is_interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Whether SIGINT or SIGTERM came.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
