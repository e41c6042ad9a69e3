//! The real binary: what it says of a file with mistakes, how it exits, and that a key file of its own making is used.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::path::Path;
use std::process::{Command, Output};

fn xbeat(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xbeat")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const FIVE_MISTAKES: &str = r#"[cluster]
name = "web"
node = "alpha"
keyfile = "/etc/xbeat/keys.toml"

[timing]
keepalive = "10ms"
deadtime = "20ms"

[[node]]
name = "alpha"
[[node]]
name = "beta"
[[node]]
name = "gamma"
witness = true

[[link]]
type = "ucast"
interface = "eth0"
port = 0
peers = { alpha = "10.0.0.1", beta = "10.0.0.2", gamma = "10.0.0.300" }

[[group]]
name = "web"
prefer = ["alpha", "gamma"]
"#;

const GOOD: &str = r#"[cluster]
name = "web"
node = "alpha"
key_file = "keys.toml"
[[node]]
name = "alpha"
[[node]]
name = "beta"
[[node]]
name = "gamma"
witness = true
[[link]]
type = "bcast"
interface = "eth0"
[[group]]
name = "web"
[[group.resource]]
type = "ip"
address = "10.0.0.100/24"
interface = "eth0"
[control]
socket = "xbeat.sock"
"#;

fn written(directory: &Path, content: &str) -> String {
    let file = directory.join("xbeat.toml");
    std::fs::write(&file, content).unwrap();
    file.display().to_string()
}

#[test]
fn five_mistakes_give_five_errors_with_their_lines() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), FIVE_MISTAKES);
    let output = xbeat(&["check", "--config", &file]);
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(text(&output.stdout), "");
    let errors = text(&output.stderr);
    let mut lines = errors.lines();
    for (line, words) in [
        (4, "did you mean `key_file`?"),
        (8, "write deadtime = \"30ms\" or more"),
        (21, "from 1 to 65535"),
        (22, "is not an IP address"),
        (26, "a witness, which never serves"),
    ] {
        let said = lines.next().unwrap_or_default();
        assert!(said.starts_with(&format!("{file}:{line}:")), "{said}\n{errors}");
        assert!(said.contains(": error: ") && said.contains(words), "{said}");
    }
    assert_eq!(lines.next(), Some(format!("{file}: 5 errors").as_str()));
    assert_eq!(lines.next(), None);
}

#[test]
fn a_good_file_is_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), GOOD);
    let keys = directory.path().join("keys.toml").display().to_string();
    let made = xbeat(&["keygen", "--out", &keys]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let output = xbeat(&["check", "--config", &file]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    for words in [
        "this node is alpha",
        "gamma (witness)",
        "keepalive 10ms, deadtime 50ms, warntime 25ms, initdead 2s",
        "40ms to 50ms after a node died",
        "majority: 2 of 3 votes",
        "bcast:eth0, port 694",
        "web: 10.0.0.100/24 on eth0; on alpha, then beta",
        "1 key, key 1 signs",
        ": valid\n",
    ] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
}

#[test]
fn a_key_file_that_others_can_read_is_a_mistake_and_a_missing_one_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), GOOD);
    let output = xbeat(&["check", "--config", &file]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("xbeat keygen"), "{}", text(&output.stdout));

    let keys = directory.path().join("keys.toml");
    xbeat(&["keygen", "--out", &keys.display().to_string()]);
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = xbeat(&["check", "--config", &file]);
    assert_eq!(output.status.code(), Some(6));
    assert!(text(&output.stdout).contains("chmod 600"), "{}", text(&output.stdout));
}

#[test]
fn exit_codes_tell_the_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let good = written(directory.path(), GOOD);
    let none = directory.path().join("none.toml").display().to_string();
    let socket = directory.path().join("nobody.sock").display().to_string();
    let keys = directory.path().join("k.toml").display().to_string();
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&[], 2),
        (&["frobnicate"], 2),
        (&["check", "--colour"], 2),
        (&["keygen", "--id", "0"], 2),
        (&["check", "--config", &none], 6),
        (&["run", "--config", &none], 6),
        (&["status", "--config", &none], 6),
        (&["status", "--config", &good], 3),
        (&["events", "--config", &good], 3),
        (&["status", "--socket", &socket], 3),
        (&["top", "--socket", &socket], 1),
        (&["import", &none], 1),
        (&["node", "add", "delta", "--id", "40", "--config", &good], 2),
        (&["keygen", "--out", &keys, "--id", "255"], 0),
        (&["keygen", "--out", &keys], 1),
        (&["keygen", "--out", &keys, "--add", "--id", "255"], 1),
        (&["keygen", "--out", &keys, "--add"], 0),
        (&["keygen", "--out", &good, "--add"], 6),
    ] {
        let output = xbeat(arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(code == 0 || !said.is_empty(), "{arguments:?} said nothing");
    }
}

#[test]
fn expected_false_deaths_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), GOOD);
    let said = text(&xbeat(&["check", "--config", &file]).stdout);
    assert!(said.contains("4 heartbeats lost in a row are a false death; at 1 % loss"), "{said}");
    let said = text(&xbeat(&["check", "--config", &file, "--loss", "1%"]).stdout);
    // 0.01^4 x 0.99 x 100 heartbeats a second, for one pair and for six.
    for words in
        ["bcast:eth0 alone", "0.086 a day, once in 12 days", "0.51 a day, once in 1.9 days", "leases lost"]
    {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    assert_eq!(said, text(&xbeat(&["check", "--config", &file, "--loss", "0.01"]).stdout));
    for arguments in [&["--loss", "2"][..], &["--loss", "1%", "--burst", "0"], &["--burst", "3"]] {
        let output = xbeat(&[&["check", "--config", &file][..], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    }
}

#[test]
fn heartbeats_files_become_a_configuration_that_is_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let ha_cf =
        file("ha.cf", "keepalive 500ms\ndeadtime 5\nbcast eth0\nnode alpha beta\nrespawn root /bin/x\n");
    let haresources = file("haresources", "alpha 10.0.0.100/24/eth0\n");
    let authkeys = file("authkeys", "auth 1\n1 sha1 WordOfTheKey\n");
    let out = directory.path().join("out");
    let arguments = ["import", &ha_cf, &haresources, &authkeys, "--out", &out.display().to_string()];
    let output = xbeat(&arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("ha.cf:5: `respawn` has no equivalent") && !said.contains("WordOfTheKey"),
        "{said}"
    );
    let keys = std::fs::metadata(out.join("keys.toml")).unwrap();
    assert_eq!(keys.permissions().mode() & 0o777, 0o600);
    let written = std::fs::read_to_string(out.join("xbeat.toml")).unwrap();
    let again = xbeat(&arguments);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again.stderr));
    assert_eq!(std::fs::read_to_string(out.join("xbeat.toml")).unwrap(), written);
    let pacemaker = file("crm.cf", "node a b\ncrm respawn\n");
    let output = xbeat(&["import", &pacemaker]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("Pacemaker"), "{}", text(&output.stderr));
}

#[test]
fn nodes_are_added_and_removed_without_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let state = format!("[runtime]\nstate_dir = \"{}\"\n", directory.path().join("state").display());
    let file = written(directory.path(), &format!("{GOOD}\n{state}"));
    let node = |arguments: &[&str]| {
        let output = xbeat(&[&["node"], arguments, &["--config", &file]].concat());
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    assert_eq!(node(&["add", "delta", "--id", "9"]).0, Some(0));
    let checked = text(&xbeat(&["check", "--config", &file]).stdout);
    assert!(checked.contains("delta (joined, id 9)") && checked.contains("2 of 3 votes"), "{checked}");
    for (arguments, words) in [
        (&["add", "epsilon", "--id", "9"][..], "belongs to delta"),
        (&["add", "alpha"], "listed in the configuration file"),
        (&["remove", "alpha"], "listed in the configuration file"),
        (&["remove", "omega"], "no node called omega"),
        (&["add", "epsilon", "--address", "ucast:eth9=10.0.0.9"], "only these need addresses"),
    ] {
        let (code, said) = node(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert_eq!(node(&["remove", "delta"]).0, Some(0));
    assert!(!text(&xbeat(&["check", "--config", &file]).stdout).contains("delta"));
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), GOOD);
    let mut child = Command::new(env!("CARGO_BIN_EXE_xbeat"))
        .args(["check", "--config", &file])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody reads: the pipe is closed before anything is written, or right after.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}
