//! How the kernel runs the realtime threads: SCHED_DEADLINE where it is admitted, else SCHED_FIFO, else as any other;
//! memory that is not paged out. Everything is best effort: each answer says what was reached; `admission` asks again.

use std::num::NonZeroUsize;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::unistd::Pid;

use crate::settings::{RuntimeSettings, Scheduling};

/// glibc's arenas for small memory: the realtime threads need none of their own.
const ARENAS_MAX: i32 = 1;
/// Stack that is touched before the loop starts.
const PREFAULT_STACK: usize = 128 * 1024;
/// No page is larger, hugepages apart.
const PAGE_MAX: usize = 64 * 1024;
/// Bounds of the period in which SCHED_DEADLINE grants its runtime.
const PERIOD_MIN: Duration = Duration::from_millis(1);
const PERIOD_MAX: Duration = Duration::from_millis(10);
/// Part of a period that the rt thread may run: far above what it needs, and little enough to be admitted beside others.
const RUNTIME_PART: u32 = 5;
/// Runtime and period that the takeover thread asks for: a job takes some tens of microseconds, and there are few.
const TAKEOVER_GRANT: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(10));

/// Whoever asks, by what sched_setattr(2) calls it.
const CALLER: Pid = Pid::from_raw(0);

/// What a thread got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// Ordinary scheduling.
    Plain,
    /// SCHED_FIFO.
    Fifo,
    /// SCHED_DEADLINE.
    Deadline,
}

impl Granted {
    /// As [`crate::stats::Stats::scheduling`] has it.
    pub const fn code(self) -> u32 {
        match self {
            Self::Plain => 0,
            Self::Fifo => 1,
            Self::Deadline => 2,
        }
    }
}

/// What a thread got, and what it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it got.
    pub granted: Granted,
    /// Why not SCHED_DEADLINE, if that was tried.
    pub deadline: Option<Errno>,
    /// Why not SCHED_FIFO, if that was tried.
    pub fifo: Option<Errno>,
    /// Why it is not pinned, if that was tried.
    pub affinity: Option<Errno>,
}

/// Makes the calling thread the rt thread, which wakes at least every `keepalive`.
pub fn rt_thread(runtime: &RuntimeSettings, keepalive: Duration) -> Outcome {
    let mut outcome = Outcome { granted: Granted::Plain, deadline: None, fifo: None, affinity: None };
    prefault_stack();
    // For a thread without a realtime class; timers of realtime threads have no slack.
    let _ = nix::sys::prctl::set_timerslack(1);
    if !runtime.realtime {
        return outcome;
    }
    outcome.affinity = pin(&runtime.cpus).err();
    let (deadline, fifo) = classes(runtime.scheduling, runtime.cpus.is_empty());
    if deadline {
        match set_deadline(CALLER, rt_grant(keepalive)) {
            Ok(()) => {
                outcome.granted = Granted::Deadline;
                return outcome;
            }
            Err(errno) => outcome.deadline = Some(errno),
        }
    }
    if fifo {
        match set_fifo(runtime.priority) {
            Ok(()) => outcome.granted = Granted::Fifo,
            Err(errno) => outcome.fifo = Some(errno),
        }
    }
    outcome
}

/// Makes the calling thread the takeover thread: of the class that the rt thread got, since a verdict in time is worth
/// nothing while the address waits for a busy CPU; just below it where that is SCHED_FIFO.
pub fn takeover_thread(runtime: &RuntimeSettings, rt: Granted) -> Outcome {
    match rt {
        Granted::Deadline => {}
        Granted::Fifo | Granted::Plain => return below(runtime, 1),
    }
    prefault_stack();
    let refused = match set_deadline(CALLER, TAKEOVER_GRANT) {
        Ok(()) => {
            return Outcome { granted: Granted::Deadline, deadline: None, fifo: None, affinity: None };
        }
        Err(errno) => errno,
    };
    // Better than nothing, also where the configuration wants nothing but SCHED_DEADLINE.
    Outcome { deadline: Some(refused), ..below(runtime, 1) }
}

/// SCHED_DEADLINE for the running rt thread `tid`, as it asks for it at its start. May wait for a lock of the kernel.
///
/// # Errors
/// EBUSY: not so much is left to grant. ESRCH: this process has no such thread. Else it is not permitted, or not for it.
pub fn admit_rt(tid: Pid, keepalive: Duration) -> Result<(), Errno> {
    own_thread(tid)?;
    set_deadline(tid, rt_grant(keepalive))
}

/// The same for the takeover thread.
///
/// # Errors
/// As of [`admit_rt`].
pub fn admit_takeover(tid: Pid) -> Result<(), Errno> {
    own_thread(tid)?;
    set_deadline(tid, TAKEOVER_GRANT)
}

/// Makes the calling thread the ping thread: below the takeover thread.
pub fn ping_thread(runtime: &RuntimeSettings) -> Outcome {
    below(runtime, 2)
}

fn below(runtime: &RuntimeSettings, steps: u8) -> Outcome {
    let mut outcome = Outcome { granted: Granted::Plain, deadline: None, fifo: None, affinity: None };
    prefault_stack();
    if runtime.realtime {
        match set_fifo(runtime.priority.saturating_sub(steps).max(1)) {
            Ok(()) => outcome.granted = Granted::Fifo,
            Err(errno) => outcome.fifo = Some(errno),
        }
    }
    outcome
}

/// Makes the calling thread the serial thread: just below the rt thread.
pub fn serial_thread(runtime: &RuntimeSettings) -> Outcome {
    below(runtime, 1)
}

/// Whether to try SCHED_DEADLINE and SCHED_FIFO. A pinned thread cannot have the first (sched(7)).
const fn classes(wanted: Scheduling, free_to_move: bool) -> (bool, bool) {
    match wanted {
        Scheduling::Auto => (free_to_move, true),
        Scheduling::Deadline => (true, false),
        Scheduling::Fifo => (false, true),
    }
}

fn pin(cpus: &[usize]) -> Result<(), Errno> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
    sched_setaffinity(CALLER, &set)
}

/// Runtime and period of the rt thread.
fn rt_grant(keepalive: Duration) -> (Duration, Duration) {
    let period = (keepalive / 2).clamp(PERIOD_MIN, PERIOD_MAX);
    (period / RUNTIME_PART, period)
}

/// Fails with ESRCH unless `tid` is a thread of this process: the id of one that has ended may be anybody's by now.
fn own_thread(tid: Pid) -> Result<(), Errno> {
    // SAFETY: a system call without pointers; signal zero is not sent, only looked whether it could be.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, Pid::this().as_raw(), tid.as_raw(), 0) };
    Errno::result(result).map(drop)
}

fn set_deadline(tid: Pid, (runtime, period): (Duration, Duration)) -> Result<(), Errno> {
    let ns = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_DEADLINE as u32,
        // Threads that this one might start are ordinary; and unused time of others may be had.
        sched_flags: (libc::SCHED_FLAG_RESET_ON_FORK | libc::SCHED_FLAG_RECLAIM) as u64,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: ns(runtime),
        sched_deadline: ns(period),
        sched_period: ns(period),
    };
    // SAFETY: the attributes are a whole struct of the size that they name; the kernel only reads them.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, tid.as_raw(), &raw const attributes, 0) };
    Errno::result(result).map(drop)
}

fn set_fifo(priority: u8) -> Result<(), Errno> {
    let parameters = libc::sched_param { sched_priority: i32::from(priority) };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameters are a whole struct; the kernel only reads them. Zero is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    Errno::result(result).map(drop)
}

/// Keeps the process small: called once, before other threads start.
pub fn limit_arenas() {
    // SAFETY: it only sets a number of the allocator.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) };
}

/// Locks all that is mapped, and what will be touched later. Called after everything is allocated and before the threads
/// start. Only where no limit holds: under one, a later allocation could
/// fail where it would have been paged out.
///
/// # Errors
/// A limit holds (EPERM), or the kernel's reason; nothing is locked then.
pub fn lock_memory() -> Result<(), Errno> {
    let lifted = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok();
    if !lifted {
        let limit = getrlimit(Resource::RLIMIT_MEMLOCK)?.0;
        if limit != RLIM_INFINITY && !exceeds(limit) {
            return Err(Errno::EPERM);
        }
    }
    // What is there now is read in at once: a takeover must not wait for a page of its code to come from a disk.
    // SAFETY: it changes how pages are kept, not what they hold.
    Errno::result(unsafe { libc::mlockall(libc::MCL_CURRENT) })?;
    // Later on fault: address space that is never touched (stacks, arenas) costs nothing.
    // SAFETY: as above.
    Errno::result(unsafe { libc::mlockall(libc::MCL_FUTURE | libc::MCL_ONFAULT) }).map(drop)
}

/// Whether this process may lock more than `limit` bytes, as one with CAP_IPC_LOCK may: tried on address space that
/// is never touched, since capabilities of a user namespace look like real ones.
fn exceeds(limit: rlim_t) -> bool {
    let length = usize::try_from(limit).ok().and_then(|limit| limit.checked_add(PAGE_MAX));
    let Some(length) = length.and_then(NonZeroUsize::new) else { return false };
    // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
    let Ok(space) = (unsafe {
        mmap_anonymous(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE)
    }) else {
        return false;
    };
    // SAFETY: the range was just mapped; nothing is read or written.
    let locked =
        unsafe { libc::mlock2(space.as_ptr(), length.get(), libc::MLOCK_ONFAULT as libc::c_uint) } == 0;
    // SAFETY: mapped above with this length, and nothing points into it.
    let _ = unsafe { munmap(space, length.get()) };
    locked
}

/// Touches the stack that the loop may use, so that no page fault comes later.
#[inline(never)]
fn prefault_stack() {
    let mut pages = [0u8; PREFAULT_STACK];
    std::hint::black_box(&mut pages);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::unistd::{getppid, gettid};

    use super::{
        Granted, TAKEOVER_GRANT, admit_rt, admit_takeover, classes, own_thread, rt_grant, takeover_thread,
    };
    use crate::settings::{RuntimeSettings, Scheduling};

    #[test]
    fn a_pinned_thread_does_not_ask_for_deadline_on_its_own() {
        assert_eq!(classes(Scheduling::Auto, true), (true, true));
        assert_eq!(classes(Scheduling::Auto, false), (false, true));
        assert_eq!(classes(Scheduling::Deadline, true), (true, false));
        assert_eq!(classes(Scheduling::Fifo, true), (false, true));
    }

    #[test]
    fn both_threads_together_ask_for_a_quarter_of_a_cpu_at_most() {
        for keepalive in [1, 2, 10, 100, 1_000].map(Duration::from_millis) {
            let (runtime, period) = rt_grant(keepalive);
            assert!(
                period <= keepalive.max(Duration::from_millis(1)),
                "the thread may run in every keepalive"
            );
            let part = runtime.as_secs_f64() / period.as_secs_f64();
            let takeover = TAKEOVER_GRANT.0.as_secs_f64() / TAKEOVER_GRANT.1.as_secs_f64();
            assert!(part + takeover <= 0.25 + 1e-9, "{part} and {takeover} at {keepalive:?}");
        }
    }

    #[test]
    fn the_takeover_thread_has_the_class_of_the_rt_thread() {
        let granted = |rt: Granted| {
            std::thread::spawn(move || takeover_thread(&settings(), rt)).join().expect("no panic")
        };
        let fifo = granted(Granted::Fifo);
        assert_eq!((fifo.deadline, fifo.granted == Granted::Deadline), (None, false));
        // Where it is not permitted, or all of it is granted to others, it was at least asked for.
        let auto = granted(Granted::Deadline);
        let refused = [Some(Errno::EPERM), Some(Errno::EBUSY)].contains(&auto.deadline);
        assert!(auto.granted == Granted::Deadline || refused, "{auto:?}");
    }

    #[test]
    fn a_thread_of_another_process_is_left_alone() {
        let stranger = getppid();
        assert_eq!(admit_takeover(stranger), Err(Errno::ESRCH));
        assert_eq!(admit_rt(stranger, Duration::from_millis(10)), Err(Errno::ESRCH));
        assert_eq!(own_thread(gettid()), Ok(()), "its own threads are known");
    }

    fn settings() -> RuntimeSettings {
        RuntimeSettings {
            realtime: true,
            scheduling: Scheduling::Auto,
            priority: 60,
            cpus: Vec::new(),
            state_dir: std::path::PathBuf::new(),
            bpffs: std::path::PathBuf::new(),
            xdp: crate::settings::XdpSetting::Off,
            generation: crate::settings::Generation::Time,
            announce_refresh: Duration::from_secs(60),
        }
    }
}
