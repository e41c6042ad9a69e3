//! Whether this machine's clock is true and its threads are on time.

use crate::doctor::Finding;
use crate::doctor::facts::Facts;
use crate::rt::admission::ASK_EVERY;

/// Sources that the kernel reads without a system call, and that do not stop.
const FAST: [&str; 5] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase"];
/// Rates for which leases are safe (docs/safety.md), less what a crystal may be off.
const SLEW_SAFE_PPM: u32 = 500;
/// `maxslewrate` that keeps within that.
const CHRONY_SAFE_PPM: f64 = 500.0;
/// Wake-ups later than this are felt with short deadtimes.
const IDLE_LATENCY_US: u64 = 500;
/// A memlock limit that holds the agent.
const MEMLOCK_ENOUGH: u64 = 128 << 20;

pub(in crate::doctor) fn clock(facts: &Facts, out: &mut Vec<Finding>) {
    let clock = &facts.clock;
    out.push(match clock.source.as_deref() {
        Some(source) if FAST.contains(&source) => Finding::ok("clocksource", format!("{source}: read without a system call")),
        Some(source) => Finding::warn(
            "clocksource",
            format!("{source}: every reading of the clock is slow, and may stall"),
            "see in the kernel's log why tsc was given up; on virtual machines choose the host's clock (kvm-clock, hyperv)",
        ),
        None => Finding::warn("clocksource", "the clock's source could not be read", "look at /sys/devices/system/clocksource"),
    });
    if let Some(ppm) = clock.slew_ppm {
        out.push(if ppm <= SLEW_SAFE_PPM {
            Finding::ok("slew", format!("the clock's rate is corrected by {ppm} ppm"))
        } else {
            Finding::warn(
                "slew",
                format!(
                    "the clock is slewed by {ppm} ppm now: leases have a margin of twice that while it lasts"
                ),
                "step the clock at boot instead (chrony: makestep), and write maxslewrate 400 in chrony.conf",
            )
        });
    }
    match clock.chrony {
        Some(Some(rate)) if rate <= CHRONY_SAFE_PPM => {
            out.push(Finding::ok("chrony", format!("maxslewrate {rate}: within what leases allow for")));
        }
        Some(rate) => {
            let rate = rate.map_or_else(|| "the default of 83333".to_owned(), |rate| rate.to_string());
            out.push(Finding::warn(
                "chrony",
                format!("chrony may slew the clock by {rate} ppm, and leases are safe up to 1000"),
                "write maxslewrate 400 in chrony.conf; the agent widens its margins meanwhile, which costs availability",
            ));
        }
        None => {}
    }
    match clock.synchronised {
        Some(true) => out.push(Finding::ok("time", "the clock follows a time server")),
        Some(false) => out.push(Finding::warn(
            "time",
            "the clock follows no time server: logs of the nodes cannot be compared, and epochs start from it",
            "run chrony or systemd-timesyncd",
        )),
        None => {}
    }
}

pub(in crate::doctor) fn scheduling(facts: &Facts, out: &mut Vec<Finding>) {
    let scheduling = &facts.scheduling;
    let refused = |why: &Option<String>| why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    match scheduling.granted.as_deref() {
        _ if !facts.configuration.realtime => {
            out.push(Finding::ok(
                "scheduling",
                "realtime = false: the agent's threads are as any others, and late under load",
            ));
        }
        Some("deadline") => out.push(Finding::ok("scheduling", "SCHED_DEADLINE is admitted")),
        Some(_) if scheduling.deadline_taken => out.push(Finding::warn(
            "scheduling",
            format!(
                "SCHED_DEADLINE is not admitted now{}: others hold what the kernel grants of it. The agent asks for it again \
                 every {} s; without it, it stands still for 50 ms of each second while realtime load fills the CPUs",
                refused(&scheduling.deadline_refused),
                ASK_EVERY.as_secs()
            ),
            "look who holds it: ps -eLo cls,pid,comm | grep DLN",
        )),
        Some("fifo") => {
            let why = refused(&scheduling.deadline_refused);
            out.push(Finding::ok("scheduling", format!("SCHED_FIFO is granted; SCHED_DEADLINE is not{why}")));
        }
        Some(_) => out.push(Finding::warn(
            "scheduling",
            format!(
                "no realtime scheduling{}: under load this node is late, and its leases run out",
                refused(&scheduling.fifo_refused)
            ),
            "run the agent as root, or with CAP_SYS_NICE or LimitRTPRIO=99 in the unit",
        )),
        None => {}
    }
    match (scheduling.rt_runtime_us, scheduling.rt_period_us) {
        (Some(0), _) => out.push(Finding::fail(
            "rt_runtime",
            "kernel.sched_rt_runtime_us is 0: no realtime thread ever runs",
            "sysctl -w kernel.sched_rt_runtime_us=950000",
        )),
        (Some(runtime), Some(period)) if runtime > 0 && period > 0 && runtime * 2 < period => {
            out.push(Finding::warn(
                "rt_runtime",
                format!("realtime threads together may run {runtime} of {period} us only"),
                "sysctl -w kernel.sched_rt_runtime_us=950000",
            ));
        }
        (Some(_), _) => {
            out.push(Finding::ok("rt_runtime", "realtime threads are not throttled beyond the usual"))
        }
        (None, _) => {}
    }
    if scheduling.rt_groups {
        out.push(Finding::warn(
            "rt_groups",
            "the kernel shares realtime time out by cgroup (CONFIG_RT_GROUP_SCHED): a service has none",
            "boot with rt_group_sched=0, or give the service's cgroup a cpu.rt_runtime_us",
        ));
    }
    if let Some(limit) = &scheduling.cpu_max {
        out.push(Finding::warn(
            "cpu_limit",
            format!("this cgroup has a CPU limit ({limit}): the agent may be stopped when it is used up"),
            "leave out CPUQuota for the agent",
        ));
    }
}

pub(in crate::doctor) fn memory(facts: &Facts, out: &mut Vec<Finding>) {
    if !facts.configuration.realtime {
        return;
    }
    let free = facts.capabilities.iter().any(|held| held == "CAP_IPC_LOCK");
    out.push(match facts.memory.limit {
        _ if free => Finding::ok("memlock", "memory can be locked"),
        None => Finding::ok("memlock", "memory can be locked"),
        Some(limit) if limit >= MEMLOCK_ENOUGH => {
            Finding::ok("memlock", format!("memory can be locked, up to {} MiB", limit >> 20))
        }
        Some(limit) => Finding::warn(
            "memlock",
            format!("only {} KiB of memory can be locked: a takeover may wait for the disk", limit >> 10),
            "LimitMEMLOCK=infinity in the unit, or CAP_IPC_LOCK",
        ),
    });
}

pub(in crate::doctor) fn processors(facts: &Facts, out: &mut Vec<Finding>) {
    let processors = &facts.processors;
    let saving: Vec<&str> = processors
        .governors
        .iter()
        .map(String::as_str)
        .filter(|governor| *governor == "powersave" || *governor == "conservative")
        .collect();
    if !saving.is_empty() {
        out.push(Finding::warn(
            "governor",
            format!("CPUs run slowly when there is little to do (governor {})", saving.join(", ")),
            "cpupower frequency-set -g performance, where milliseconds count; with intel_pstate, powersave is mostly harmless",
        ));
    } else if !processors.governors.is_empty() {
        out.push(Finding::ok("governor", format!("frequency governor {}", processors.governors.join(", "))));
    }
    match processors.idle_latency_us {
        Some(us) if us > IDLE_LATENCY_US => out.push(Finding::warn(
            "idle",
            format!("a CPU may take {us} us to wake from its deepest sleep"),
            "with deadtimes below 20 ms, disable that state (cpupower idle-set -D 200)",
        )),
        Some(us) => out.push(Finding::ok("idle", format!("a CPU wakes within {us} us"))),
        None => {}
    }
    if !processors.isolated.is_empty() {
        out.push(Finding::ok(
            "isolcpus",
            format!(
                "CPUs {} are isolated: `cpus` in [runtime] can name one (then with SCHED_FIFO)",
                processors.isolated
            ),
        ));
    }
}
