//! The screen of a status, drawn into memory: what must be readable at 80 x 24, and that nothing is too small to draw.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::Screen;
use crate::client::live::News;
use crate::ctl::status::Status;

fn status(groups: usize) -> Status {
    let group = |index: usize| {
        format!(
            r#"{{"name": "web{index}", "state": "serving", "owner": "alpha", "epoch": 7, "lease_ms": 41,
               "addresses": ["10.0.0.{index}/24"], "reason": null, "votes": ["alpha", "gamma"]}}"#
        )
    };
    let groups: Vec<String> = (0..groups).map(group).collect();
    let link = |name: &str, state: &str, loss: f64| {
        format!(r#"{{"link": "{name}", "state": "{state}", "rtt_us": 187, "loss": {loss}}}"#)
    };
    let text = format!(
        r#"{{"node": "alpha", "cluster": "office", "quorum": true, "gate": "kernel", "xdp": {{"eth0": "native"}},
        "nodes": [
          {{"name": "alpha", "state": "up", "witness": false, "incarnation": 3, "last_heard_ms": 0, "links": []}},
          {{"name": "beta", "state": "up", "witness": false, "incarnation": 7, "last_heard_ms": 4,
            "links": [{}, {}]}},
          {{"name": "gamma", "state": "dead", "witness": true, "incarnation": 9, "last_heard_ms": 73000, "links": [{}]}},
          {{"name": "delta", "state": "late", "witness": false, "incarnation": 1, "last_heard_ms": null, "links": [],
            "joined": true}}],
        "groups": [{}],
        "realtime": {{"scheduling": "deadline", "memory_locked": true, "lateness_max_us": 85}},
        "rejected": {{"digest": 3}}, "incarnation": 3, "maintenance": false, "leaving": false, "version": "0.1.0"}}"#,
        link("ucast:eth0", "up", 0.0),
        link("serial:ttyS0", "late", 0.125),
        link("ucast:eth0", "dead", 0.0),
        groups.join(", ")
    );
    serde_json::from_str(&text).unwrap()
}

fn screen(groups: usize) -> Screen {
    let mut screen = Screen::default();
    screen.take(News::Status(Box::new(status(groups))));
    for index in 0..300 {
        screen.take(News::Event(format!("12:00:00.{index:06} node beta: late -> up")));
    }
    screen
}

fn drawn(screen: &Screen, width: u16, height: u16) -> (String, Terminal<TestBackend>) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.render(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let row: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(row.trim_end());
        text.push('\n');
    }
    (text, terminal)
}

/// The line that contains the words.
fn line<'t>(text: &'t str, words: &str) -> &'t str {
    text.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words} is not in\n{text}"))
}

#[test]
fn everything_is_readable_on_a_terminal_of_80_by_24() {
    let (text, terminal) = drawn(&screen(2), 80, 24);
    println!("{text}");
    assert_eq!(text.lines().count(), 24);
    let head = line(&text, "office on alpha");
    for words in ["quorum", "gate kernel", "rejected 3", "latest wake-up 85 us"] {
        assert!(head.contains(words), "{words}: {head}");
    }
    assert!(line(&text, "alpha *").contains("this node"));
    let beta = line(&text, "beta   ");
    for words in ["up", "4 ms", "ucast:eth0", "187 us"] {
        assert!(beta.contains(words), "{words}: {beta}");
    }
    assert!(line(&text, "serial:ttyS0").contains("12.5 %"));
    let gamma = line(&text, "gamma (w)");
    assert!(gamma.contains("dead") && gamma.contains("73 s"), "{gamma}");
    let delta = line(&text, "delta (j)");
    assert!(delta.contains("late") && delta.contains("never"), "{delta}");
    let group = line(&text, "web0");
    for words in ["serving", "alpha", "41 ms", "alpha+gamma", "10.0.0.0/24"] {
        assert!(group.contains(words), "{words}: {group}");
    }
    assert!(text.contains("12:00:00.000299"), "the newest event\n{text}");
    assert!(text.contains("q quits"));
    let (y, row) = text.lines().enumerate().find(|(_, line)| line.contains("gamma (w)")).unwrap();
    let x = row.find("dead").unwrap();
    let cell = &terminal.backend().buffer()[(u16::try_from(x).unwrap(), u16::try_from(y).unwrap())];
    assert_eq!(cell.fg, Color::Red, "the dead are seen at a glance");
}

#[test]
fn what_has_no_room_is_counted_and_events_keep_theirs() {
    let (text, _) = drawn(&screen(60), 80, 24);
    assert!(text.lines().any(|line| line.contains(" more")), "{text}");
    assert!(text.contains("12:00:00.000299"), "{text}");
}

#[test]
fn no_size_is_too_small() {
    for (width, height) in [(1, 1), (20, 3), (80, 5), (40, 10), (300, 100)] {
        let _ = drawn(&screen(3), width, height);
    }
    let _ = drawn(&Screen::default(), 80, 24);
}

#[test]
fn an_agent_that_does_not_answer_is_seen_and_its_last_words_stay() {
    let mut screen = screen(1);
    screen.take(News::NoAnswer("no agent answers on /run/xbeat/xbeat.sock".to_owned()));
    let (text, _) = drawn(&screen, 80, 24);
    assert!(
        text.contains("NO ANSWER") && text.contains("no agent answers") && text.contains("web0"),
        "{text}"
    );
    screen.take(News::Status(Box::new(status(1))));
    assert!(!drawn(&screen, 80, 24).0.contains("NO ANSWER"));
}
