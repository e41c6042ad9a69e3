//! SCHED_DEADLINE, asked for again. At its start a thread may be refused because others hold for the moment what the kernel
//! grants of it, and SCHED_FIFO is not as good: of CPUs that are full of realtime load the kernel keeps 50 ms of each
//! second for ordinary threads, and a thread of any SCHED_FIFO priority stands still for as long.
//!
//! The control thread asks, by the threads' ids: the kernel may let whoever asks wait for a lock, and the rt thread waits
//! for nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Pid, gettid};
use tracing::{info, warn};

use super::sched::{self, Granted, Outcome};
use crate::stats::Stats;

/// Between two askings.
pub const ASK_EVERY: Duration = Duration::from_secs(10);
/// From the start to the first one. The kernel takes back what a thread had up to a period after its end, and the process
/// before this one may have ended just now.
pub const ASK_FIRST: Duration = Duration::from_secs(1);

/// What a thread says of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its id.
    tid: Pid,
    /// What it got, and what not.
    outcome: Outcome,
}

impl Told {
    /// What the calling thread got.
    pub fn own(outcome: Outcome) -> Self {
        Self { tid: gettid(), outcome }
    }
}

/// Who may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Rt,
    Takeover,
}

/// Where a thread stands.
///
/// ```text
/// Unknown ─▶ Waiting ─▶ Admitted
///    │          └─────▶ Final (refused for another reason than want of bandwidth)
///    └─▶ Admitted, Final: as it began
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has not said how it began.
    Unknown,
    /// It may have SCHED_DEADLINE once there is enough of it.
    Waiting(Pid),
    /// It has SCHED_DEADLINE.
    Admitted,
    /// It stays as it is: SCHED_DEADLINE is not wanted, not permitted, or not for it.
    Final,
}

/// How the threads of one life stand.
#[derive(Debug)]
pub struct Admission {
    stats: Arc<Stats>,
    keepalive: Duration,
    rt: Standing,
    takeover: Standing,
}

impl Admission {
    /// Nothing is known yet of threads that tell `stats` how they begin.
    pub fn new(stats: Arc<Stats>, keepalive: Duration) -> Self {
        Self { stats, keepalive, rt: Standing::Unknown, takeover: Standing::Unknown }
    }

    /// Asks for whoever may have more than it has. May take as long as the kernel likes.
    pub fn ask(&mut self) {
        let keepalive = self.keepalive;
        self.ask_by(|who, tid| match who {
            Who::Rt => sched::admit_rt(tid, keepalive),
            Who::Takeover => sched::admit_takeover(tid),
        });
    }

    fn ask_by(&mut self, mut admit: impl FnMut(Who, Pid) -> Result<(), Errno>) {
        self.learn();
        // Each turn but the last moves one of the two on for good.
        while let Some((who, tid)) = next(self.rt, self.takeover) {
            let standing = match admit(who, tid) {
                Ok(()) => Standing::Admitted,
                Err(Errno::EBUSY) => return,
                Err(errno) => {
                    refused(who, errno);
                    Standing::Final
                }
            };
            match who {
                Who::Rt => self.rt = standing,
                Who::Takeover => self.takeover = standing,
            }
            if standing == Standing::Admitted {
                self.admitted(who);
            }
        }
    }

    /// What the threads have said meanwhile.
    fn learn(&mut self) {
        if self.rt == Standing::Unknown {
            self.rt = self.stats.rt_told.get().map_or(Standing::Unknown, |told| begun(Who::Rt, told));
        }
        if self.takeover == Standing::Unknown {
            let told = self.stats.takeover_told.get();
            self.takeover = told.map_or(Standing::Unknown, |told| begun(Who::Takeover, told));
        }
    }

    fn admitted(&self, who: Who) {
        match who {
            Who::Rt => {
                self.stats.scheduling.store(Granted::Deadline.code(), Ordering::Relaxed);
                info!("the rt thread runs under SCHED_DEADLINE now");
            }
            Who::Takeover => info!("the takeover thread runs under SCHED_DEADLINE now"),
        }
    }
}

/// Where a thread stands that began so.
const fn begun(who: Who, told: &Told) -> Standing {
    match (told.outcome.granted, told.outcome.deadline, who) {
        (Granted::Deadline, _, _) => Standing::Admitted,
        (Granted::Fifo | Granted::Plain, Some(Errno::EBUSY), _) => Standing::Waiting(told.tid),
        (Granted::Fifo | Granted::Plain, Some(_), _) => Standing::Final,
        // It was not asked for: by the configuration's will, or because the rt thread did not have it.
        (Granted::Fifo | Granted::Plain, None, Who::Rt) => Standing::Final,
        (Granted::Fifo | Granted::Plain, None, Who::Takeover) => Standing::Waiting(told.tid),
    }
}

/// For whom to ask now: what the rt thread does not have, the takeover thread does not take away.
const fn next(rt: Standing, takeover: Standing) -> Option<(Who, Pid)> {
    match (rt, takeover) {
        (Standing::Waiting(tid), _) => Some((Who::Rt, tid)),
        (Standing::Admitted, Standing::Waiting(tid)) => Some((Who::Takeover, tid)),
        (Standing::Admitted, Standing::Unknown | Standing::Admitted | Standing::Final)
        | (Standing::Unknown | Standing::Final, _) => None,
    }
}

fn refused(who: Who, errno: Errno) {
    // The thread has ended: so does this life, and there is nothing to tell.
    if errno == Errno::ESRCH {
        return;
    }
    let name = match who {
        Who::Rt => "rt",
        Who::Takeover => "takeover",
    };
    warn!("the {name} thread does not get SCHED_DEADLINE any more: {errno}");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::unistd::Pid;

    use super::{Admission, Told, Who};
    use crate::rt::sched::{Granted, Outcome};
    use crate::stats::Stats;

    const KEEPALIVE: Duration = Duration::from_millis(10);
    const RT: Pid = Pid::from_raw(11);
    const TAKEOVER: Pid = Pid::from_raw(12);

    const NOT_ASKED: Outcome = Outcome { granted: Granted::Fifo, deadline: None, fifo: None, affinity: None };
    const HAS: Outcome = Outcome { granted: Granted::Deadline, ..NOT_ASKED };
    const BUSY: Outcome = Outcome { deadline: Some(Errno::EBUSY), ..NOT_ASKED };
    const DENIED: Outcome = Outcome { deadline: Some(Errno::EPERM), ..NOT_ASKED };

    /// Both threads, as they began; the kernel's answers are the test's.
    struct Bed {
        stats: Arc<Stats>,
        admission: Admission,
    }

    impl Bed {
        fn new(rt: Outcome, takeover: Outcome) -> Self {
            let bed = Self::silent();
            bed.stats.scheduling.store(rt.granted.code(), Ordering::Relaxed);
            bed.stats.rt_told.set(Told { tid: RT, outcome: rt }).expect("only once");
            bed.stats.takeover_told.set(Told { tid: TAKEOVER, outcome: takeover }).expect("only once");
            bed
        }

        fn silent() -> Self {
            let stats = Arc::new(Stats::default());
            Self { admission: Admission::new(Arc::clone(&stats), KEEPALIVE), stats }
        }

        /// Who was asked for, when the kernel answers so.
        fn asked(&mut self, answer: impl Fn(Who) -> Result<(), Errno>) -> Vec<(Who, Pid)> {
            let mut asked = Vec::new();
            self.admission.ask_by(|who, tid| {
                asked.push((who, tid));
                answer(who)
            });
            asked
        }

        fn class(&self) -> u32 {
            self.stats.scheduling()
        }
    }

    fn granted(_: Who) -> Result<(), Errno> {
        Ok(())
    }

    fn busy(_: Who) -> Result<(), Errno> {
        Err(Errno::EBUSY)
    }

    #[test]
    fn what_is_refused_for_want_of_bandwidth_is_asked_for_until_it_is_granted() {
        let mut bed = Bed::new(BUSY, NOT_ASKED);
        for _ in 0..3 {
            assert_eq!(bed.asked(busy), [(Who::Rt, RT)], "the takeover thread does not go first");
            assert_eq!(bed.class(), Granted::Fifo.code());
        }
        assert_eq!(bed.asked(granted), [(Who::Rt, RT), (Who::Takeover, TAKEOVER)]);
        assert_eq!(bed.class(), Granted::Deadline.code());
        assert!(bed.asked(granted).is_empty(), "both have it");
    }

    #[test]
    fn without_any_realtime_class_it_is_asked_for_too() {
        let plain = Outcome { granted: Granted::Plain, ..BUSY };
        let mut bed = Bed::new(plain, NOT_ASKED);
        assert_eq!(bed.asked(granted), [(Who::Rt, RT), (Who::Takeover, TAKEOVER)]);
        assert_eq!(bed.class(), Granted::Deadline.code());
    }

    #[test]
    fn the_takeover_thread_follows_when_there_is_enough_for_it() {
        let mut bed = Bed::new(BUSY, NOT_ASKED);
        let for_one = |who: Who| if who == Who::Rt { Ok(()) } else { Err(Errno::EBUSY) };
        assert_eq!(bed.asked(for_one), [(Who::Rt, RT), (Who::Takeover, TAKEOVER)]);
        assert_eq!(bed.class(), Granted::Deadline.code());
        assert_eq!(bed.asked(busy), [(Who::Takeover, TAKEOVER)]);
        assert_eq!(bed.asked(granted), [(Who::Takeover, TAKEOVER)]);
        assert!(bed.asked(granted).is_empty());

        let mut began_with_it = Bed::new(HAS, BUSY);
        assert_eq!(began_with_it.asked(granted), [(Who::Takeover, TAKEOVER)]);
    }

    #[test]
    fn what_is_not_wanted_or_not_permitted_is_not_asked_for() {
        // In this order: configured or pinned otherwise; not permitted; both have it; only the rt thread may have it.
        for (rt, takeover) in [(NOT_ASKED, NOT_ASKED), (DENIED, NOT_ASKED), (HAS, HAS), (HAS, DENIED)] {
            let mut bed = Bed::new(rt, takeover);
            assert!(bed.asked(granted).is_empty(), "{rt:?} {takeover:?}");
            assert_eq!(bed.class(), rt.granted.code());
        }
    }

    #[test]
    fn another_refusal_is_the_last() {
        for errno in [Errno::EPERM, Errno::EINVAL, Errno::ESRCH] {
            let mut bed = Bed::new(BUSY, NOT_ASKED);
            assert_eq!(bed.asked(|_| Err(errno)), [(Who::Rt, RT)]);
            assert!(bed.asked(granted).is_empty(), "after {errno}");
            assert_eq!(bed.class(), Granted::Fifo.code());
        }
    }

    #[test]
    fn nobody_is_asked_for_who_has_not_begun() {
        let mut bed = Bed::silent();
        assert!(bed.asked(granted).is_empty());
        bed.stats.takeover_told.set(Told { tid: TAKEOVER, outcome: NOT_ASKED }).expect("only once");
        assert!(bed.asked(granted).is_empty());
        bed.stats.rt_told.set(Told { tid: RT, outcome: BUSY }).expect("only once");
        assert_eq!(bed.asked(granted), [(Who::Rt, RT), (Who::Takeover, TAKEOVER)]);
    }

    /// The whole way, with threads and the kernel of this machine.
    #[test]
    fn running_threads_are_moved_by_their_ids() {
        let stats = Arc::new(Stats::default());
        let before = class();
        let (end, ended) = mpsc::channel::<()>();
        let rt = {
            let stats = Arc::clone(&stats);
            thread::spawn(move || {
                stats.rt_told.set(Told::own(BUSY)).expect("only once");
                // Until the other end is dropped.
                let _ = ended.recv();
                class()
            })
        };
        let (end_too, ended) = mpsc::channel::<()>();
        let takeover = {
            let stats = Arc::clone(&stats);
            thread::spawn(move || {
                stats.takeover_told.set(Told::own(NOT_ASKED)).expect("only once");
                let _ = ended.recv();
                class()
            })
        };
        stats.rt_told.wait();
        stats.takeover_told.wait();
        let mut admission = Admission::new(Arc::clone(&stats), KEEPALIVE);
        admission.ask();
        let standing = (admission.rt, admission.takeover);
        drop((end, end_too));
        let classes = (rt.join().expect("no panic"), takeover.join().expect("no panic"));
        match standing {
            (super::Standing::Admitted, super::Standing::Admitted) => {
                assert_eq!(classes, (libc::SCHED_DEADLINE, libc::SCHED_DEADLINE));
                assert_eq!(stats.scheduling(), Granted::Deadline.code());
            }
            (super::Standing::Admitted, _) => {
                println!("SKIP: not enough of SCHED_DEADLINE is left for two threads");
                assert_eq!(classes, (libc::SCHED_DEADLINE, before));
            }
            _ => {
                println!("SKIP: SCHED_DEADLINE is not permitted, or others have all of it: {standing:?}");
                assert_eq!(classes, (before, before));
                assert_ne!(stats.scheduling(), Granted::Deadline.code());
            }
        }
    }

    /// The calling thread's, as sched(7) numbers them.
    fn class() -> i32 {
        // SAFETY: a system call without pointers; zero is the calling thread.
        let class = unsafe { libc::sched_getscheduler(0) };
        class & !libc::SCHED_RESET_ON_FORK
    }
}
