//! Ping groups as they are written: defaults, bounds, and targets that would say nothing.

use std::time::Duration;

use crate::config::{ConfigErrors, Finding, Warning, parse};
use crate::settings::Settings;

const TWO: &str = include_str!("../../../configs/two-node.toml");
const GATEWAY: &str = "[[ping]]\nname = \"gateway\"\ntargets = [\"10.0.0.254\"]\n";

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn read(text: &str) -> Result<(Settings, Vec<Warning>), Vec<Finding>> {
    parse("/etc/xbeat/xbeat.toml", text, "alpha").map_err(|errors| match errors {
        ConfigErrors::Invalid(invalid) => invalid.errors,
        ConfigErrors::Unreadable { .. } => panic!("nothing was read from a file"),
    })
}

fn with(pings: &str) -> String {
    format!("{TWO}\n{pings}\n")
}

fn by_ping(pings: &str) -> String {
    with(pings).replace("\"always\"", "\"ping\"")
}

fn good(text: &str) -> Settings {
    read(text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}")).0
}

#[track_caller]
fn one_error(text: &str, words: &str) {
    let errors = read(text).expect_err(words);
    assert_eq!(errors.len(), 1, "{errors:#?}");
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
fn a_group_needs_a_name_and_targets_only() {
    let settings = good(&with(GATEWAY));
    let ping = &settings.pings[0];
    assert_eq!((ping.interval, ping.deadtime), (ms(250), ms(1000)));
    assert_eq!(ping.targets[0].to_string(), "10.0.0.254");
    assert_eq!((settings.tie_break_ping, settings.reachtime), (None, ms(5000)));
    assert!(good(TWO).pings.is_empty());
}

#[test]
fn intervals_follow_the_deadtime() {
    let settings = good(&with(&format!("{GATEWAY}deadtime = \"8s\"\n")));
    assert_eq!((settings.pings[0].interval, settings.reachtime), (ms(2000), ms(16_000)));
    let settings = good(&with(&format!("{GATEWAY}deadtime = \"60min\"\n")));
    assert_eq!(settings.pings[0].interval, ms(60_000));
    let slow = with(GATEWAY)
        .replace("[[node]]\nname = \"alpha\"", "[timing]\ndeadtime = \"1s\"\n[[node]]\nname = \"alpha\"");
    assert_eq!(good(&slow).pings[0].deadtime, ms(4000));
    one_error(&with(&format!("{GATEWAY}deadtime = \"1s\"\ninterval = \"600ms\"\n")), "half of its deadtime");
    one_warning(
        &with(&format!("{GATEWAY}deadtime = \"1s\"\ninterval = \"400ms\"\n")),
        "one lost answer only",
    );
    one_error(&with(&format!("{GATEWAY}interval = \"1ms\"\n")), "outside 10ms to 60s");
    one_error(&with(&format!("{GATEWAY}deadtime = \"10ms\"\n")), "outside 100ms to");
}

#[test]
fn reachtime_is_above_what_a_ping_takes() {
    let text = with(&format!("{GATEWAY}deadtime = \"8s\"\n"));
    let text = text
        .replace("[[node]]\nname = \"alpha\"", "[timing]\nreachtime = \"7s\"\n[[node]]\nname = \"alpha\"");
    one_warning(&text, "reachtime 7s is below the deadtime 8s");
    assert_eq!(good(&text).reachtime, ms(7000));
}

#[test]
fn targets_are_hosts_outside_of_the_cluster() {
    let target = |target: &str| with(&GATEWAY.replace("10.0.0.254", target));
    for (written, words) in [
        ("gateway", "not an IP address"),
        ("10.0.0.254/24", "without a prefix length"),
        ("0.0.0.0", "not the address of one host"),
        ("224.0.0.1", "not the address of one host"),
        ("255.255.255.255", "not the address of one host"),
        ("127.0.0.1", "always answers"),
        ("::1", "always answers"),
        ("10.0.0.1", "the address of a node"),
        ("10.0.0.100", "an address of group `web`"),
        ("fe80::1", "says nothing without its interface"),
        ("10.0.0.254%eth0", "only link-local"),
        ("fd00::1%eth0", "only link-local"),
        ("fe80::1%a-very-long-interface", "more than 15 characters"),
    ] {
        one_error(&target(written), words);
    }
    let settings = good(&target("fe80::1%eth0.7"));
    assert_eq!(settings.pings[0].targets[0].to_string(), "fe80::1%eth0.7");
    assert_eq!(good(&target("2001:db8::1")).pings[0].targets[0].to_string(), "2001:db8::1");
}

#[test]
fn lists_are_bounded_and_nothing_is_there_twice() {
    one_error(&with("[[ping]]\nname = \"a\"\n"), "lacks `targets`");
    one_error(&with("[[ping]]\nname = \"a\"\ntargets = []\n"), "is empty");
    one_error(&with("[[ping]]\ntargets = [\"10.0.0.254\"]\n"), "lacks `name`");
    one_error(&with(&GATEWAY.replace("\"10.0.0.254\"", "\"10.0.0.254\", \"10.0.0.254\"")), "twice");
    one_error(&with(&format!("{GATEWAY}{}", GATEWAY.replace("254", "253"))), "is there twice");
    let many: Vec<String> = (1..=17).map(|host| format!("\"10.0.9.{host}\"")).collect();
    one_error(&with(&format!("[[ping]]\nname = \"a\"\ntargets = [{}]\n", many.join(", "))), "at most 16");
    let groups: String =
        (0..16).map(|n| format!("[[ping]]\nname = \"p{n}\"\ntargets = [\"10.0.9.{n}\"]\n")).collect();
    one_error(&with(&groups), "at most 15");
    one_warning(&with(&format!("{GATEWAY}{}", GATEWAY.replace("gateway", "again"))), "it counts twice");
    let flood: String = (0..11)
        .map(|n| format!("[[ping]]\nname = \"p{n}\"\ntargets = [\"10.0.9.{n}\"]\ninterval = \"10ms\"\n"))
        .collect();
    one_warning(&with(&flood), "1100 requests a second");
}

#[test]
fn the_tie_break_needs_a_ping_group_and_hurries_it() {
    one_error(&by_ping(""), "needs a [[ping]]");
    let settings = good(&by_ping(GATEWAY));
    assert_eq!((settings.tie_break_ping, settings.pings[0].interval), (Some(0), ms(12) + ms(1) / 2));
    one_error(
        &by_ping(&format!("{GATEWAY}interval = \"13ms\"\n")),
        "too long for the ping group that breaks the tie",
    );
    one_warning(
        &by_ping(GATEWAY).replace(
            "[[node]]\nname = \"alpha\"",
            "[timing]\nkeepalive = \"5ms\"\n[[node]]\nname = \"alpha\"",
        ),
        "leaves room for fewer than 4",
    );

    let second = GATEWAY.replace("gateway", "uplink").replace("254", "253");
    let named = |name: &str| {
        by_ping(&format!("{GATEWAY}{second}")).replace("\"ping\"", &format!("\"ping\"\nping = \"{name}\""))
    };
    let settings = good(&named("uplink"));
    assert_eq!(settings.tie_break_ping, Some(1));
    assert_eq!((settings.pings[0].interval, settings.pings[1].interval), (ms(250), ms(12) + ms(1) / 2));
    one_error(&named("uplnk"), "did you mean `uplink`?");
    one_error(&with(GATEWAY).replace("\"always\"", "\"always\"\nping = \"gateway\""), "and none does");
}
