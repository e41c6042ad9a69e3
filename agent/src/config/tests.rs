//! Every mistake that is told apart: its line, its words, and that nothing else is said.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent_common::NodeId;
use agent_core::config::{Policy, TieBreak};
use proptest::prelude::*;

use super::*;
use crate::settings::{Cast, Generation, Scheduling, VoteChange, XdpSetting};

const TWO: &str = include_str!("../../../configs/two-node.toml");

fn read(text: &str) -> Result<(Settings, Vec<Warning>), Vec<Finding>> {
    parse("/etc/xbeat/xbeat.toml", text, "alpha").map_err(|errors| match errors {
        ConfigErrors::Invalid(invalid) => invalid.errors,
        ConfigErrors::Unreadable { .. } => panic!("nothing was read from a file"),
    })
}

fn good(text: &str) -> Settings {
    read(text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}")).0
}

fn node(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

/// The two-node example with one replacement, which must hit.
fn with(from: &str, to: &str) -> String {
    assert!(TWO.contains(from), "the example has no {from}");
    TWO.replacen(from, to, 1)
}

fn appended(text: &str) -> String {
    format!("{TWO}\n{text}\n")
}

/// Exactly one error, on the line of the first `at` of the text, with the words.
#[track_caller]
fn one_error(text: &str, at: &str, words: &str) {
    let errors = read(text).expect_err(words);
    let line = text.lines().position(|line| line.contains(at)).unwrap() + 1;
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0].line, line, "{errors:#?}");
    let said = format!("{} | {}", errors[0].message, errors[0].help);
    assert!(said.contains(words), "{said}");
}

#[track_caller]
fn one_warning(text: &str, words: &str) {
    let (_, warnings) = read(text).unwrap();
    let found = warnings.iter().filter(|warning| warning.message.contains(words)).count();
    assert_eq!(found, 1, "{words}: {warnings:#?}");
}

#[test]
fn the_smallest_file_means_what_it_says() {
    assert!(TWO.lines().count() <= 30);
    let settings = good(TWO);
    assert_eq!(settings.cluster, "web");
    assert_eq!(settings.cluster_id, cluster_id("web"));
    assert_eq!(settings.me, node(0));
    assert_eq!(settings.timing.keepalive, Duration::from_millis(10));
    assert_eq!(settings.timing.deadtime, Duration::from_millis(50));
    assert_eq!(settings.timing.warntime, Duration::from_millis(25));
    assert_eq!(settings.timing.initdead, Duration::from_secs(2));
    assert_eq!(settings.quorum.policy, Policy::TwoNode(TieBreak::Always));
    let addresses = ["10.0.0.1", "10.0.0.2"].map(|text| Some(text.parse::<IpAddr>().unwrap()));
    assert_eq!(settings.links[0].network().unwrap().cast, Cast::Unicast { addresses: addresses.to_vec() });
    assert_eq!(settings.links[0].network().unwrap().port, 694);
    assert_eq!(settings.groups[0].prefer, [node(0), node(1)]);
    assert!(!settings.groups[0].auto_failback);
    assert_eq!(settings.groups[0].addresses[0].prefix, 24);
    assert_eq!(settings.key_file, PathBuf::from("/etc/xbeat/keys.toml"));
    assert_eq!(settings.control_socket, PathBuf::from("/run/xbeat/xbeat.sock"));
    assert_eq!(settings.metrics_listen, None);
    assert!(settings.runtime.realtime);
    assert_eq!(settings.runtime.scheduling, Scheduling::Auto);
    assert_eq!(settings.runtime.priority, 60);
    assert_eq!(settings.runtime.xdp, XdpSetting::Auto);
    assert_eq!(settings.runtime.generation, Generation::File);
    assert_eq!(settings.link_name(settings.links[0].id), "ucast:eth0");
}

#[test]
fn the_cluster_id_is_of_sha_256() {
    // FIPS 180-4: the digest of "abc" begins with ba7816bf.
    assert_eq!(cluster_id("abc"), 0xba78_16bf);
}

#[test]
fn the_host_name_chooses_the_node() {
    let me = |host: &str| parse("x.toml", TWO, host).map(|(settings, _)| settings.me).ok();
    assert_eq!(me("beta"), Some(node(1)));
    assert_eq!(me("beta.example.com"), Some(node(1)));
    assert_eq!(me("gamma"), None);
    let text = with("name = \"web\"", "name = \"web\"\nnode = \"beta\"");
    assert_eq!(good(&text).me, node(1));
}

#[test]
fn every_key_is_read() {
    let text = with(
        "tie_break = \"always\"",
        "tie_break = \"ping\"\nping = \"router\"\nnumber = 3\nchange = \"-gamma\"",
    ) + "[timing]\nkeepalive = 0.02\nreachtime = \"9s\"\ndeadtime = \"100ms\"\nwarntime = \"60ms\"\ninitdead = 3\n\
           [control]\nsocket = \"other.sock\"\n[metrics]\nlisten = \"[::1]:9000\"\n\
           [runtime]\nrealtime = false\nscheduling = \"fifo\"\npriority = 70\ncpus = [1, 3]\nstate_dir = \"/s\"\n\
           bpffs = \"/b\"\nxdp = \"generic\"\ngeneration = \"time\"\nannounce_refresh = \"5s\"\n\
           [[link]]\ntype = \"mcast\"\ninterface = \"eth1\"\ngroup = \"ff05::6:94\"\nttl = 4\nport = 7000\n\
           [[link]]\ntype = \"bcast\"\ninterface = \"eth1\"\n\
           [[link]]\ntype = \"ucast\"\ninterface = \"eth0\"\npeers = { alpha = \"fe80::1\", beta = \"fe80::2\" }\n\
           [[group]]\nname = \"db\"\nauto_failback = true\n\
           [[group.resource]]\naddress = \"fd00::100\"\ninterface = \"eth1\"\n\
           [[ping]]\nname = \"router\"\ntargets = [\"10.0.0.254\"]\ninterval = \"20ms\"\ndeadtime = \"2s\"\n";
    let settings = good(&text);
    assert_eq!(settings.reachtime, Duration::from_secs(9));
    assert_eq!(settings.tie_break_ping, Some(0));
    assert_eq!(settings.pings[0].interval, Duration::from_millis(20));
    assert_eq!(settings.pings[0].deadtime, Duration::from_secs(2));
    assert_eq!(settings.timing.keepalive, Duration::from_millis(20));
    assert_eq!(settings.timing.warntime, Duration::from_millis(60));
    assert_eq!(settings.timing.initdead, Duration::from_secs(3));
    assert_eq!(settings.quorum.policy, Policy::TwoNode(TieBreak::Ping));
    assert_eq!(settings.quorum.number, 3);
    assert_eq!(settings.vote_change, Some(VoteChange::Removed("gamma".to_owned())));
    assert_eq!(settings.control_socket, PathBuf::from("/etc/xbeat/other.sock"));
    assert_eq!(settings.metrics_listen, Some("[::1]:9000".parse().unwrap()));
    assert_eq!(settings.runtime.cpus, [1, 3]);
    assert_eq!(settings.runtime.announce_refresh, Duration::from_secs(5));
    assert_eq!(settings.runtime.xdp, XdpSetting::Generic);
    assert_eq!(
        settings.links[1].network().unwrap().cast,
        Cast::Multicast { group: "ff05::6:94".parse().unwrap(), ttl: 4 }
    );
    assert_eq!(settings.links[1].network().unwrap().port, 7000);
    let names: Vec<String> = settings.links.iter().map(|link| settings.link_name(link.id)).collect();
    assert_eq!(names, ["ucast:eth0", "mcast:eth1", "bcast:eth1", "ucast:eth0#4"]);
    assert_eq!(settings.groups[1].prefer, [node(0), node(1)]);
    assert_eq!(settings.groups[1].addresses[0].prefix, 128);
    assert!(settings.groups[1].auto_failback);
}

#[test]
fn one_mistake_gives_one_error() {
    let timing = |lines: &str| appended(&format!("[timing]\n{lines}"));
    for (text, at, words) in [
        (with("name = \"web\"", "nmae = \"web\""), "nmae", "did you mean `name`?"),
        (with("[cluster]", "[clutser]"), "[clutser]", "did you mean `cluster`?"),
        (with("[[group.resource]]", "[[group.resuorce]]"), "resuorce", "did you mean `resource`?"),
        (with("tie_break = \"always\"", "tie_brake = \"always\""), "tie_brake", "did you mean `tie_break`?"),
        (
            with("name = \"web\"", "name = \"web\"\nnode = \"gamma\""),
            "node = \"gamma\"",
            "is not in the list",
        ),
        (with("name = \"web\"", "name = 7"), "name = 7", "is an integer, not a text"),
        (with("name = \"web\"", "name = \"two words\""), "two words", "has a character"),
        (timing("keepalive = \"10ms\"\ndeadtime = \"20ms\""), "deadtime = ", "not more than twice"),
        (timing("deadtime = \"15ms\""), "deadtime = ", "write deadtime = \"30ms\""),
        (timing("keepalive = 0"), "keepalive = 0", "outside 500us to 60s"),
        (timing("keepalive = \"10 parsecs\""), "parsecs", "unit"),
        (timing("keepalive = true"), "keepalive = true", "not an interval"),
        (timing("warntime = \"50ms\""), "warntime", "never warn"),
        (timing("initdead = \"40ms\""), "initdead", "below deadtime"),
        (with("\"two-node\"", "\"three-node\""), "three-node", "possible are `majority`"),
        (with("\"two-node\"", "\"majority\""), "tie_break = ", "needs no `tie_break`"),
        (with("tie_break = \"always\"", ""), "[quorum]", "lacks `tie_break`"),
        (with("tie_break = \"always\"", "tie_break = \"coin\""), "coin", "possible are"),
        (with("tie_break", "number = 1\ntie_break"), "[quorum]", "which vote came or went"),
        (with("tie_break", "change = \"+beta\"\ntie_break"), "+beta", "without `number`"),
        (with("tie_break", "number = 1\nchange = \"-beta\"\ntie_break"), "-beta", "still listed"),
        (with("tie_break", "number = 1\nchange = \"beta\"\ntie_break"), "change =", "does not begin"),
        (with("type = \"ucast\"", "type = \"ucast\"\nttl = 3"), "ttl", "has no `ttl`"),
        (with("type = \"ucast\"", "type = \"ucast\"\nport = 0"), "port", "from 1 to 65535"),
        (with("beta = \"10.0.0.2\"", "beta = \"fd00::2\""), "peers", "mixes IPv4 and IPv6"),
        (with("beta = \"10.0.0.2\"", "beta = \"10.0.0.1\""), "peers", "twice"),
        (with("beta = \"10.0.0.2\"", "beta = \"224.0.0.1\""), "peers", "not the address of one node"),
        (with("beta = \"10.0.0.2\"", "beta = \"fe80::2%eth0\""), "peers", "without '%'"),
        (with("beta = \"10.0.0.2\"", "beta = \"none\""), "[[link]]", "no [[link]] joins"),
        (with(", beta = \"10.0.0.2\"", ""), "peers", "lacks node `beta`"),
        (with(", beta =", ", beta = \"10.0.0.2\", gamma ="), "peers", "which no [[node]] has"),
        (with("[\"alpha\", \"beta\"]", "[\"alpha\", \"zeta9\"]"), "zeta9", "which no [[node]] has"),
        (with("[\"alpha\", \"beta\"]", "[\"alpha\", \"alpha\"]"), "\"alpha\"]", "`alpha` twice"),
        (with("[\"alpha\", \"beta\"]", "[]"), "prefer", "no node may own"),
        (with("10.0.0.100/24", "10.0.0.100/33"), "/33", "between 1 and 32"),
        (with("10.0.0.100/24", "10.0.0.2"), "address = ", "node's own address"),
        (with("type = \"ip\"", "type = \"filesystem\""), "filesystem", "write `ip`"),
        (
            with("interface = \"eth0\"\npeers", "interface = \"eth0/1\"\npeers"),
            "eth0/1",
            "no interface name has",
        ),
        (appended("[runtime]\nscheduling = \"deadline\"\ncpus = [1]"), "cpus", "cannot be pinned"),
        (appended("[runtime]\ncpus = [1, 1]\nscheduling = \"fifo\""), "cpus", "1 twice"),
        (appended("[runtime]\npriority = 100"), "priority", "from 1 to 99"),
        (appended("[metrics]\nlisten = \"localhost\""), "localhost", "not an address and a port"),
        (
            appended(
                "[[group]]\nname = \"web\"\n[[group.resource]]\naddress = \"10.0.0.101\"\ninterface = \"e\"",
            ),
            "name = \"web\"",
            "there twice",
        ),
        (appended("[pings]\n"), "[pings]", "no key `pings`"),
    ] {
        // Duplicates are found at the second place.
        if words == "there twice" {
            let errors = read(&text).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:#?}");
            assert!(errors[0].line > TWO.lines().count());
            continue;
        }
        one_error(&text, at, words);
    }
}

#[test]
fn links_that_cannot_be_told_apart_are_refused() {
    let link = "[[link]]\ntype = \"ucast\"\ninterface = \"eth0\"\npeers = { alpha = \"10.0.0.1\", beta = \"10.0.0.3\" }";
    let errors = read(&appended(link)).unwrap_err();
    assert!(errors[0].message.contains("same addresses and port"), "{errors:#?}");
    good(&appended(&format!("{link}\nport = 695")));
}

#[test]
fn limits_are_kept() {
    let mut nodes = String::new();
    for index in 0..33 {
        let _ = writeln!(nodes, "[[node]]\nname = \"n{index}\"");
    }
    let text = format!(
        "[cluster]\nname = \"x\"\nnode = \"n0\"\n{nodes}[[link]]\ntype = \"bcast\"\ninterface = \"e\"\n"
    );
    let errors = read(&text).unwrap_err();
    assert!(errors[0].message.contains("at most 32"), "{errors:#?}");
    let links = "[[link]]\ntype = \"bcast\"\ninterface = \"e\"\nport = 1\n".repeat(9);
    assert!(read(&appended(&links)).unwrap_err().iter().any(|error| error.message.contains("at most 8")));
    let groups = (0..64).fold(String::new(), |text, index| format!("{text}[[group]]\nname = \"g{index}\"\n"));
    assert!(read(&appended(&groups)).unwrap_err().iter().any(|error| error.message.contains("at most 64")));
}

#[test]
fn doubtful_things_are_warned_of() {
    let no_quorum = TWO.replace("policy = \"two-node\"\n", "").replace("tie_break = \"always\"", "");
    one_warning(&no_quorum, "the other cannot take over");
    one_warning(TWO, "tie_break \"always\"");
    let pings = "[[ping]]\nname = \"gateway\"\ntargets = [\"10.0.0.254\"]\n";
    one_warning(&(with("\"always\"", "\"ping\"") + pings), "tie_break \"ping\"");
    one_warning(&with("\"always\"", "\"fence\""), "tie_break \"fence\"");
    one_warning(&appended("[timing]\ndeadtime = \"25ms\""), "less than three times");
    one_warning(&appended("[timing]\nwarntime = \"10ms\""), "warns all the time");
    one_warning(&appended("[runtime]\ncpus = [1]"), "uses SCHED_FIFO");
    one_warning(&appended("[runtime]\npriority = 50"), "threaded interrupts");
    let (_, warnings) = read(TWO).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
}

#[test]
fn every_way_to_receive_is_understood() {
    for (word, setting) in [
        ("auto", XdpSetting::Auto),
        ("native", XdpSetting::Native),
        ("generic", XdpSetting::Generic),
        ("tcx", XdpSetting::Tcx),
        ("off", XdpSetting::Off),
    ] {
        assert_eq!(good(&appended(&format!("[runtime]\nxdp = \"{word}\""))).runtime.xdp, setting);
    }
}

#[test]
fn a_witness_votes_and_never_serves() {
    let three = with("name = \"beta\"\n", "name = \"beta\"\n[[node]]\nname = \"gamma\"\nwitness = true\n")
        .replace("two-node", "majority")
        .replace("tie_break = \"always\"", "")
        .replace("beta = \"10.0.0.2\"", "beta = \"10.0.0.2\", gamma = \"10.0.0.3\"");
    let (settings, warnings) = read(&three).unwrap();
    assert!(settings.nodes[2].witness);
    assert!(warnings.is_empty(), "{warnings:#?}");
    one_error(&three.replace("\"beta\"]", "\"gamma\"]"), "prefer", "a witness");
    let default = good(&three.replace("prefer = [\"alpha\", \"beta\"]\n", ""));
    assert_eq!(default.groups[0].prefer, [node(0), node(1)]);
    one_error(&three.replace("majority", "two-node"), "policy", "3 are listed");
}

#[test]
fn broken_syntax_hides_no_other_mistake() {
    let text = with("name = \"web\"", "name = \"web").replace("\"10.0.0.100/24\"", "\"10.0.0.300/24\"");
    let errors = read(&text).unwrap_err();
    let lines: Vec<usize> = errors.iter().map(|error| error.line).collect();
    assert!(lines.contains(&3) && lines.contains(&26), "{errors:#?}");
    assert!(errors.iter().all(|error| error.kind != report::Kind::Missing), "{errors:#?}");
}

#[test]
fn a_flood_of_mistakes_is_bounded() {
    let text = (0..500).fold(String::new(), |text, index| format!("{text}unknown{index} = 1\n"));
    let Err(ConfigErrors::Invalid(invalid)) = parse("x", &text, "alpha") else { panic!("accepted") };
    assert_eq!(invalid.errors.len(), FINDINGS_MAX);
    assert!(invalid.more >= 400);
}

#[test]
fn reports_name_file_line_and_remedy() {
    let errors =
        parse("web.toml", &with("type = \"ucast\"", "type = \"ucast\"\nport = 0"), "alpha").unwrap_err();
    let plain = errors.render(Look::Plain);
    assert!(plain.starts_with("web.toml:17:8: error: "), "{plain}");
    assert!(plain.ends_with("web.toml: 1 error\n"), "{plain}");
    let framed = errors.render(Look::Framed);
    assert!(
        framed.contains("web.toml:17:8") && framed.contains("port = 0") && framed.contains("help:"),
        "{framed}"
    );
    assert!(!framed.contains('\u{1b}'), "{framed}");
    assert!(errors.render(Look::Coloured).contains('\u{1b}'));
}

proptest! {
    #[test]
    fn arbitrary_text_is_no_panic(text in "\\PC{0,400}") {
        if let Err(errors) = parse("x", &text, "alpha") {
            prop_assert!(!errors.render(Look::Framed).is_empty());
        }
    }

    #[test]
    fn a_mutated_file_is_no_panic(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[\\[\\]={}\",.a-z0-9\u{e4}\n]{0,6}"), 1..6),
    ) {
        let mut text: Vec<char> = TWO.chars().collect();
        for (at, length, insert) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.chars());
            if text.is_empty() {
                break;
            }
        }
        let text: String = text.into_iter().collect();
        match parse("x", &text, "alpha") {
            Ok((settings, _)) => prop_assert!(!settings.nodes.is_empty() && !settings.links.is_empty()),
            Err(errors) => {
                prop_assert!(!errors.render(Look::Framed).is_empty());
                prop_assert!(!errors.render(Look::Plain).is_empty());
            }
        }
    }
}
