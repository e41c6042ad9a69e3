//! What a process takes from its machine, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

/// Time that all threads of a process ran, in nanoseconds (`/proc/PID/task/*/schedstat`).
///
/// # Errors
/// The process ended.
pub fn run_time_ns(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process ended")? {
        let text = fs::read_to_string(task?.path().join("schedstat")).context("cannot read schedstat")?;
        let first = text.split_whitespace().next().context("schedstat is empty")?;
        total += first.parse::<u64>().context("schedstat is not a number")?;
    }
    Ok(total)
}

/// How often a thread of a process was put on a CPU (the third number of `/proc/PID/task/*/schedstat`).
///
/// # Errors
/// The process ended.
pub fn wakeups(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process ended")? {
        let text = fs::read_to_string(task?.path().join("schedstat")).context("cannot read schedstat")?;
        let third = text.split_whitespace().nth(2).context("schedstat is short")?;
        total += third.parse::<u64>().context("schedstat is not a number")?;
    }
    Ok(total)
}

/// How often a thread of a process went to sleep by itself: as often, something woke it (`voluntary_ctxt_switches`).
///
/// # Errors
/// The process ended.
pub fn sleeps(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process ended")? {
        let status =
            fs::read_to_string(task?.path().join("status")).context("cannot read a thread's status")?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        total += count.context("no voluntary_ctxt_switches")?.trim().parse::<u64>()?;
    }
    Ok(total)
}

/// Ticks in user mode and in the kernel (`utime` and `stime`): their sum is the run time, how it is divided is sampled by
/// the timer tick.
///
/// # Errors
/// The process ended.
pub fn ticks(pid: u32) -> Result<[u64; 2]> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process ended")?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("an odd stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next().context("a short stat")?.parse::<u64>().context("stat is not a number");
    Ok([next()?, next()?])
}

/// Resident memory in KiB (`VmRSS`).
///
/// # Errors
/// The process ended.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is not a number")
}
