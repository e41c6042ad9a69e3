//! The directives of ha.cf that xbeat has no equivalent of, with what to do instead; and heartbeat's own syntax of times and
//! booleans.

use std::time::Duration;

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// It is not needed: why.
    NotNeeded(&'static str),
    /// It has no equivalent: what to do.
    Instead(&'static str),
}

const LOGGING: Advice = Advice::NotNeeded(
    "the log goes to the journal (`journalctl -u xbeat`), `XBEAT_LOG=debug` makes it verbose",
);
const WIRE: Advice = Advice::NotNeeded("xbeat has one wire format, without compression and retransmission");
const STONITH: Advice = Advice::Instead(
    "xbeat has no fence devices: a lost lease shuts the address in the kernel, and a third voter (witness = true) decides; \
     see docs/safety.md",
);
const CHILDREN: Advice = Advice::Instead(
    "let systemd run it; a program that follows the cluster reads `xbeat events --follow --json`",
);
const CRM: Advice = Advice::NotNeeded("it is Pacemaker's");

/// Advice for directives that are not converted, `None` for one that heartbeat does not have.
pub(super) fn advice(directive: &str) -> Option<Advice> {
    Some(match directive {
        "logfile" | "logfacility" | "debugfile" | "debug" | "use_logd" | "conn_logd_time" | "log_badpack"
        | "syslogmsgfmt" => LOGGING,
        "msgfmt"
        | "compression"
        | "compression_threshold"
        | "traditional_compression"
        | "max_rexmit_delay" => WIRE,
        "stonith" | "stonith_host" => STONITH,
        "respawn" | "failfast" | "env" => CHILDREN,
        "apiauth" => Advice::NotNeeded("only root may use the control socket"),
        "crm_daemon_dir"
        | "crmd_spawns_pengine"
        | "record_config_changes"
        | "record_pengine_inputs"
        | "enable_config_writes" => CRM,
        "uuidfrom" => Advice::NotNeeded("a node is known by its place in the list"),
        "quorum_server" => Advice::Instead("list a third node with witness = true"),
        "memreserve" | "normalpoll" | "coredumps" | "coreroot" | "use_apphbd" => {
            Advice::NotNeeded("the unit and the agent see to it")
        }
        "rtprio" => Advice::NotNeeded("realtime priority is 60 unless [runtime] priority says otherwise"),
        "nice_failback" => Advice::Instead("it was obsolete; see auto_failback of [[group]]"),
        "hbaping" | "tipc" | "rds" => Advice::Instead("use a network or a serial line"),
        _ => return None,
    })
}

/// Reads heartbeat's time: seconds without a unit, and the units that begin with ms or us; `2s` is none.
pub(super) fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    // As atof: up to the second point.
    let whole = number.match_indices('.').nth(1).map_or(number, |(at, _)| number.get(..at).unwrap_or(number));
    let number: f64 = whole.parse().ok()?;
    let unit = unit.trim().to_ascii_lowercase();
    let seconds = if unit.is_empty() {
        number
    } else if unit.starts_with("ms") {
        number / 1e3
    } else if unit.starts_with("us") {
        number / 1e6
    } else {
        return None;
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads heartbeat's boolean.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "y" | "1" => Some(true),
        "false" | "off" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}
