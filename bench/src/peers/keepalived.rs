//! keepalived: VRRPv3 at realtime priority. Its verdict is that it becomes master; it moves the address itself.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::daemon::{Daemon, Said};
use super::{Place, SERVICE, Setting, Software, is_program};

const PRIORITIES: [u32; 2] = [254, 253];
/// Below, it says "ignored" and falls back to a second.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

pub(super) struct Keepalived;

impl Software for Keepalived {
    fn fastest(&self) -> Setting {
        Setting::new(10, 3)
    }

    /// Master_Down_Interval of RFC 5798 section 6.1, with the count as `down_timer_adverts` has it.
    fn deadtime(&self, setting: Setting, node: usize) -> Duration {
        let priority = PRIORITIES.get(node).copied().unwrap_or(1);
        setting.deadtime() + setting.interval * (256 - priority) / 256
    }

    fn takes(&self, setting: Setting) -> bool {
        // Advertisements are timed by the hundredth of a second.
        setting.interval >= INTERVAL_MIN
            && setting.interval.as_millis().is_multiple_of(10)
            && (1..=100).contains(&setting.count)
    }

    fn start(&self, place: &Place<'_>) -> Result<Daemon> {
        let config = place.directory.join(format!("keepalived-{}.conf", place.node));
        fs::write(&config, configuration(place.node, place.setting))
            .context("cannot write keepalived's configuration")?;
        // What the one that was killed left would be taken for a running process.
        let base = config.with_extension("").display().to_string();
        let script = format!(
            "rm -f {base}.pid {base}.vrrp.pid\n\
             keepalived -n -l -D -P -f {base}.conf -p {base}.pid -r {base}.vrrp.pid &\nwait\n"
        );
        place.run(&script, Box::new(read))
    }

    /// An instance has one interface.
    fn takes_links(&self, links: usize) -> bool {
        links == 1
    }

    fn moves_address(&self) -> bool {
        true
    }

    fn is_installed(&self) -> bool {
        is_program("keepalived")
    }
}

fn read(line: &str) -> Option<Said> {
    if line.contains("Entering MASTER STATE") {
        Some(Said::Serves)
    } else if line.contains("Entering BACKUP STATE") {
        Some(Said::Yields)
    } else {
        None
    }
}

fn configuration(node: usize, setting: Setting) -> String {
    let priority = PRIORITIES.get(node).copied().unwrap_or(1);
    format!(
        "global_defs {{\n router_id n{node}\n vrrp_version 3\n vrrp_garp_master_delay 0\n vrrp_garp_master_repeat 1\n \
         vrrp_skip_check_adv_addr\n vrrp_rt_priority 50\n vrrp_no_swap\n}}\n\
         vrrp_instance VI {{\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 51\n priority {priority}\n \
         advert_int {}\n down_timer_adverts {}\n virtual_ipaddress {{\n  {SERVICE}/24 dev eth0\n }}\n}}\n",
        setting.interval.as_secs_f64(),
        setting.count,
    )
}
