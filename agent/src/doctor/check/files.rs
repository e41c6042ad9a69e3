//! The agent's own files and devices: configuration, keys, state, watchdog, serial lines; and an agent that runs already.

use crate::doctor::Finding;
use crate::doctor::facts::{Agent, Facts, KeysWrong};

/// Error lines of the configuration that are shown; `xbeat check` has them all.
const ERRORS_SHOWN: usize = 3;

pub(in crate::doctor) fn configuration(facts: &Facts, out: &mut Vec<Finding>) {
    let configuration = &facts.configuration;
    let path = configuration.path.display();
    let advice = format!("xbeat check --config {path}");
    out.push(if configuration.denied {
        Finding::fail("configuration", configuration.errors.join("; "), "run `xbeat doctor` as root")
    } else if !configuration.errors.is_empty() {
        let shown: Vec<&str> = configuration.errors.iter().take(ERRORS_SHOWN).map(String::as_str).collect();
        let more = configuration.errors.len().saturating_sub(ERRORS_SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Finding::fail("configuration", format!("{}{more}", shown.join("; ")), advice)
    } else if configuration.warnings > 0 {
        let what = format!(
            "{path} is valid for node {}, with doubts ({})",
            configuration.node, configuration.warnings
        );
        Finding::warn("configuration", what, advice)
    } else {
        Finding::ok("configuration", format!("{path} is valid; this is node {}", configuration.node))
    });
}

pub(in crate::doctor) fn agent(facts: &Facts, out: &mut Vec<Finding>) {
    out.push(match &facts.agent {
        Agent::NotRunning => Finding::ok("agent", "no agent runs here"),
        Agent::Denied => {
            Finding::warn("agent", "an agent runs here, and this user may not ask it", "run `xbeat doctor` as root")
        }
        Agent::Running { version, gate, .. } if gate != "kernel" && facts.configuration.serves => Finding::warn(
            "agent",
            format!("an agent (version {version}) runs here, and only it shuts addresses: one that is killed keeps them"),
            "see what is said of bpffs, programs and interfaces here, and restart it",
        ),
        Agent::Running { version, .. } => {
            Finding::ok("agent", format!("an agent (version {version}) runs here; a second one needs its own socket, state_dir and bpffs"))
        }
    });
}

pub(in crate::doctor) fn keys(facts: &Facts, out: &mut Vec<Finding>) {
    out.push(match &facts.keys {
        None => return,
        Some(Ok(1)) => Finding::ok("keys", "one key, in a file that nobody else can read"),
        Some(Ok(count)) => Finding::ok("keys", format!("{count} keys, in a file that nobody else can read")),
        Some(Err(KeysWrong::Denied(why))) => Finding::warn("keys", why.clone(), "run `xbeat doctor` as root"),
        Some(Err(KeysWrong::Unusable(why))) => Finding::fail(
            "keys",
            why.clone(),
            "make one with `xbeat keygen`, and copy it to all nodes with mode 0600",
        ),
    });
}

pub(in crate::doctor) fn state(facts: &Facts, out: &mut Vec<Finding>) {
    let Some((path, wrong)) = &facts.state_dir else { return };
    let path = path.display();
    out.push(match wrong {
        None => Finding::ok("state_dir", format!("{path} can be written")),
        Some(why) => Finding::fail(
            "state_dir",
            format!("{path} cannot be written: {why}"),
            "make it, writable for the agent (StateDirectory=xbeat in the unit), or write generation = \"time\" in [runtime]",
        ),
    });
}

pub(in crate::doctor) fn watchdog(facts: &Facts, out: &mut Vec<Finding>) {
    let Some(watchdog) = &facts.watchdog else { return };
    let device = watchdog.device.display();
    let running = matches!(facts.agent, Agent::Running { .. });
    if !watchdog.exists {
        out.push(Finding::fail(
            "watchdog",
            format!("{device} is not there"),
            "load the driver of the board, or softdog (`modprobe softdog`); or leave out [watchdog]",
        ));
        return;
    }
    let name = watchdog.identity.as_deref().unwrap_or("unknown");
    if let Some(value) = watchdog.systemd.as_deref() {
        out.push(Finding::fail(
            "watchdog",
            format!(
                "systemd pets a watchdog itself (RuntimeWatchdogSec={value}), and a device has one owner"
            ),
            "write RuntimeWatchdogSec=off in system.conf, or give the agent another device",
        ));
    } else if watchdog.active && !running {
        out.push(Finding::fail(
            "watchdog",
            format!("{device} ({name}) is in use already"),
            "end who has it (fuser shows that), or give the agent another device",
        ));
    } else if watchdog.nowayout {
        out.push(Finding::warn(
            "watchdog",
            format!("{device} ({name}) cannot be stopped once it runs (nowayout): stopping the agent resets this machine"),
            "load its module without nowayout, or never stop the agent but by `xbeat restart`",
        ));
    } else {
        out.push(Finding::ok("watchdog", format!("{device} ({name}) is there")));
    }
}

pub(in crate::doctor) fn serial(facts: &Facts, out: &mut Vec<Finding>) {
    for line in &facts.serial {
        let device = line.device.display();
        out.push(if !line.exists {
            Finding::fail(
                "serial",
                format!("{device} is not there, or no character device"),
                "correct the link's device; USB adapters have lasting names in /dev/serial/by-id",
            )
        } else if line.console {
            Finding::fail(
                "serial",
                format!("the kernel's console is on {device}: its messages would be between the heartbeats"),
                "remove console= of that device from the kernel's command line, or use another line",
            )
        } else if let Some(user) = &line.user {
            Finding::fail(
                "serial",
                format!("{user} uses {device}"),
                "systemctl mask --now serial-getty@ of that device, or use another line",
            )
        } else if line.permitted {
            Finding::ok("serial", format!("{device} is there, and nobody else uses it"))
        } else {
            Finding::warn(
                "serial",
                format!("{device} may not be read and written by this user"),
                "run `xbeat doctor` as the agent runs, or add its user to the group of the device (dialout)",
            )
        });
    }
}
