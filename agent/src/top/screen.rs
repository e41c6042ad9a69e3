//! What is on the screen: the head, nodes with their links, groups, ping groups, and below as many of the last events as fit. Made
//! for 80 x 24; what has no room is counted.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use crate::client::live::News;
use crate::ctl::status::{Group, Link, Node, Status};

/// Events that are kept.
const EVENTS_MAX: usize = 200;
/// Lines that the events have at least.
const EVENTS_LEAST: u16 = 4;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Screen {
    status: Option<Box<Status>>,
    no_answer: Option<String>,
    events: VecDeque<String>,
}

impl Screen {
    /// Takes something new.
    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Status(status) => (self.status, self.no_answer) = (Some(status), None),
            News::NoAnswer(why) => self.no_answer = Some(why),
            News::Event(line) => {
                self.events.push_back(line);
                if self.events.len() > EVENTS_MAX {
                    self.events.pop_front();
                }
            }
        }
    }

    /// Draws all of it.
    pub(super) fn render(&self, frame: &mut Frame<'_>) {
        let Some(status) = &self.status else {
            frame.render_widget(Paragraph::new("waiting for the agent ..."), frame.area());
            return;
        };
        let nodes = node_rows(status);
        let groups: Vec<Row<'static>> = status.groups.iter().map(group_row).collect();
        let pings = pings(status);
        let height = frame.area().height;
        // Head and foot, and a blank line and a title for each part.
        let fixed = 2 + u16::from(!pings.is_empty()) + EVENTS_LEAST;
        let room = height.saturating_sub(fixed);
        let groups_height = lines(groups.len()).min(room / 2);
        let nodes_height = lines(nodes.len()).min(room.saturating_sub(groups_height));
        let parts = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(nodes_height),
            Constraint::Length(groups_height),
            Constraint::Length(u16::from(!pings.is_empty())),
            Constraint::Min(1),
            Constraint::Length(1),
        ])
        .split(frame.area());
        let mut parts = parts.iter().copied();
        let mut next = || parts.next().unwrap_or_default();
        frame.render_widget(Paragraph::new(self.head(status)), next());
        table(frame, next(), ["NODE", "STATE", "HEARD", "LINK", "STATE", "LOSS", "RTT"], NODE_WIDTHS, nodes);
        table(frame, next(), ["GROUP", "HERE", "OWNER", "LEASE", "VOTES", "ADDRESSES"], GROUP_WIDTHS, groups);
        frame.render_widget(Paragraph::new(Line::from(pings)), next());
        self.events(frame, next());
        let foot = self.no_answer.as_ref().map_or_else(
            || Line::styled("q quits", Style::new().add_modifier(Modifier::DIM)),
            |why| Line::styled(why.clone(), alarm()),
        );
        frame.render_widget(Paragraph::new(foot), next());
    }

    fn head(&self, status: &Status) -> Line<'static> {
        let mut spans = vec![
            Span::styled(
                format!("{} on {}", status.cluster, status.node),
                Style::new().add_modifier(Modifier::BOLD),
            ),
            if status.quorum { Span::raw("  quorum") } else { Span::styled("  NO QUORUM", alarm()) },
            if status.gate == "kernel" {
                Span::raw("  gate kernel")
            } else {
                Span::styled("  gate userspace", doubt())
            },
        ];
        if status.maintenance {
            spans.push(Span::styled("  MAINTENANCE", doubt()));
        }
        if status.leaving {
            spans.push(Span::styled("  LEAVING", doubt()));
        }
        if self.no_answer.is_some() {
            spans.push(Span::styled("  NO ANSWER", alarm()));
        }
        let rejected: u64 = status.rejected.values().sum();
        if rejected > 0 {
            spans.push(Span::raw(format!("  rejected {rejected}")));
        }
        spans.push(Span::raw(format!("  latest wake-up {} us", status.realtime.lateness_max_us)));
        Line::from(spans)
    }

    /// The newest at the bottom.
    fn events(&self, frame: &mut Frame<'_>, area: Rect) {
        let shown = usize::from(area.height.saturating_sub(1));
        let skipped = self.events.len().saturating_sub(shown);
        let mut lines = vec![Line::styled("EVENTS (UTC)", title())];
        lines.extend(self.events.iter().skip(skipped).map(|event| Line::raw(event.clone())));
        frame.render_widget(Paragraph::new(lines), area);
    }
}

const NODE_WIDTHS: [Constraint; 7] = [
    Constraint::Min(10),
    Constraint::Length(7),
    Constraint::Length(10),
    Constraint::Length(16),
    Constraint::Length(7),
    Constraint::Length(7),
    Constraint::Length(9),
];
const GROUP_WIDTHS: [Constraint; 6] = [
    Constraint::Length(10),
    Constraint::Length(9),
    Constraint::Length(10),
    Constraint::Length(8),
    Constraint::Length(16),
    Constraint::Min(20),
];

/// Of a table with so many rows.
fn lines(rows: usize) -> u16 {
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(2)
}

/// A table; rows that have no room are counted in its last line.
fn table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    titles: [&'static str; N],
    widths: [Constraint; N],
    mut rows: Vec<Row<'static>>,
) {
    // A title and a blank line below.
    let room = usize::from(area.height.saturating_sub(2));
    if rows.len() > room {
        let more = rows.len() - room.saturating_sub(1);
        rows.truncate(room.saturating_sub(1));
        rows.push(Row::new([format!("{more} more")]).style(doubt()));
    }
    let header = Row::new(titles).style(title());
    frame.render_widget(Table::new(rows, widths).header(header).column_spacing(1), area);
}

/// One row for each link of a node, the node itself in the first.
fn node_rows(status: &Status) -> Vec<Row<'static>> {
    let mut rows = Vec::new();
    for node in &status.nodes {
        let own = node.name == status.node;
        let mut links = node.links.iter();
        let mut cells = node_cells(node, own);
        cells.extend(links.next().map(link_cells).unwrap_or_default());
        rows.push(Row::new(cells));
        for link in links {
            let mut cells = vec![Cell::default(); 3];
            cells.extend(link_cells(link));
            rows.push(Row::new(cells));
        }
    }
    rows
}

fn node_cells(node: &Node, own: bool) -> Vec<Cell<'static>> {
    let role = match (own, node.witness, node.joined) {
        (true, _, _) => " *",
        (false, true, _) => " (w)",
        (false, false, true) => " (j)",
        (false, false, false) => "",
    };
    let heard = match (own, node.last_heard_ms) {
        (true, _) => "this node".to_owned(),
        (false, None) => "never".to_owned(),
        (false, Some(ms)) if ms < 10_000 => format!("{ms} ms"),
        (false, Some(ms)) => format!("{} s", ms / 1_000),
    };
    vec![
        Cell::from(format!("{}{role}", node.name)),
        Cell::from(node.state.clone()).style(of_state(&node.state)),
        Cell::from(heard),
    ]
}

fn link_cells(link: &Link) -> Vec<Cell<'static>> {
    let loss = if link.loss > 0.0 { format!("{:.1} %", link.loss * 100.0) } else { "-".to_owned() };
    let rtt = link.rtt_us.map_or_else(|| "-".to_owned(), |us| format!("{us} us"));
    vec![
        Cell::from(link.link.clone()),
        Cell::from(link.state.clone()).style(of_state(&link.state)),
        Cell::from(loss).style(if link.loss > 0.01 { doubt() } else { Style::new() }),
        Cell::from(rtt),
    ]
}

fn group_row(group: &Group) -> Row<'static> {
    let lease = group.lease_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let votes = if group.votes.is_empty() { "-".to_owned() } else { group.votes.join("+") };
    let owner = group.owner.clone();
    let owned = if owner.is_some() { Style::new() } else { alarm() };
    Row::new([
        Cell::from(group.name.clone()),
        Cell::from(group.state.clone()).style(of_state(&group.state)),
        Cell::from(owner.unwrap_or_else(|| "nobody".to_owned())).style(owned),
        Cell::from(lease),
        Cell::from(votes),
        Cell::from(group.addresses.join(", ")),
    ])
}

fn pings(status: &Status) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    for ping in &status.pings {
        let before = if spans.is_empty() { "PING  " } else { ", " };
        spans.push(Span::styled(before, if spans.is_empty() { title() } else { Style::new() }));
        spans.push(Span::raw(format!("{} ", ping.name)));
        spans.push(Span::styled(ping.state.clone(), of_state(&ping.state)));
    }
    spans
}

/// Green for what is well, yellow for what may be, red for what is not; and nothing for what is neither.
fn of_state(state: &str) -> Style {
    match state {
        "up" | "serving" => Style::new().fg(Color::Green),
        "late" | "leaving" | "starting" | "stopping" => doubt(),
        "dead" | "failed" => alarm(),
        _ => Style::new(),
    }
}

fn title() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

fn doubt() -> Style {
    Style::new().fg(Color::Yellow)
}

fn alarm() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

#[cfg(test)]
mod tests;
