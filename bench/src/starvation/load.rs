//! What starves: threads of this process that never wait, and stress-ng where that knows better. Every load ends at its time by
//! itself, with this process at the latest, and when it is dropped.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result, bail};
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, setpgid};

use super::Rung;
use super::scheduling::pin;

/// Busy loops on each CPU that is loaded.
const LOOPS: usize = 4;
/// Memory that stays free for everybody else.
const SPARE_BYTES: u64 = 2 << 30;
/// Part of the rest that is taken.
const MEMORY_PART: f64 = 0.85;
/// Between two looks of a busy loop at the clock.
const SPINS: u32 = 20_000;

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    processes: Vec<Child>,
}

impl Load {
    /// Starts the load of a rung on `cpus` for `span`; files go to `scratch`.
    ///
    /// # Errors
    /// stress-ng is not installed, or a class is not permitted.
    pub fn start(rung: Rung, cpus: &[usize], span: Duration, scratch: &Path) -> Result<Self> {
        let mut load =
            Self { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new(), processes: Vec::new() };
        match rung {
            Rung::Idle => {}
            Rung::Busy => load.spin(cpus, LOOPS, None, span)?,
            Rung::Fifo10 => load.spin(cpus, 1, Some(10), span)?,
            Rung::Fifo50 => load.spin(cpus, 1, Some(50), span)?,
            Rung::Fifo80 => load.spin(cpus, 1, Some(80), span)?,
            Rung::Forks => load.stress(cpus, span, scratch, &["--fork", "4", "--vfork", "2"])?,
            Rung::Io => {
                let arguments = ["--io", "2", "--hdd", "2", "--hdd-bytes", "128M", "--iomix", "1"];
                load.stress(cpus, span, scratch, &[&arguments[..], &["--iomix-bytes", "64M"]].concat())?;
            }
            Rung::Memory => {
                let each = format!("{}M", memory_bytes()? / 2 / (1 << 20));
                load.stress(cpus, span, scratch, &["--oomable", "--vm", "2", "--vm-bytes", &each])?;
            }
            Rung::Timers => {
                let arguments = ["--timer", "2", "--timer-freq", "20000", "--timerfd", "2"];
                load.stress(cpus, span, scratch, &[&arguments[..], &["--timerfd-freq", "20000"]].concat())?;
            }
        }
        Ok(load)
    }

    /// Whether all of it still runs.
    ///
    /// # Errors
    /// A process ended before its time, or cannot be asked.
    pub fn check(&mut self) -> Result<()> {
        if self.threads.iter().any(JoinHandle::is_finished) {
            bail!("a busy loop ended before its time");
        }
        for process in &mut self.processes {
            if let Some(status) = process.try_wait()? {
                bail!("stress-ng ended before its time with {status}");
            }
        }
        Ok(())
    }

    fn spin(&mut self, cpus: &[usize], each: usize, fifo: Option<i32>, span: Duration) -> Result<()> {
        let end_ns = clock::now_ns() + clock::ns(span);
        // The first to spin would keep the others from ever getting their class.
        let ready = Arc::new(Barrier::new(cpus.len() * each));
        for cpu in cpus.iter().flat_map(|cpu| std::iter::repeat_n(*cpu, each)) {
            let (stop, ready) = (Arc::clone(&self.stop), Arc::clone(&ready));
            let work = move || {
                let is_able = pin(0, cpu).is_ok() && fifo.is_none_or(realtime::fifo);
                ready.wait();
                if !is_able {
                    return;
                }
                while !stop.load(Ordering::Relaxed) && clock::now_ns() < end_ns {
                    (0..SPINS).for_each(|_| std::hint::spin_loop());
                }
            };
            self.threads.push(thread::Builder::new().name("hog".into()).spawn(work)?);
        }
        Ok(())
    }

    fn stress(&mut self, cpus: &[usize], span: Duration, scratch: &Path, arguments: &[&str]) -> Result<()> {
        fs::create_dir_all(scratch).context("cannot make a directory for stress-ng")?;
        let mut set = CpuSet::new();
        cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
        let mut command = Command::new("stress-ng");
        command.arg("--quiet").arg("--temp-path").arg(scratch).args(arguments);
        command.args(["--timeout", &format!("{}s", span.as_secs().max(1))]).current_dir(scratch);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let prepare = move || {
            setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            set_pdeathsig(Signal::SIGKILL)?;
            sched_setaffinity(Pid::from_raw(0), &set)?;
            // Before anybody else, should memory run out.
            fs::write("/proc/self/oom_score_adj", "1000")
        };
        // SAFETY: system calls, and a file whose name and content are constant, between fork and exec.
        unsafe { command.pre_exec(prepare) };
        self.processes.push(command.spawn().context("cannot start stress-ng (is it installed?)")?);
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for process in &mut self.processes {
            // A group that has ended already needs no signal.
            let _ = killpg(Pid::from_raw(process.id().cast_signed()), Signal::SIGKILL);
            let _ = process.wait();
        }
        for thread in self.threads.drain(..) {
            // A panic has been printed already.
            let _ = thread.join();
        }
    }
}

/// Whether the loads that are no threads of this process can be had.
pub fn is_installed() -> bool {
    crate::peers::is_program("stress-ng")
}

/// All CPUs that this process may use.
///
/// # Errors
/// The kernel's.
pub fn cpus() -> Result<Vec<usize>> {
    let set = nix::sched::sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

fn memory_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("MemAvailable is not a number")?;
    let rest = (kib * 1024).saturating_sub(SPARE_BYTES);
    Ok(((rest as f64 * MEMORY_PART) as u64).max(64 << 20))
}

/// How much time the hypervisor took from all CPUs so far, in milliseconds (proc_stat(5)).
///
/// # Errors
/// `/proc/stat` cannot be read.
pub fn stolen_ms() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks = text.lines().next().and_then(|line| line.split_whitespace().nth(8));
    let ticks: f64 = ticks.context("/proc/stat has no steal")?.parse()?;
    // SAFETY: plain call, no pointers.
    let each = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks * 1e3 / each.max(1) as f64)
}
