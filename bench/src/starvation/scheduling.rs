//! Scheduling classes and CPUs of single threads, of this process and of others: sched_setattr(2) and sched_setaffinity(2).
//! That is how one agent stands for many settings without an option for each.

use std::fs;
use std::io;
use std::mem::size_of;
use std::time::Duration;

use agent_tests::lab::clock;
use anyhow::{Context as _, Result, bail};
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// What SCHED_DEADLINE grants: so much runtime in each period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// That it may run.
    pub runtime: Duration,
    /// Before it gets as much again; also its deadline.
    pub period: Duration,
}

impl Grant {
    /// Both in microseconds.
    pub const fn us(runtime: u64, period: u64) -> Self {
        Self { runtime: Duration::from_micros(runtime), period: Duration::from_micros(period) }
    }

    /// In milliseconds, as tables have it.
    pub fn label(self) -> String {
        let ms = |span: Duration| {
            let text = format!("{:.1}", span.as_secs_f64() * 1e3);
            text.trim_end_matches(".0").to_owned()
        };
        format!("{}/{}", ms(self.runtime), ms(self.period))
    }
}

/// Makes thread `tid` SCHED_DEADLINE; zero is the calling one.
///
/// # Errors
/// EBUSY: not so much is left to grant. EPERM: not permitted, or the thread is pinned.
pub fn set_deadline(tid: u32, grant: Grant) -> Result<()> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>())?,
        sched_policy: libc::SCHED_DEADLINE.cast_unsigned(),
        // As the agent asks for it.
        sched_flags: u64::try_from(libc::SCHED_FLAG_RESET_ON_FORK | libc::SCHED_FLAG_RECLAIM)?,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: clock::ns(grant.runtime),
        sched_deadline: clock::ns(grant.period),
        sched_period: clock::ns(grant.period),
    };
    // SAFETY: the attributes are a whole struct of the size that they name; the kernel only reads them.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const attributes, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("SCHED_DEADLINE {} ms was refused", grant.label()));
    }
    Ok(())
}

/// The class of a thread, as sched(7) numbers them.
///
/// # Errors
/// It ended.
pub fn class(tid: u32) -> Result<i32> {
    // SAFETY: plain system call, no pointers.
    let class = unsafe { libc::sched_getscheduler(tid.cast_signed()) };
    if class < 0 {
        return Err(io::Error::last_os_error()).context("cannot ask for a thread's class");
    }
    Ok(class & !libc::SCHED_RESET_ON_FORK)
}

/// Keeps a thread on one CPU; zero is the calling one.
///
/// # Errors
/// There is no such CPU, or the thread is SCHED_DEADLINE.
pub fn pin(tid: u32, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(tid.cast_signed()), &set)
        .with_context(|| format!("cannot pin a thread to CPU {cpu}"))
}

/// Keeps all threads of a process on one CPU.
///
/// # Errors
/// It ended.
pub fn pin_all(pid: u32, cpu: usize) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process ended")? {
        let tid = task?.file_name().to_string_lossy().parse().context("not a thread")?;
        // It may have ended meanwhile.
        let _ = pin(tid, cpu);
    }
    Ok(())
}

/// The thread of a process with this name.
///
/// # Errors
/// There is none.
pub fn thread(pid: u32, name: &str) -> Result<u32> {
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process ended")? {
        let task = task?;
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if comm.trim() == name {
            return task.file_name().to_string_lossy().parse().context("not a thread");
        }
    }
    bail!("process {pid} has no thread {name}")
}
