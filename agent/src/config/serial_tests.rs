//! Serial links of the file: what they mean, how slow they are, and every mistake.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{ConfigErrors, Finding, Warning, parse};
use crate::settings::{SerialLink, Settings};

/// Two nodes with a network and the serial link of `keys`.
fn two(keys: &str) -> String {
    format!(
        "[cluster]\nname = \"web\"\n[timing]\nkeepalive = \"100ms\"\ndeadtime = \"2s\"\n\
         [[node]]\nname = \"alpha\"\n[[node]]\nname = \"beta\"\n\
         [quorum]\npolicy = \"two-node\"\ntie_break = \"always\"\n\
         [[link]]\ntype = \"ucast\"\ninterface = \"eth0\"\npeers = {{ alpha = \"10.0.0.1\", beta = \"10.0.0.2\" }}\n\
         [[link]]\ntype = \"serial\"\n{keys}\n[[group]]\nname = \"web\"\n"
    )
}

/// The same with three nodes.
fn three(keys: &str) -> String {
    two(keys)
        .replace("[quorum]\npolicy = \"two-node\"\ntie_break = \"always\"\n", "[[node]]\nname = \"gamma\"\n")
        .replace("beta = \"10.0.0.2\" }", "beta = \"10.0.0.2\", gamma = \"10.0.0.3\" }")
}

fn read(text: &str) -> Result<(Settings, Vec<Warning>), Vec<Finding>> {
    parse("/etc/xbeat/xbeat.toml", text, "alpha").map_err(|errors| match errors {
        ConfigErrors::Invalid(invalid) => invalid.errors,
        ConfigErrors::Unreadable { .. } => panic!("nothing was read from a file"),
    })
}

#[track_caller]
fn good(text: &str) -> Settings {
    let (settings, warnings) = read(text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    let doubtful = warnings.iter().filter(|warning| warning.message.contains("this link"));
    assert_eq!(doubtful.count(), 0, "{warnings:#?}");
    settings
}

fn serial(settings: &Settings) -> &SerialLink {
    settings.links[1].serial().unwrap()
}

#[track_caller]
fn one_error(text: &str, at: &str, words: &str) {
    let errors = read(text).expect_err(words);
    let line = text.lines().position(|line| line.contains(at)).unwrap() + 1;
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0].line, line, "{errors:#?}");
    let said = format!("{} | {}", errors[0].message, errors[0].help);
    assert!(said.contains(words), "{said}");
}

fn paths(devices: &[&str]) -> Vec<PathBuf> {
    devices.iter().map(PathBuf::from).collect()
}

#[test]
fn one_device_for_all_with_the_defaults() {
    let settings = good(&two("device = \"/dev/ttyS0\""));
    let link = serial(&settings);
    assert_eq!(link.devices, [paths(&["/dev/ttyS0"]), paths(&["/dev/ttyS0"])]);
    assert_eq!((link.baud, link.rtscts, link.hopfudge), (19_200, false, 1));
    assert_eq!(settings.link_name(settings.links[1].id), "serial:ttyS0");
}

#[test]
fn devices_by_node() {
    let settings = good(&three(
        "devices = { alpha = \"/dev/ttyS0\", beta = [\"/dev/ttyS0\", \"/dev/ttyUSB0\"], gamma = \"/dev/ttyS1\" }\n\
         baud = 115200\nrtscts = true\nhopfudge = 3",
    ));
    let link = serial(&settings);
    let beta = paths(&["/dev/ttyS0", "/dev/ttyUSB0"]);
    assert_eq!(link.devices, [paths(&["/dev/ttyS0"]), beta, paths(&["/dev/ttyS1"])]);
    assert_eq!((link.baud, link.rtscts, link.hopfudge), (115_200, true, 3));

    let text = three("devices = { alpha = \"/dev/ttyS0\", beta = \"/dev/ttyS0\", gamma = \"none\" }");
    let settings = good(&text);
    assert_eq!(serial(&settings).devices[2], paths(&[]));
    assert!(!settings.links[1].reaches(agent_common::NodeId::new(2).unwrap()));
}

#[test]
fn the_interval_is_what_the_line_carries() {
    let every = |text: &str| good(text).links[1].keepalive;
    // 119 bytes and the tag, hops, stuffing and zeroes: 139 bytes of ten bits, a quarter more.
    let ms = |baud: f64, bytes: f64, origins: f64| (bytes * 10.0 * origins * 1.25 / baud * 1e3).ceil();
    let two_nodes = |baud: u32| every(&two(&format!("device = \"/dev/ttyS0\"\nbaud = {baud}")));
    for baud in [9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800] {
        let carried = Duration::from_millis(ms(f64::from(baud), 139.0, 1.0) as u64);
        assert_eq!(two_nodes(baud), carried.max(Duration::from_millis(100)), "{baud}");
    }
    // Three nodes: the next size of a body, and two nodes' heartbeats in each direction of a line.
    let ring = every(&three("device = [\"/dev/ttyS0\", \"/dev/ttyS1\"]"));
    assert_eq!(ring, Duration::from_millis(ms(19_200.0, 203.0, 2.0) as u64));
    // The network keeps the node's own.
    assert_eq!(good(&two("device = \"/dev/ttyS0\"")).links[0].keepalive, Duration::from_millis(100));
}

#[test]
fn a_line_too_slow_for_the_deadtime_is_told() {
    let fast = |text: String| text.replace("deadtime = \"2s\"", "deadtime = \"250ms\"");
    let text = fast(two("device = \"/dev/ttyS0\"\nbaud = 9600"));
    let (_, warnings) = read(&text).unwrap();
    let slow: Vec<_> =
        warnings.iter().filter(|warning| warning.message.contains("it alone cannot")).collect();
    assert_eq!(slow.len(), 1, "{warnings:#?}");
    assert!(slow[0].help.contains("deadtime = \"543ms\""), "{}", slow[0].help);

    // Without a network it would be a death at every lost heartbeat.
    let network = "[[link]]\ntype = \"ucast\"\ninterface = \"eth0\"\npeers = { alpha = \"10.0.0.1\", beta = \"10.0.0.2\" }\n";
    one_error(&text.replace(network, ""), "[[link]]", "one lost heartbeat would be a death");
    good(&two("device = \"/dev/ttyS0\"").replace(network, ""));
}

#[test]
fn every_mistake_is_told_apart() {
    for (keys, at, words) in [
        ("", "type = \"serial\"", "lacks `device`"),
        ("device = \"ttyS0\"", "device", "not the absolute path"),
        ("device = 4", "device", "a list of texts"),
        ("device = [\"/dev/ttyS0\", \"/dev/ttyS0\"]", "device", "is there twice"),
        ("device = \"none\"", "device", "joins nobody"),
        ("device = \"/dev/ttyS0\"\ndevices = { alpha = \"none\", beta = \"none\" }", "devices", "not both"),
        ("devices = { alpha = \"/dev/ttyS0\" }", "devices", "lacks node `beta`"),
        ("devices = { alpha = \"/dev/ttyS0\", beta = \"none\" }", "devices", "joins nobody"),
        ("devices = { alpha = \"/dev/ttyS0\", bete = \"/dev/ttyS0\" }", "devices", "did you mean `beta`"),
        ("device = \"/dev/ttyS0\"\nbaud = 14400", "baud", "write one of 9600, 19200"),
        ("device = \"/dev/ttyS0\"\nrtscts = 1", "rtscts", "true or false"),
        ("device = \"/dev/ttyS0\"\nhopfudge = 256", "hopfudge", "from 0 to 255"),
        ("device = \"/dev/ttyS0\"\nport = 694", "port = 694", "a link of type \"serial\" has no `port`"),
        (
            "device = \"/dev/ttyS0\"\n[[link]]\ntype = \"serial\"\ndevice = \"/dev/ttyS0\" # again",
            "again",
            "both use /dev/ttyS0",
        ),
    ] {
        let text = two(keys);
        let errors = read(&text).expect_err(words);
        assert_eq!(errors.len(), 1, "{keys}: {errors:#?}");
        let said = format!("{} | {}", errors[0].message, errors[0].help);
        assert!(said.contains(words), "{keys}: {said}");
        // The header stands for what is not there, and for a link as a whole.
        let line = text.lines().position(|line| line.contains(at)).unwrap() + 1;
        assert!(errors[0].line.abs_diff(line) <= 2, "{keys}: {errors:#?}");
    }
    one_error(&three("device = \"/dev/ttyS0\""), "device = \"/dev/ttyS0\"", "a chain of 3 takes 4");
    let many: Vec<String> = (0..17).map(|line| format!("\"/dev/ttyS{line}\"")).collect();
    one_error(&two(&format!("device = [{}]", many.join(", "))), "device", "at most 16");
}
