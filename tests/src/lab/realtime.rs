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

/// Runs `work` with the calling thread SCHED_FIFO where permitted, and makes it ordinary again.
pub fn with_fifo<T>(priority: i32, work: impl FnOnce() -> T) -> T {
    let was_permitted = fifo(priority);
    let outcome = work();
    if was_permitted {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: `parameters` is valid for the call, and thread 0 is the calling one.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    }
    outcome
}
