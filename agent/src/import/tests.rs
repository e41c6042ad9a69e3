//! Files as people had them, converted and checked; and heartbeat's own rules of what a line means.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::directive::time;
use super::{FILL_IN, HaCf, ImportError, Line, Medium, Remarks, authkeys, toml};
use crate::config;
use crate::settings::{Cast, Settings};

/// Two nodes on two networks and a null-modem cable, as the documentation of heartbeat shows it.
const OFFICE: &str = "\
# /etc/ha.d/ha.cf of alpha
debugfile /var/log/ha-debug
logfacility\tlocal0
keepalive 500ms        # comment
deadtime 10
warntime 5
initdead 120
udpport 695
baud 38400
serial /dev/ttyS0
bcast eth1,eth2
ucast eth0 192.168.1.2
auto_failback off
watchdog /dev/watchdog
node Alpha
node beta\tgamma-is-not-here # comma and blank part values
stonith_host * baytech 10.0.0.3 mylogin mysecretpassword
ping 192.168.1.254
ping_group uplinks 192.168.1.253 192.168.1.252
deadping 8
respawn hacluster /usr/lib/heartbeat/ipfail
apiauth ipfail gid=haclient uid=hacluster
hopfudge 1
compression bz2
";
const RESOURCES: &str = "\
# the web address and the database
alpha 192.168.1.100/24/eth0 httpd
beta IPaddr2::192.168.1.101/255.255.255.0/eth0:1/192.168.1.255 \\
     Filesystem::/dev/sdb1::/data::ext3 mysql
";

fn remarks(file: &str) -> Remarks {
    Remarks::of(Path::new(file))
}

fn read(text: &str) -> (HaCf, Remarks) {
    let mut remarks = remarks("ha.cf");
    let config = HaCf::read(text, &mut remarks).unwrap();
    (config, remarks)
}

fn said(remarks: Remarks) -> String {
    remarks.into_list().iter().map(|remark| format!("{remark}\n")).collect()
}

/// The configuration of two files, and what was remarked.
fn converted(
    ha_cf: &str,
    haresources: &str,
    me: Option<&str>,
    others: &[(String, HaCf)],
) -> (String, String) {
    let (main, mut about) = read(ha_cf);
    let mut of_resources = remarks("haresources");
    let lines = Line::read_all(haresources, &mut of_resources);
    let text = toml(&main, me, others, &lines, &mut about).unwrap();
    (text, said(about) + &said(of_resources))
}

fn checked(text: &str, host: &str) -> Settings {
    config::parse("xbeat.toml", text, host)
        .unwrap_or_else(|errors| panic!("{text}\n{}", errors.render(config::Look::Plain)))
        .0
}

#[test]
fn a_whole_cluster_is_converted_and_valid() {
    let ha_cf = OFFICE.replace("node beta\tgamma-is-not-here", "node beta");
    // Beta's own file, which names alpha's address.
    let beta = read(&ha_cf.replace("192.168.1.2\n", "192.168.1.1\n")).0;
    let others = [("beta".to_owned(), beta)];
    let (text, said) = converted(&ha_cf, RESOURCES, Some("alpha"), &others);
    assert!(!text.contains(FILL_IN), "{text}");
    let settings = checked(&text, "alpha");
    assert_eq!(settings.cluster, "linux-ha");
    assert_eq!(settings.timing.keepalive, Duration::from_millis(500));
    assert_eq!(settings.timing.deadtime, Duration::from_secs(10));
    assert_eq!(settings.timing.warntime, Duration::from_secs(5));
    assert_eq!(settings.timing.initdead, Duration::from_secs(120));
    let names: Vec<String> = settings.links.iter().map(|link| settings.link_name(link.id)).collect();
    assert_eq!(names, ["bcast:eth1", "bcast:eth2", "ucast:eth0", "serial:ttyS0"]);
    let ucast = settings.links[2].network().unwrap();
    assert_eq!(ucast.port, 695);
    let addresses = ["192.168.1.1", "192.168.1.2"].map(|text| Some(text.parse().unwrap()));
    assert_eq!(ucast.cast, Cast::Unicast { addresses: addresses.to_vec() });
    assert_eq!(settings.links[3].serial().unwrap().baud, 38_400);
    let groups: Vec<(&str, usize, bool)> = settings
        .groups
        .iter()
        .map(|group| (group.name.as_str(), group.addresses.len(), group.auto_failback))
        .collect();
    assert_eq!(groups, [("alpha", 1, false), ("beta", 1, false)]);
    assert_eq!(settings.groups[1].addresses[0].prefix, 24);
    assert_eq!(settings.groups[1].addresses[0].interface, "eth0");
    assert_eq!(settings.groups[1].prefer.first().map(|node| settings.node_name(*node)), Some("beta"));
    let pings: Vec<(&str, usize)> =
        settings.pings.iter().map(|ping| (ping.name.as_str(), ping.targets.len())).collect();
    assert_eq!(pings, [("192.168.1.254", 1), ("uplinks", 2)]);
    assert_eq!(settings.pings[0].deadtime, Duration::from_secs(8));
    assert_eq!(settings.watchdog.as_deref(), Some(Path::new("/dev/watchdog")));
    for words in [
        "ha.cf:2: `debugfile` is not needed",
        "`stonith_host`",
        "has no fence devices",
        "ipfail is not needed",
        "`apiauth` is not needed",
        "`compression` is not needed",
        "`httpd` is not an address",
        "`Filesystem::/dev/sdb1::/data::ext3` is not an address: shared storage",
        "haresources:3: `mysql`",
        "tie_break = \"always\"",
    ] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    assert!(!said.contains("mysecretpassword"), "{said}");
}

#[test]
fn what_heartbeat_does_not_say_is_marked_and_refused_by_check() {
    let (text, said) = converted(
        "node a b c\nucast eth0 10.0.0.2\nucast eth0 10.0.0.3\nping gateway\n",
        "a 10.0.0.100\n",
        None,
        &[],
    );
    assert_eq!(text.matches(FILL_IN).count(), 5, "{text}");
    assert!(
        said.contains("--also NAME=FILE") && said.contains("took the interface from the route"),
        "{said}"
    );
    let errors = config::parse("xbeat.toml", &text, "a").unwrap_err().render(config::Look::Plain);
    for words in ["FILL IN: the address of a on eth0", "`interface`", "FILL IN: the address of gateway"] {
        assert!(errors.contains(words), "{words} is not in\n{errors}");
    }
}

#[test]
fn a_file_for_all_nodes_gives_out_addresses_in_order_and_says_so() {
    let (text, said) = converted(
        "node a b\nucast eth0 10.0.0.1\nucast eth0 10.0.0.2\n",
        "a 10.0.0.100/24/eth0\n",
        None,
        &[],
    );
    assert!(said.contains("in the nodes' order: check it"), "{said}");
    checked(&text, "b");
}

#[test]
fn three_nodes_decide_by_majority_and_share_their_serial_lines() {
    let ha_cf = "node a b c\nserial /dev/ttyS0 /dev/ttyS1\nmcast eth0 225.0.0.1 694 0 0\nauto_failback on\nautojoin other\n";
    let (text, _) = converted(ha_cf, "a IPv6addr::fd00::100/64/eth0\n", None, &[]);
    let settings = checked(&text, "a");
    assert_eq!(settings.links.len(), 2);
    assert_eq!(settings.links[1].serial().unwrap().devices[2].len(), 2);
    assert!(settings.groups[0].auto_failback);
    assert_eq!(settings.autojoin, crate::settings::Autojoin::Other);
}

#[test]
fn pacemaker_and_nothing_are_refused() {
    let refused = |text| HaCf::read(text, &mut remarks("ha.cf")).unwrap_err();
    for text in ["crm yes\nnode a b\n", "node a\npacemaker respawn\n"] {
        assert!(matches!(refused(text), ImportError::Pacemaker { .. }), "{text}");
    }
    assert_eq!(refused("keepalive 1\n"), ImportError::NoNode("ha.cf".to_owned()));
    read("crm off\nnode a b\n");
}

#[test]
fn lines_are_read_as_heartbeat_reads_them() {
    // A '#' ends the line even within a value, commas and blanks part values, the last value wins.
    let (config, said_of) =
        read("node a,b  c#d\nkeepalive 1 2\nudp eth3\nbcast eth0\nudpport 700\r\nfoo bar\n");
    assert_eq!(config.nodes, ["a", "b", "c"]);
    assert_eq!(config.keepalive, Duration::from_secs(2));
    assert_eq!(
        config.media,
        ["eth3", "eth0"].map(|device| Medium::Bcast { device: device.to_owned(), port: 694 })
    );
    let said_of = said(said_of);
    assert!(said_of.contains("came too late"), "{said_of}");
    assert!(said_of.contains("ha.cf:6: `foo` is no directive"), "{said_of}");
    let (config, said_of) =
        read("node a b\ndeadtime 10 s\nkeepalive 2s\ninitdead 1m\nauto_failback legacy\n");
    assert_eq!(config.deadtime, Duration::from_secs(10), "the value before the one that is wrong");
    let said_of = said(said_of);
    for words in ["`deadtime s`", "`keepalive 2s`", "`initdead 1m`", "legacy"] {
        assert!(said_of.contains(words), "{words} is not in\n{said_of}");
    }
}

#[test]
fn times_are_heartbeats() {
    let ms = |ms| Some(Duration::from_millis(ms));
    for (text, span) in [
        ("2", ms(2000)),
        ("1.5", ms(1500)),
        (".5", ms(500)),
        ("100ms", ms(100)),
        ("250MS", ms(250)),
        ("1msxyz", ms(1)),
        ("500us", Some(Duration::from_micros(500))),
        ("2.5.5", ms(2500)),
        ("2s", None),
        ("1m", None),
        ("1h", None),
        ("-1", None),
        ("abc", None),
        ("", None),
    ] {
        assert_eq!(time(text), span, "{text}");
    }
}

#[test]
fn old_keys_are_named_and_never_shown() {
    let mut about = remarks("authkeys");
    authkeys("# comment\nauth 2\n1 crc\n2 sha1 TopSecretWord\n3 md5 Another\nnonsense\n", &mut about);
    let said = said(about);
    assert!(said.contains("authkeys:4: key 2 is a word for sha1"), "{said}");
    assert!(!said.contains("TopSecretWord") && !said.contains("Another"), "{said}");
}

proptest! {
    #[test]
    fn any_text_is_converted_or_refused(ha_cf in "\\PC{0,80}", rest in "[a-z0-9 ./:\\\\\n#,]{0,200}", resources in "[a-z0-9 ./:\\\\\n#]{0,120}") {
        let text = format!("node a b\n{rest}\n{ha_cf}\n");
        let mut about = remarks("ha.cf");
        let Ok(main) = HaCf::read(&text, &mut about) else { return Ok(()) };
        let lines = Line::read_all(&resources, &mut remarks("haresources"));
        if let Ok(text) = toml(&main, Some("a"), &[], &lines, &mut about) {
            // Whatever it means, it is TOML.
            let errors = config::parse("xbeat.toml", &text, "a").map_err(|errors| errors.render(config::Look::Plain));
            if let Err(errors) = errors {
                prop_assert!(!errors.contains("correct the TOML"), "{errors}\n{text}");
            }
        }
    }
}
