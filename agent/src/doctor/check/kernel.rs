//! The kernel: its age, whether it takes the agent's programs, what this process may do, and where pins are kept.

use crate::doctor::Finding;
use crate::doctor::facts::{Agent, Facts, Object};
use crate::settings::XdpSetting;

/// The oldest kernel whose verifier takes the programs.
const LEAST: (u32, u32) = (5, 10);
/// Since when classifiers are attached without a qdisc.
const TCX: (u32, u32) = (6, 6);

/// What the agent's work needs, and what it is needed for.
const CAPABILITIES: [(&str, &str); 7] = [
    ("CAP_NET_ADMIN", "adding service addresses, and attaching programs"),
    ("CAP_NET_RAW", "announcing addresses, and binding sockets to interfaces"),
    ("CAP_NET_BIND_SERVICE", "the port of the heartbeats, which is below 1024"),
    ("CAP_BPF", "loading the programs that receive heartbeats and shut addresses"),
    ("CAP_PERFMON", "loading programs that use pointers freely"),
    ("CAP_SYS_NICE", "realtime scheduling"),
    ("CAP_IPC_LOCK", "locked memory"),
];

pub(in crate::doctor) fn kernel(facts: &Facts, out: &mut Vec<Finding>) {
    let kernel = &facts.kernel;
    let release = &kernel.release;
    match kernel.version {
        None => out.push(Finding::warn(
            "kernel",
            format!("the release {release:?} is not a number"),
            "look for 5.10 or later",
        )),
        Some(version) if version < LEAST => out.push(Finding::warn(
            "kernel",
            format!("{release} does not load the agent's programs: heartbeats come through a socket, and the gate is the agent's"),
            "run 5.10 or later, so that addresses are shut when the agent is killed",
        )),
        Some(version) if version < TCX => out.push(Finding::ok(
            "kernel",
            format!("{release}: classifiers are attached to clsact, as there is no TCX before 6.6"),
        )),
        Some(_) => out.push(Finding::ok("kernel", format!("{release}: XDP links and TCX"))),
    }
    match kernel.jit {
        Some(0) => out.push(Finding::warn(
            "jit",
            "eBPF is interpreted: a heartbeat costs many times as much",
            "sysctl -w net.core.bpf_jit_enable=1",
        )),
        Some(_) => out.push(Finding::ok("jit", "eBPF is compiled")),
        None => out.push(Finding::ok(
            "jit",
            "net.core.bpf_jit_enable is not readable; kernels without it compile always",
        )),
    }
    if kernel.btf {
        out.push(Finding::ok("btf", "the kernel describes its types"));
    } else {
        out.push(Finding::warn(
            "btf",
            "there is no /sys/kernel/btf/vmlinux: the programs load, and tools show less of them",
            "use a kernel with CONFIG_DEBUG_INFO_BTF",
        ));
    }
}

pub(in crate::doctor) fn object(facts: &Facts, out: &mut Vec<Finding>) {
    let off = facts.configuration.xdp == Some(XdpSetting::Off);
    let advice_off = "nothing, if xdp = \"off\" in [runtime] is meant";
    out.push(match &facts.kernel.object {
        Object::Loaded if off => {
            Finding::warn("programs", "the kernel takes the programs, and the configuration does without them", advice_off)
        }
        Object::Loaded => {
            Finding::ok("programs", "the kernel takes the agent's programs and maps; none was attached for this")
        }
        Object::NotBuiltIn => Finding::warn(
            "programs",
            "this binary has no eBPF programs: heartbeats come through sockets, and nothing shuts an address of a killed agent",
            "build it with `cargo xtask build`",
        ),
        Object::Denied => Finding::warn(
            "programs",
            "not permitted to load eBPF programs, so this was not tried",
            "run `xbeat doctor` as root",
        ),
        Object::Refused(why) => Finding::fail(
            "programs",
            format!("the kernel refuses the agent's programs: {why}"),
            "run kernel 5.10 or later with CONFIG_BPF_SYSCALL; until then write xdp = \"off\" in [runtime]",
        ),
    });
}

pub(in crate::doctor) fn privileges(facts: &Facts, out: &mut Vec<Finding>) {
    let has = |name: &str| facts.capabilities.iter().any(|held| held == name);
    let all_powerful = has("CAP_SYS_ADMIN");
    // Before 5.8 there was only CAP_SYS_ADMIN, which still implies the two.
    let held = |name: &str| has(name) || (all_powerful && (name == "CAP_BPF" || name == "CAP_PERFMON"));
    let missing: Vec<String> = CAPABILITIES
        .iter()
        .filter(|(name, _)| !held(name))
        .map(|(name, purpose)| format!("{name} ({purpose})"))
        .collect();
    if missing.is_empty() {
        out.push(Finding::ok("privileges", "this process may do all that the agent does"));
        return;
    }
    let what = format!("this process lacks {}", missing.join(", "));
    let advice = "run `xbeat doctor` as the agent runs: as root, or in a unit with AmbientCapabilities";
    if held("CAP_NET_ADMIN") && held("CAP_NET_RAW") {
        out.push(Finding::warn("privileges", what, advice));
    } else {
        out.push(Finding::fail("privileges", what, advice));
    }
}

pub(in crate::doctor) fn bpffs(facts: &Facts, out: &mut Vec<Finding>) {
    let path = facts.bpffs.path.display();
    let running = matches!(facts.agent, Agent::Running { .. });
    out.push(if facts.bpffs.private && !facts.bpffs.mounted {
        Finding::warn(
            "bpffs",
            format!("there is no bpffs at {path}, and what this process mounts ends with it: so would the gate"),
            "mount it outside (`mount -t bpf bpf /sys/fs/bpf`), or leave out PrivateMounts and the like in the unit",
        )
    } else if facts.bpffs.mounted {
        Finding::ok("bpffs", format!("{path} is in a bpffs: gate and programs outlive the agent"))
    } else if running {
        Finding::warn(
            "bpffs",
            format!("{path} is in no bpffs, although an agent runs: its gate does not outlive it"),
            "mount it (`mount -t bpf bpf /sys/fs/bpf`), and restart the agent",
        )
    } else {
        Finding::ok("bpffs", format!("{path} is in no bpffs yet: the agent mounts one"))
    });
}
