//! Tests of the file of the carried state, and of what a configuration may change.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use agent_common::Claim;
use agent_core::Instant;
use agent_core::config::{Carried, CarriedGroup, CarriedSent, CarriedSlew};

use super::changes::{self, Refused};
use super::{Handover, NotTaken, Shape, accept, mark, store, take, terms};
use crate::config;
use crate::settings::Settings;

const CONFIG: &str = "[cluster]\nname = \"web\"\nnode = \"alpha\"\n\
[timing]\nkeepalive = \"10ms\"\ndeadtime = \"50ms\"\nwarntime = \"25ms\"\ninitdead = \"2s\"\n\
[[node]]\nname = \"alpha\"\n[[node]]\nname = \"beta\"\n[[node]]\nname = \"gamma\"\nwitness = true\n\
[[link]]\ntype = \"bcast\"\ninterface = \"eth0\"\n[[link]]\ntype = \"bcast\"\ninterface = \"eth1\"\n\
[[group]]\nname = \"web\"\nprefer = [\"alpha\", \"beta\"]\n\
[[group.resource]]\naddress = \"10.0.0.100/24\"\ninterface = \"eth0\"\n\
[[group.resource]]\naddress = \"10.0.0.101/24\"\ninterface = \"eth0\"\n\
[[group]]\nname = \"mail\"\nprefer = [\"beta\", \"alpha\"]\n\
[[group.resource]]\naddress = \"10.0.0.102/24\"\ninterface = \"eth0\"\n\
[runtime]\nstate_dir = \"STATE\"\nxdp = \"generic\"\n";

fn parsed(text: &str) -> Settings {
    config::parse("/etc/xbeat/xbeat.toml", text, "alpha")
        .unwrap_or_else(|errors| panic!("{errors}: {text}"))
        .0
}

fn settings(state_dir: &Path) -> Settings {
    parsed(&CONFIG.replace("STATE", &state_dir.display().to_string()))
}

/// A node that holds the first group, and has last sent at 10 s.
fn state() -> Carried {
    let group = |epoch| CarriedGroup {
        vote: Claim { epoch, candidate: 0, flags: if epoch == 0 { 0 } else { Claim::HELD } },
        asked: epoch,
        seen: epoch,
        voted: 0,
        promises: Vec::new(),
        standby: false,
    };
    let at = Instant(10_000_000_000);
    Carried {
        incarnation: 7,
        seq: 1_000,
        votes_version: 3,
        number: 0,
        held_off_until: Instant::ZERO,
        maintenance: false,
        score: 0,
        slew: CarriedSlew { ppm: 0, worst_ppm: 0, worst_until: Instant::ZERO },
        tie_break: agent_core::config::CarriedTieBreak::default(),
        sent: vec![CarriedSent { seq: 1_000, at, deadtime_us: 2_000_000 }],
        groups: vec![group(512), group(0)],
        peers: Vec::new(),
    }
}

fn handover(settings: &Settings) -> Handover {
    Handover::new(settings, Some(5), 2, Instant(10_000_000_000), state())
}

#[test]
fn what_is_stored_is_taken_once_and_by_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    assert!(matches!(take(&settings, Some(5)), Err(NotTaken::Nothing)));
    let stored = handover(&settings);
    store(dir.path(), &stored).unwrap();
    let path = dir.path().join("carried");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let content = fs::read(&path).unwrap();
    assert_eq!(take(&settings, Some(5)).unwrap(), stored);
    assert!(!path.exists());

    // Copied back, and of an earlier pause than that.
    fs::write(&path, content).unwrap();
    assert!(matches!(take(&settings, Some(5)), Err(NotTaken::Stale)));
    assert!(!path.exists(), "it is gone for good");
    let mut earlier = handover(&settings);
    earlier.state.seq -= 1;
    store(dir.path(), &earlier).unwrap();
    assert!(matches!(take(&settings, Some(5)), Err(NotTaken::Stale)));
    let mut later = handover(&settings);
    later.state.seq += 1;
    store(dir.path(), &later).unwrap();
    assert!(take(&settings, Some(5)).is_ok(), "the witness");
}

#[test]
fn a_later_life_makes_it_stale() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    store(dir.path(), &handover(&settings)).unwrap();
    fs::write(dir.path().join("generation"), "8\n").unwrap();
    assert!(matches!(take(&settings, Some(5)), Err(NotTaken::Stale)));
    fs::remove_file(dir.path().join("generation")).unwrap();
    store(dir.path(), &handover(&settings)).unwrap();
    mark(dir.path(), 8);
    assert!(matches!(take(&settings, Some(5)), Err(NotTaken::Stale)), "also where no generation is stored");
}

#[test]
fn anything_that_is_not_whole_or_of_here_is_refused_and_gone() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let path = dir.path().join("carried");
    let spoil = |change: &dyn Fn(&mut Handover)| {
        let mut spoiled = handover(&settings);
        change(&mut spoiled);
        store(dir.path(), &spoiled).unwrap();
        take(&settings, Some(5)).unwrap_err()
    };
    assert!(matches!(spoil(&|it| it.format += 1), NotTaken::Format(2)));
    assert!(matches!(spoil(&|it| it.boot = "another".to_owned()), NotTaken::Boot));
    assert!(matches!(spoil(&|it| it.layout = Some(6)), NotTaken::Maps));
    assert!(matches!(spoil(&|it| it.shape.cluster = "mail".to_owned()), NotTaken::Changed(_)));
    store(dir.path(), &handover(&settings)).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    for length in [0, 1, 64, 65, 66, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(take(&settings, Some(5)), Err(NotTaken::Damaged(_))), "{length} bytes");
        assert!(!path.exists());
    }
    fs::write(&path, whole.replace("\"seq\":1000", "\"seq\":1001")).unwrap();
    assert!(matches!(take(&settings, Some(5)), Err(NotTaken::Damaged(_))));
    fs::write(&path, [0xff; 100]).unwrap();
    assert!(matches!(take(&settings, Some(5)), Err(NotTaken::Damaged(_))));
    fs::write(&path, &whole).unwrap();
    assert!(take(&settings, Some(5)).is_ok(), "the witness");
}

#[test]
fn maps_of_another_layout_are_not_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    store(dir.path(), &handover(&settings)).unwrap();
    assert!(matches!(take(&settings, None), Err(NotTaken::Maps)));
    assert!(accept(&terms(None)).is_ok());
    assert!(accept(&terms(Some(crate::gate::pins::layout()))).is_ok());
    let error = accept(&terms(Some(1))).unwrap_err().to_string();
    assert!(error.contains("standby --all"), "{error}");
    assert!(accept("0").is_err() && accept("").is_err());
}

#[test]
fn addresses_stay_while_the_peers_wait() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let handover = handover(&settings);
    let last = Instant(10_000_000_000);
    assert_eq!(handover.stays(&settings, last.after(Duration::from_millis(1_999))).groups, 0b1);
    assert_eq!(handover.stays(&settings, last.after(Duration::from_secs(2))).groups, 0, "others may serve");
    let text = CONFIG.replace("STATE", &dir.path().display().to_string());
    let fewer =
        parsed(&text.replace("[[group.resource]]\naddress = \"10.0.0.101/24\"\ninterface = \"eth0\"\n", ""));
    let gone = handover.stays(&fewer, last).gone;
    assert_eq!(gone.iter().map(|gone| gone.address.to_string()).collect::<Vec<_>>(), ["10.0.0.101"]);
}

/// What becomes of one change of the file, on a node that serves the first group.
fn refused(from: &str, to: &str) -> Vec<Refused> {
    assert!(CONFIG.contains(from), "{from}");
    let (was, now) = (parsed(CONFIG), parsed(&CONFIG.replace(from, to)));
    assert_ne!(was, now, "{from} -> {to} changes something");
    assert!(!changes::parts(&was, &now).is_empty());
    changes::refused(&Shape::of(&was), &Shape::of(&now), |group| group == 0)
}

#[test]
fn what_can_be_taken_up_is() {
    for (from, to) in [
        ("keepalive = \"10ms\"", "keepalive = \"8ms\""),
        ("deadtime = \"50ms\"", "deadtime = \"100ms\""),
        ("interface = \"eth1\"", "interface = \"eth2\""),
        ("[[link]]\ntype = \"bcast\"\ninterface = \"eth1\"\n", ""),
        (
            "[[group]]\nname = \"web\"",
            "[[link]]\ntype = \"bcast\"\ninterface = \"eth3\"\n[[group]]\nname = \"web\"",
        ),
        ("10.0.0.102/24", "10.0.0.103/24"),
        ("[runtime]", "[[group.resource]]\naddress = \"10.0.0.104\"\ninterface = \"eth0\"\n[runtime]"),
        ("[runtime]", "[[group]]\nname = \"new\"\n[runtime]"),
        ("[runtime]", "[runtime]\nrealtime = false"),
        ("[runtime]", "[metrics]\nlisten = \"127.0.0.1:9999\"\n[runtime]"),
        ("prefer = [\"alpha\", \"beta\"]", "prefer = [\"beta\", \"alpha\"]"),
        ("prefer = [\"beta\", \"alpha\"]", "prefer = [\"beta\"]"),
        (
            "[[link]]\ntype = \"bcast\"\ninterface = \"eth0\"",
            "[[node]]\nname = \"delta\"\nwitness = true\n[quorum]\npolicy = \"majority\"\nnumber = 1\n\
             change = \"+delta\"\n[[link]]\ntype = \"bcast\"\ninterface = \"eth0\"",
        ),
    ] {
        assert_eq!(refused(from, to), [], "{from} -> {to}");
    }
}

#[test]
fn what_cannot_is_refused_with_what_to_do_instead() {
    let cases: [(&str, &str, &str); 15] = [
        ("name = \"web\"\nnode", "name = \"shop\"\nnode", "stop every node"),
        ("node = \"alpha\"", "node = \"beta\"", "stop the agent"),
        ("initdead = \"2s\"", "initdead = \"3s\"", "stop every node"),
        (
            "[[node]]\nname = \"beta\"\n",
            "[[node]]\nname = \"delta\"\n[[node]]\nname = \"beta\"\n",
            "at the end",
        ),
        (
            "witness = true\n",
            "witness = true\n[[node]]\nname = \"delta\"\nwitness = true\n",
            "raise `number`",
        ),
        ("[[link]]\ntype = \"bcast\"\ninterface = \"eth0\"\n", "", "not at the end"),
        ("[[group]]\nname = \"web\"", "[[group]]\nname = \"shop\"", "at the end"),
        ("10.0.0.100/24", "10.0.0.110/24", "xbeat standby web"),
        ("10.0.0.101/24", "10.0.0.101/25", "xbeat standby web"),
        ("prefer = [\"alpha\", \"beta\"]", "prefer = [\"beta\"]", "xbeat standby web"),
        ("xdp = \"generic\"", "xdp = \"native\"", "stop the agent"),
        ("state_dir = \"STATE\"", "state_dir = \"OTHER\"", "stop the agent"),
        ("[runtime]", "[runtime]\ngeneration = \"time\"", "stop the agent"),
        ("[runtime]", "[runtime]\nbpffs = \"/sys/fs/bpf/other\"", "stop the agent"),
        (
            "[[group]]\nname = \"mail\"\nprefer = [\"beta\", \"alpha\"]\n\
             [[group.resource]]\naddress = \"10.0.0.102/24\"\ninterface = \"eth0\"\n",
            "",
            "stop the agent",
        ),
    ];
    for (from, to, remedy) in cases {
        let reasons = changes::list(&refused(from, to).into_iter().collect::<Vec<_>>());
        let from = if from.contains("beta\"\n") { "[[node]]" } else { from };
        assert!(reasons.contains(remedy), "{from} -> {to}: {reasons}");
    }
}

#[test]
fn every_link_at_once_is_too_much_and_a_watchdog_is_not_forgotten() {
    let both = CONFIG
        .replace("interface = \"eth0\"\n[[link]]", "interface = \"eth8\"\n[[link]]")
        .replace("eth1", "eth9");
    let (was, now) = (parsed(CONFIG), parsed(&both));
    assert_eq!(changes::refused(&Shape::of(&was), &Shape::of(&now), |_| true), [Refused::Links]);
    let with = parsed(&CONFIG.replace("[runtime]", "[watchdog]\ndevice = \"/dev/watchdog\"\n[runtime]"));
    assert_eq!(changes::refused(&Shape::of(&was), &Shape::of(&with), |_| true), [], "one may come");
    let back = changes::refused(&Shape::of(&with), &Shape::of(&was), |_| true);
    assert!(matches!(back[..], [Refused::Fixed { key: "device", .. }]), "{back:?}");
}

#[test]
fn all_reasons_are_told_at_once() {
    let text =
        CONFIG.replace("initdead = \"2s\"", "initdead = \"3s\"").replace("10.0.0.100/24", "10.0.0.99/24");
    let (was, now) = (parsed(CONFIG), parsed(&text));
    assert_eq!(changes::refused(&Shape::of(&was), &Shape::of(&now), |_| true).len(), 2);
    assert_eq!(changes::refused(&Shape::of(&was), &Shape::of(&now), |_| false).len(), 1, "nothing is served");
}
