//! Every check on machines that are made up: each of its outcomes, and that a sound machine has none but good ones.

use std::collections::BTreeMap;

use crate::doctor::Verdict::{self, Fail, Ok, Warn};
use crate::doctor::facts::{
    Agent, Bpffs, Clock, Configuration, Device, Facts, Firewall, Found, Kernel, KeysWrong, Memory, Networkd,
    Object, PingSocket, Processors, Program, Scheduling, Serial, Watchdog,
};
use crate::doctor::{examine, worst};
use crate::settings::XdpSetting;

/// An interface as it should be.
fn eth0() -> Device {
    let found = Found {
        up: true,
        carrier: true,
        mtu: 1500,
        driver: Some("virtio_net".to_owned()),
        rp_filter: Some(0),
        arp_ignore: Some(1),
        arp_announce: Some(2),
        networkd: Some(Networkd { file: "/n".to_owned(), keep: Some("static".to_owned()) }),
        network_manager: Some(false),
        ..Found::default()
    };
    Device {
        name: "eth0".to_owned(),
        found: Some(found),
        carries: true,
        serves: true,
        missing: Vec::new(),
        ipv6: false,
    }
}

/// A machine on which nothing is wrong, and everything is configured.
fn sound() -> Facts {
    Facts {
        configuration: Configuration {
            path: "/etc/xbeat/xbeat.toml".into(),
            node: "alpha".to_owned(),
            xdp: Some(XdpSetting::Auto),
            ports: vec![694],
            serves: true,
            realtime: true,
            ..Configuration::default()
        },
        agent: Agent::NotRunning,
        kernel: Kernel {
            release: "6.12.1".to_owned(),
            version: Some((6, 12)),
            jit: Some(1),
            btf: true,
            object: Object::Loaded,
        },
        capabilities: ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "BPF", "PERFMON", "SYS_NICE", "IPC_LOCK"]
            .map(|name| format!("CAP_{name}"))
            .to_vec(),
        bpffs: Bpffs { path: "/sys/fs/bpf/xbeat".into(), mounted: true, private: false },
        devices: vec![eth0()],
        firewall: Firewall { names_ports: true, ..Firewall::default() },
        pings: BTreeMap::from([("IPv4", PingSocket::Unprivileged), ("IPv6", PingSocket::Raw)]),
        clock: Clock {
            source: Some("tsc".to_owned()),
            slew_ppm: Some(20),
            synchronised: Some(true),
            chrony: Some(Some(400.0)),
        },
        scheduling: Scheduling {
            granted: Some("deadline".to_owned()),
            rt_runtime_us: Some(950_000),
            rt_period_us: Some(1_000_000),
            ..Scheduling::default()
        },
        memory: Memory { limit: None },
        processors: Processors {
            governors: vec!["performance".to_owned()],
            idle_latency_us: Some(100),
            isolated: "2-3".to_owned(),
        },
        keys: Some(Result::Ok(1)),
        state_dir: Some(("/var/lib/xbeat".into(), None)),
        watchdog: Some(Watchdog { device: "/dev/watchdog".into(), exists: true, ..Watchdog::default() }),
        serial: vec![Serial {
            device: "/dev/ttyS0".into(),
            exists: true,
            permitted: true,
            console: false,
            user: None,
        }],
    }
}

/// With one thing changed, exactly this check comes to this; whatever is not fine says what to do.
#[track_caller]
fn with(change: impl FnOnce(&mut Facts), check: &str, expected: Verdict, words: &str) {
    let mut facts = sound();
    change(&mut facts);
    let findings = examine(&facts);
    for finding in &findings {
        assert_eq!(finding.advice.is_some(), finding.status != Ok, "{finding:?}");
    }
    let of_check: Vec<_> = findings.iter().filter(|finding| finding.check == check).collect();
    let found = of_check.iter().find(|finding| finding.what.contains(words));
    assert_eq!(found.map(|finding| finding.status), Some(expected), "{check}: {of_check:#?}");
    let others: Vec<_> =
        findings.iter().filter(|finding| finding.check != check && finding.status != Ok).collect();
    assert!(others.is_empty(), "{others:#?}");
}

fn device(facts: &mut Facts) -> &mut Device {
    &mut facts.devices[0]
}

fn found(facts: &mut Facts) -> &mut Found {
    facts.devices[0].found.as_mut().unwrap()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn running(mode: &str, gate: &str) -> Agent {
    Agent::Running {
        version: "1".to_owned(),
        modes: BTreeMap::from([("eth0".to_owned(), mode.to_owned())]),
        gate: gate.to_owned(),
    }
}

#[test]
fn a_sound_machine_has_nothing_to_do() {
    let findings = examine(&sound());
    assert!(findings.len() > 25, "{}", findings.len());
    assert_eq!(worst(&findings), Ok, "{findings:#?}");
}

#[test]
fn a_wrong_configuration_ends_what_hangs_on_it() {
    let mut facts = sound();
    facts.configuration.errors = (0..5).map(|line| format!("f:{line}: error")).collect();
    let findings = examine(&facts);
    assert_eq!(worst(&findings), Fail);
    assert!(findings[0].what.ends_with("f:2: error; and 2 more"), "{:?}", findings[0]);
    assert!(findings.iter().all(|finding| finding.check != "interface"));
    let denied = |facts: &mut Facts| {
        (facts.configuration.denied, facts.configuration.errors) = (true, vec!["denied".to_owned()]);
    };
    with(denied, "configuration", Fail, "denied");
    with(|facts| facts.configuration.warnings = 2, "configuration", Warn, "doubts (2)");
    with(|_| (), "configuration", Ok, "this is node alpha");
}

#[test]
fn kernels() {
    with(|facts| facts.kernel.version = Some((5, 4)), "kernel", Warn, "does not load");
    with(|facts| facts.kernel.version = Some((5, 10)), "kernel", Ok, "clsact");
    with(|facts| facts.kernel.version = None, "kernel", Warn, "not a number");
    with(|facts| facts.kernel.jit = Some(0), "jit", Warn, "interpreted");
    with(|facts| facts.kernel.jit = None, "jit", Ok, "not readable");
    with(|facts| facts.kernel.btf = false, "btf", Warn, "no /sys/kernel/btf");
    with(|facts| facts.kernel.object = Object::NotBuiltIn, "programs", Warn, "no eBPF programs");
    with(|facts| facts.kernel.object = Object::Denied, "programs", Warn, "not permitted");
    with(
        |facts| facts.kernel.object = Object::Refused("E".to_owned()),
        "programs",
        Fail,
        "refuses the agent's programs: E",
    );
    with(|facts| facts.configuration.xdp = Some(XdpSetting::Off), "programs", Warn, "does without");
}

#[test]
fn privileges_and_pins() {
    let lose = |name: &'static str| move |facts: &mut Facts| facts.capabilities.retain(|held| held != name);
    with(lose("CAP_NET_ADMIN"), "privileges", Fail, "CAP_NET_ADMIN (adding");
    with(lose("CAP_SYS_NICE"), "privileges", Warn, "CAP_SYS_NICE (realtime");
    let older = |facts: &mut Facts| {
        facts.capabilities.retain(|held| held != "CAP_BPF" && held != "CAP_PERFMON");
        facts.capabilities.push("CAP_SYS_ADMIN".to_owned());
    };
    with(older, "privileges", Ok, "may do all");
    with(|facts| facts.bpffs.mounted = false, "bpffs", Ok, "mounts one");
    let alone = |facts: &mut Facts| (facts.bpffs.mounted, facts.bpffs.private) = (false, true);
    with(alone, "bpffs", Warn, "ends with it");
    let late = |facts: &mut Facts| (facts.bpffs.mounted, facts.agent) = (false, running("native", "kernel"));
    with(late, "bpffs", Warn, "although an agent runs");
}

#[test]
fn agents() {
    with(|facts| facts.agent = Agent::Denied, "agent", Warn, "may not ask");
    with(|facts| facts.agent = running("native", "kernel"), "agent", Ok, "runs here");
    with(|facts| facts.agent = running("native", "userspace"), "agent", Warn, "only it shuts");
}

#[test]
fn interfaces() {
    with(|facts| device(facts).found = None, "interface", Fail, "not there");
    with(|facts| found(facts).up = false, "interface", Fail, "is down");
    with(|facts| found(facts).carrier = false, "interface", Fail, "no carrier");
    let missing = |facts: &mut Facts| device(facts).missing = vec!["10.0.0.1".parse().unwrap()];
    with(missing, "interface", Fail, "does not have 10.0.0.1");
    with(|facts| found(facts).has_master = true, "interface", Warn, "bridge or bond");
    with(|facts| found(facts).mtu = 1280, "mtu", Warn, "have 1443 bytes");
    let v6 = |facts: &mut Facts| (device(facts).ipv6, found(facts).mtu) = (true, 1450);
    with(v6, "mtu", Warn, "have 1463 bytes");
    with(|facts| found(facts).mtu = 9000, "mtu", Warn, "native XDP above");
    with(|facts| found(facts).arp_ignore = Some(0), "arp", Warn, "arp_ignore 0");
    with(|facts| found(facts).rp_filter = Some(1), "rp_filter", Warn, "rp_filter 1");
    with(|facts| device(facts).serves = false, "interface", Ok, "is up");
}

#[test]
fn attachment() {
    with(|_| (), "xdp", Ok, "native XDP is expected");
    with(|facts| found(facts).driver = text("e1000e"), "xdp", Ok, "generic XDP is expected");
    with(|facts| found(facts).driver = text("ixgbe"), "xdp", Warn, "takes the link down");
    let word = |setting| move |facts: &mut Facts| facts.configuration.xdp = Some(setting);
    with(word(XdpSetting::Generic), "xdp", Ok, "generic XDP is expected (as configured)");
    with(word(XdpSetting::Tcx), "xdp", Ok, "a classifier is expected");
    let native = |facts: &mut Facts| {
        (facts.configuration.xdp, found(facts).driver) = (Some(XdpSetting::Native), text("e1000e"));
    };
    with(native, "xdp", Ok, "a socket is expected");
    let program = |name: &'static str, ours| {
        move |facts: &mut Facts| found(facts).xdp = Some(Program { name: name.to_owned(), ours })
    };
    with(program("cilium", false), "xdp", Warn, "somebody else: cilium");
    with(program("xdp_dispatcher", false), "xdp", Warn, "libxdp's dispatcher");
    with(program("xbeat", true), "xdp", Ok, "native XDP is expected");
    with(|facts| found(facts).foreign_tcx = vec!["cil".to_owned()], "xdp", Ok, "stay where they are");
    with(|facts| facts.agent = running("tcx", "kernel"), "xdp", Ok, "receives by tcx");
    with(|facts| facts.agent = running("socket", "kernel"), "xdp", Warn, "through a socket");
}

#[test]
fn managers_and_filters() {
    let keep = |keep: Option<String>| {
        move |facts: &mut Facts| {
            found(facts).networkd = Some(Networkd { file: "/run/x.network".to_owned(), keep });
        }
    };
    with(keep(None), "networkd", Warn, "/run/x.network");
    with(keep(text("dhcp")), "networkd", Warn, "may delete");
    with(keep(text("yes")), "networkd", Ok, "keeps addresses");
    with(|facts| found(facts).network_manager = Some(true), "networkmanager", Warn, "manages it");
    with(|_| (), "networkmanager", Ok, "leaves it alone");
    let filter = |names_ports| {
        move |facts: &mut Facts| {
            facts.firewall = Firewall { filters: vec!["nft table f".to_owned()], names_ports, unknown: None };
        }
    };
    with(filter(false), "firewall", Warn, "no rule names UDP 694");
    with(filter(true), "firewall", Ok, "UDP 694 is named");
    with(|_| (), "firewall", Ok, "no rule drops");
    with(|facts| facts.firewall.unknown = text("no nft"), "firewall", Ok, "not read: no nft");
    let refused = |facts: &mut Facts| {
        facts.pings.insert("IPv4", PingSocket::Refused("EPERM".to_owned()));
    };
    with(refused, "ping", Fail, "IPv4 targets cannot be asked: EPERM");
    with(|_| (), "ping", Ok, "without privilege");
    with(|_| (), "ping", Ok, "a raw socket");
}

#[test]
fn clocks() {
    with(|facts| facts.clock.source = text("hpet"), "clocksource", Warn, "hpet");
    with(|facts| facts.clock.source = None, "clocksource", Warn, "could not be read");
    with(|facts| facts.clock.slew_ppm = Some(83_300), "slew", Warn, "83300 ppm");
    with(|facts| facts.clock.chrony = Some(None), "chrony", Warn, "default of 83333");
    with(|facts| facts.clock.chrony = Some(Some(1000.0)), "chrony", Warn, "by 1000 ppm");
    with(|_| (), "chrony", Ok, "maxslewrate 400");
    with(|facts| facts.clock.synchronised = Some(false), "time", Warn, "no time server");
}

#[test]
fn threads_and_memory() {
    let granted = |word: &'static str| move |facts: &mut Facts| facts.scheduling.granted = text(word);
    with(granted("fifo"), "scheduling", Ok, "SCHED_FIFO is granted");
    with(granted("plain"), "scheduling", Warn, "no realtime scheduling");
    let taken = |word: &'static str| {
        move |facts: &mut Facts| {
            facts.scheduling.granted = text(word);
            facts.scheduling.deadline_taken = true;
        }
    };
    with(taken("fifo"), "scheduling", Warn, "asks for it again every 10 s");
    with(taken("plain"), "scheduling", Warn, "asks for it again every 10 s");
    with(|facts| facts.configuration.realtime = false, "scheduling", Ok, "realtime = false");
    with(|facts| facts.scheduling.rt_runtime_us = Some(0), "rt_runtime", Fail, "is 0");
    with(|facts| facts.scheduling.rt_runtime_us = Some(100_000), "rt_runtime", Warn, "100000 of 1000000");
    with(|facts| facts.scheduling.rt_runtime_us = Some(-1), "rt_runtime", Ok, "not throttled");
    with(|facts| facts.scheduling.rt_groups = true, "rt_groups", Warn, "CONFIG_RT_GROUP_SCHED");
    with(|facts| facts.scheduling.cpu_max = text("50000 100000"), "cpu_limit", Warn, "50000 100000");
    let limit = |bytes: u64| {
        move |facts: &mut Facts| {
            facts.memory.limit = Some(bytes);
            facts.capabilities.retain(|held| held != "CAP_IPC_LOCK");
            facts.capabilities.push("CAP_IPC_LOCK".to_owned());
        }
    };
    with(limit(8 << 20), "memlock", Ok, "can be locked");
    let mut facts = sound();
    facts.capabilities.clear();
    for (bytes, expected) in [(Some(8 << 20), Warn), (Some(256 << 20), Ok), (None, Ok)] {
        facts.memory.limit = bytes;
        let findings = examine(&facts);
        let memlock = findings.iter().find(|finding| finding.check == "memlock").unwrap();
        assert_eq!(memlock.status, expected, "{memlock:?}");
    }
}

#[test]
fn processors() {
    with(|facts| facts.processors.governors = vec!["powersave".to_owned()], "governor", Warn, "powersave");
    with(|_| (), "governor", Ok, "performance");
    with(|facts| facts.processors.idle_latency_us = Some(1_200), "idle", Warn, "1200 us");
    with(|_| (), "idle", Ok, "within 100 us");
    with(|_| (), "isolcpus", Ok, "2-3");
}

#[test]
fn files_and_devices() {
    with(|facts| facts.keys = Some(Err(KeysWrong::Denied("no".to_owned()))), "keys", Warn, "no");
    with(|facts| facts.keys = Some(Err(KeysWrong::Unusable("0644".to_owned()))), "keys", Fail, "0644");
    with(|facts| facts.keys = Some(Result::Ok(2)), "keys", Ok, "2 keys");
    with(|facts| facts.state_dir = Some(("/s".into(), text("read-only"))), "state_dir", Fail, "read-only");
    with(|_| (), "state_dir", Ok, "can be written");

    fn watchdog(facts: &mut Facts) -> &mut Watchdog {
        facts.watchdog.as_mut().unwrap()
    }
    with(|facts| watchdog(facts).exists = false, "watchdog", Fail, "not there");
    with(|facts| watchdog(facts).systemd = text("30"), "watchdog", Fail, "RuntimeWatchdogSec=30");
    with(|facts| watchdog(facts).active = true, "watchdog", Fail, "in use");
    with(|facts| watchdog(facts).nowayout = true, "watchdog", Warn, "nowayout");
    let own = |facts: &mut Facts| {
        watchdog(facts).active = true;
        facts.agent = running("native", "kernel");
    };
    with(own, "watchdog", Ok, "is there");

    with(|facts| facts.serial[0].exists = false, "serial", Fail, "not there");
    with(|facts| facts.serial[0].console = true, "serial", Fail, "console");
    with(|facts| facts.serial[0].user = text("agetty"), "serial", Fail, "agetty uses");
    with(|facts| facts.serial[0].permitted = false, "serial", Warn, "may not be read");
    with(|_| (), "serial", Ok, "nobody else");
}
