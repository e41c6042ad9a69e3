//! Realtime scheduling for the laboratory's own threads, so that a busy machine does not look like a gap of the service.
//! Where it is not permitted the thread stays ordinary.

/// Makes the calling thread SCHED_FIFO; says whether that was permitted.
pub fn fifo(priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameters` is valid for the call, and thread 0 is the calling one.
    let result = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    result == 0
}
