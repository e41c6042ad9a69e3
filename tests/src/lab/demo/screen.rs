//! What the demonstration shows while it runs: a line for each step and each look at the steady state.
//! With JSON on standard output it goes to standard error; colours and quick lines only on a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Result;

use super::report::Modes;
use super::{Options, Report};
use crate::lab::client::Answer;
use crate::lab::clock;
use crate::lab::cluster::Cluster;
use crate::lab::failover::{Kill, Stages};
use crate::lab::frame::Kind;

/// Between two lines of the timeline on a terminal.
const LIVE: Duration = Duration::from_millis(250);
/// And elsewhere.
const PLAIN: Duration = Duration::from_millis(500);

/// Where the demonstration is shown.
#[derive(Debug)]
pub(super) struct Screen {
    to_stderr: bool,
    is_terminal: bool,
    start_ns: u64,
}

/// How a piece of text stands out.
#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Good,
    Bad,
    Dim,
}

impl Screen {
    pub(super) fn new(to_stderr: bool) -> Self {
        let is_terminal =
            if to_stderr { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        Self { to_stderr, is_terminal, start_ns: clock::now_ns() }
    }

    pub(super) fn title(&self, options: &Options) {
        self.line(&format!(
            "{}  keepalive {}, deadtime {}",
            self.paint(Style::Bold, "xbeat: a service address changes hands"),
            milliseconds(options.keepalive),
            milliseconds(options.deadtime),
        ));
        if options.unprivileged {
            self.line(
                "In a user namespace: heartbeats arrive on a UDP socket instead of XDP, and realtime scheduling may be\n\
                 refused, so the machine's other work shows in the times. As root both are there.",
            );
        }
    }

    pub(super) fn step(&self, text: &str) {
        self.line(&format!("{} {}", self.clock(), self.paint(Style::Bold, text)));
    }

    pub(super) fn started(&self, cluster: &Cluster, modes: &Modes) {
        for (node, interfaces) in modes {
            let listed = interfaces.iter().map(|(interface, mode)| format!("{interface} {mode}"));
            self.line(&format!(
                "          {node}: heartbeats received by {}",
                listed.collect::<Vec<_>>().join(", ")
            ));
        }
        if let Ok(address) = cluster.address() {
            self.line(&format!(
                "          service address {address}, asked by the client 1000 times a second"
            ));
        }
    }

    /// Shows the steady state for `duration`.
    pub(super) fn watch(&self, cluster: &Cluster, duration: Duration) -> Result<()> {
        let every = if self.is_terminal { LIVE } else { PLAIN };
        let end_ns = clock::now_ns() + clock::ns(duration);
        while clock::now_ns() < end_ns {
            let from_ns = clock::now_ns();
            clock::pause(every)?;
            self.look(cluster, from_ns)?;
        }
        Ok(())
    }

    /// One line: who holds the address, whose heartbeats arrive, who answers how often.
    fn look(&self, cluster: &Cluster, from_ns: u64) -> Result<()> {
        let seconds = clock::ms_between(from_ns, clock::now_ns()) / 1e3;
        let address = cluster.address()?;
        let answers = cluster.client().answers_since(from_ns);
        let mut line = format!("{} ", self.clock());
        for node in 0..cluster.spec().nodes {
            let holds = cluster.host(node)?.has_address(address)?;
            let beats = heartbeats_of(cluster, node, from_ns)? as f64 / seconds;
            let holding =
                if holds { self.paint(Style::Good, "holds") } else { self.paint(Style::Dim, "     ") };
            let beating =
                self.paint(if beats < 1.0 { Style::Bad } else { Style::Plain }, &format!("{beats:4.0}"));
            line += &format!(" {:<5} {holding} {beating} beats/s │", cluster.name(node));
        }
        line += &self.answering(cluster, &answers, seconds);
        self.line(&line);
        Ok(())
    }

    fn answering(&self, cluster: &Cluster, answers: &[Answer], seconds: f64) -> String {
        let rate = answers.len() as f64 / seconds;
        let by = answers.last().map_or("nobody", |answer| cluster.name(usize::from(answer.node)));
        let style = if answers.is_empty() { Style::Bad } else { Style::Plain };
        format!(" client {} answers/s by {by}", self.paint(style, &format!("{rate:4.0}")))
    }

    pub(super) fn fault(&self, cluster: &Cluster, holder: usize, kill: Kill) {
        let name = cluster.name(holder);
        let text = match kill {
            Kill::Agent => format!("kill -9 of the agent of {name}"),
            Kill::Link => format!("the link of {name} is cut"),
            Kill::Both => format!("kill -9 of the agent of {name}, and its link is cut"),
        };
        self.line(&format!("{} {}", self.clock(), self.paint(Style::Bad, &text)));
    }

    pub(super) fn stages(&self, stages: &Stages, options: &Options) {
        let since = |at_ns: u64| clock::ms_between(stages.last_heartbeat_ns, at_ns);
        let row = |what: &str, ms: f64| self.line(&format!("    {what:<22} {ms:9.2} ms"));
        row("last heartbeat", 0.0);
        row("declared dead", since(stages.dead_ns));
        row("address added", since(stages.added_ns));
        row("announced", since(stages.announced_ns));
        row("first client answer", since(stages.gap.first.answered_ns));
        self.line(
            &self.paint(Style::Good, &format!("    the client's gap       {:9.2} ms", stages.gap.ms())),
        );
        self.line(&format!(
            "    the verdict came {:.2} ms after the deadtime of {}",
            stages.overshoot_ms(options.deadtime),
            milliseconds(options.deadtime)
        ));
        if options.kill == Kill::Agent {
            self.line(
                "    Only the agent was killed: its node still has the address on its interface and would still answer\n    \
                 for it. The announcement has turned the client to the survivor; a killed agent alone cannot withdraw it.",
            );
        }
    }

    pub(super) fn end(&self, report: &Report) {
        let text =
            format!("{} serves, the cluster is whole, nobody else has the address", report.holder_healed);
        self.line(&format!("{} {}", self.clock(), self.paint(Style::Good, &text)));
        if let Some(gap) = report.healed_gap {
            self.line(&format!("          the client's longest gap while healing: {:.1} ms", gap.ms()));
        }
    }

    /// Seconds since the start.
    fn clock(&self) -> String {
        format!("{:7.2} s", clock::ms_between(self.start_ns, clock::now_ns()) / 1e3)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Bold => "1",
            Style::Good => "1;32",
            Style::Bad => "1;31",
            Style::Dim => "2",
        };
        if self.is_terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        // A reader that went away must not end the demonstration halfway.
        let _ = if self.to_stderr {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }
}

/// Heartbeats of `node` that reached the switch since then.
fn heartbeats_of(cluster: &Cluster, node: usize, from_ns: u64) -> Result<usize> {
    let id = u8::try_from(node)?;
    let from_host = crate::lab::capture::Direction::FromHost;
    let is_wanted = |kind: Kind| kind.is_heartbeat_of(id);
    let frames =
        cluster.capture(node)?.frames(from_ns, |frame| frame.direction == from_host && is_wanted(frame.kind));
    Ok(frames.len())
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_secs_f64() * 1e3)
}
