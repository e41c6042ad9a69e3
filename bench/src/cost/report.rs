//! The figures as tables, plots and goals.

use agent_tests::lab::config::Cast;

use super::Found;
use super::cluster::Sample;
use super::meter::{Span, Taken};
use crate::report::{Cell, Curve, Goal, Plot, Report, Scale, Table};

/// Of keepalived's, at most.
const PART_OF_KEEPALIVED: f64 = 0.2;
/// What flat is: the dearest size beside the cheapest.
const FLAT: f64 = 1.5;
/// Of one core, percent, at 100 heartbeats a second.
const CORE_PERCENT: f64 = 0.5;

/// Adds all of it to the report.
pub fn write(report: &mut Report, found: &Found) {
    report.notes.extend(notes(found));
    report.tables.push(hearing(found));
    report.tables.push(whole(found));
    report.tables.push(least(found));
    report.tables.push(turns(found));
    if !found.pairs.is_empty() {
        report.tables.push(pairs(found));
    }
    report.plots.push(hearing_plot(found));
    report.plots.push(whole_plot(found));
    report.goals.extend(goals(found));
}

fn notes(found: &Found) -> Vec<String> {
    let spans =
        found.whole.iter().map(|(_, sample)| &sample.span).chain(found.heard.iter().map(|heard| &heard.span));
    let spans = spans.chain(found.instances.iter().map(|(_, span)| span));
    let late_ms =
        spans.chain(found.pairs.iter().map(|(_, _, span)| span)).map(|span| span.late_ms).fold(0.0, f64::max);
    vec![
        "CPU is the time that all threads of the software's processes ran (schedstat); microseconds for one heartbeat are \
         seconds for a million. On veth pairs the sender's thread also carries the frame through the bridge and runs the \
         receivers' XDP programs or protocol stacks, so the run time of all nodes together is everything that a heartbeat takes, \
         softirqs included. The shares of user mode and softirqs are sampled by the timer tick."
            .to_owned(),
        "Hearing is measured by itself: one node sends five times a second, all others at their pace. xbeat's is the run time of that node \
         and the run of the XDP program (the kernel's statistics, which add two readings of the clock to each run). keepalived's is the \
         run time of a backup alone: what the protocol stack takes to hand it the packet is not in it, to its advantage."
            .to_owned(),
        "Nodes are in namespaces of one machine, so the last size sends every 50 ms, the others every 10 ms. keepalived is \
         the backup of as many masters, each on a node of its own, as a node of such a cluster has peers, at the same pace."
            .to_owned(),
        format!("Noise: whoever measured, at SCHED_FIFO 90, woke at most {late_ms:.2} ms late."),
    ]
}

fn micro(ns: f64) -> Cell {
    Cell::number(ns / 1e3, 2)
}

/// What hearing one heartbeat takes, all in all, nanoseconds.
fn heard_ns(sample: &Sample) -> f64 {
    sample.listener_ns() + sample.program_ns
}

/// What hearing takes keepalived: the first node's run time for each frame of the others.
fn backup_ns(span: &Span) -> f64 {
    match &span.nodes[..] {
        [backup, masters @ ..] => backup.run_ns / frames(masters),
        [] => f64::NAN,
    }
}

fn frames(nodes: &[Taken]) -> f64 {
    nodes.iter().map(|node| node.frames).sum()
}

fn keepalived_ns(found: &Found, peers: usize) -> f64 {
    let span = found.instances.iter().find(|(instances, _)| *instances == peers);
    span.map_or(f64::NAN, |(_, span)| backup_ns(span))
}

fn hearing(found: &Found) -> Table {
    let columns = [
        "peers",
        "heard/s",
        "agent us",
        "agent us each second",
        "XDP us",
        "xbeat us",
        "keepalived us",
        "xbeat / keepalived",
        "wake-ups/s",
    ];
    let mut table = Table::new("Hearing one heartbeat, by the number of peers", &columns);
    for sample in &found.heard {
        let peers = sample.nodes - 1;
        let received = sample.received.last().copied().unwrap_or(f64::NAN);
        let wakeups = sample.span.nodes.last().map_or(f64::NAN, |node| node.wakeups);
        let keepalived = keepalived_ns(found, peers);
        table.row(vec![
            Cell::count(peers),
            Cell::number(received / sample.span.seconds, 0),
            micro(sample.listener_ns()),
            Cell::number(sample.listener_ns() * received / sample.span.seconds / 1e3, 0),
            micro(sample.program_ns),
            micro(heard_ns(sample)),
            micro(keepalived),
            Cell::number(heard_ns(sample) / keepalived, 3),
            Cell::number(wakeups / sample.span.seconds, 0),
        ]);
    }
    table
}

const fn cast(cast: Cast) -> &'static str {
    match cast {
        Cast::Unicast => "unicast",
        Cast::LinkLocal => "link-local",
        Cast::Broadcast => "broadcast",
        Cast::Multicast => "multicast",
    }
}

fn whole(found: &Found) -> Table {
    let columns = [
        "nodes",
        "link",
        "every ms",
        "heard/s",
        "CPU-s / 10^6 heard",
        "CPU-s / 10^6 sent",
        "user %",
        "softirq-s / 10^6 heard",
        "wake-ups/s, node",
        "by frames",
        "RSS MiB",
        "bytes",
    ];
    let mut table =
        Table::new("Everything that a heartbeat takes on all nodes, sending and wire included", &columns);
    for (link, sample) in &found.whole {
        let nodes = sample.nodes as f64;
        let sum = |of: fn(&Taken) -> f64| sample.span.nodes.iter().map(of).sum::<f64>();
        table.row(vec![
            Cell::count(sample.nodes),
            Cell::text(cast(*link)),
            Cell::number(sample.keepalive_ms, 0),
            Cell::number(sample.all_received() / sample.span.seconds, 0),
            micro(sample.run_ns() / sample.all_received()),
            micro(sample.run_ns() / sample.all_sent()),
            Cell::number(sum(|node| node.user * 100.0) / nodes, 0),
            micro(sample.span.softirq_ns / sample.all_received()),
            Cell::number(sum(|node| node.wakeups) / nodes / sample.span.seconds, 0),
            Cell::number(sample.receive_wakeups / nodes / sample.span.seconds, 1),
            Cell::number(sum(|node| node.resident_mib) / nodes, 1),
            Cell::number(sum(|node| node.bytes) / sum(|node| node.frames), 0),
        ]);
    }
    table
}

/// The sample beside which the bare loop ran.
fn beside_loop(found: &Found) -> Option<&Sample> {
    found.whole.iter().map(|(_, sample)| sample).find(|sample| sample.loop_ns.is_finite())
}

/// Of one core, percent: a node of the pair.
fn core_percent(sample: &Sample) -> f64 {
    sample.run_ns() / sample.nodes as f64 / (sample.span.seconds * 1e9) * 100.0
}

fn least(found: &Found) -> Table {
    let mut table = Table::new(
        "Two nodes at 100 heartbeats a second beside the least that a sender can be",
        &["", "us", "% of a core"],
    );
    let Some(sample) = beside_loop(found) else { return table };
    let percent = |ns: f64| Cell::number(ns * 1e3 / sample.keepalive_ms / 1e6 * 100.0 / 1e3, 3);
    let agent_ns = sample.run_ns() / sample.all_sent();
    for (what, ns) in [
        ("xbeat: core, signature, sending, hearing, status", agent_ns),
        ("bare loop: timer, send; the receiver's program refuses at the screen", sample.loop_ns),
        ("the receiver's program on a heartbeat, in the sender's time", sample.program_ns),
        ("what is left for xbeat", agent_ns - sample.loop_ns - sample.program_ns),
    ] {
        table.row(vec![Cell::text(what), micro(ns), percent(ns)]);
    }
    table
}

fn turns(found: &Found) -> Table {
    let columns = ["peers in turn", "clusters", "heartbeats", "median ns", "p99 ns", "max ns"];
    let mut table = Table::new(
        "The XDP program by test-run of one heartbeat each (a cluster has 32 nodes at most: 1,023 peers are 33 clusters)",
        &columns,
    );
    for turn in &found.turns {
        table.row(vec![
            Cell::count(turn.peers),
            Cell::count(turn.clusters),
            Cell::count(turn.frames),
            Cell::number(turn.ns.median, 0),
            Cell::number(turn.ns.p99, 0),
            Cell::number(turn.ns.max, 0),
        ]);
    }
    table
}

fn pairs(found: &Found) -> Table {
    let columns = [
        "software",
        "setting",
        "node",
        "sent/s",
        "heard/s",
        "% of a core",
        "us / sent or heard",
        "wake-ups/s",
        "RSS MiB",
        "bytes",
    ];
    let mut table = Table::new("Two nodes of each, at its fastest setting", &columns);
    let xbeat = beside_loop(found)
        .map(|sample| ("xbeat".to_owned(), format!("{} ms", sample.keepalive_ms), &sample.span));
    let others = found.pairs.iter().map(|(name, setting, span)| {
        (name.label().to_owned(), format!("{} ms", setting.interval.as_millis()), span)
    });
    for (name, setting, span) in xbeat.into_iter().chain(others) {
        for (node, taken) in span.nodes.iter().enumerate() {
            let heard = span.nodes.get(usize::from(node == 0)).map_or(f64::NAN, |other| other.frames);
            table.row(vec![
                Cell::text(name.clone()),
                Cell::text(setting.clone()),
                Cell::count(node),
                Cell::number(taken.frames / span.seconds, 0),
                Cell::number(heard / span.seconds, 0),
                Cell::number(taken.run_ns / span.seconds / 1e7, 2),
                micro(taken.run_ns / (taken.frames + heard)),
                Cell::number(taken.wakeups / span.seconds, 0),
                Cell::number(taken.resident_mib, 1),
                Cell::number(taken.bytes / taken.frames, 0),
            ]);
        }
    }
    table
}

fn hearing_plot(found: &Found) -> Plot {
    let mut plot = Plot::new("hearing", "CPU for one heartbeat heard", "peers", "microseconds")
        .scale(Scale::Log, Scale::Log);
    let by = |ns: fn(&Sample) -> f64| {
        found.heard.iter().map(|sample| ((sample.nodes - 1) as f64, ns(sample) / 1e3)).collect::<Vec<_>>()
    };
    plot.curves.push(Curve::new("xbeat", by(heard_ns)));
    plot.curves.push(Curve::new("xbeat, XDP program alone", by(|sample| sample.program_ns)));
    let keepalived = found.instances.iter().map(|(peers, span)| (*peers as f64, backup_ns(span) / 1e3));
    plot.curves.push(Curve::new("keepalived, without its softirqs", keepalived.collect()));
    plot
}

fn whole_plot(found: &Found) -> Plot {
    let title = "CPU of all nodes for one heartbeat, sent, carried and heard";
    let mut plot = Plot::new("whole", title, "nodes", "microseconds").scale(Scale::Log, Scale::Log);
    for link in [Cast::Unicast, Cast::Multicast] {
        let samples = found.whole.iter().filter(|(cast, _)| *cast == link);
        let points =
            samples.map(|(_, sample)| (sample.nodes as f64, sample.run_ns() / sample.all_received() / 1e3));
        plot.curves.push(Curve::new(format!("xbeat, {}", cast(link)), points.collect()));
    }
    let keepalived = found.instances.iter().filter_map(|(peers, span)| match &span.nodes[..] {
        [_, masters @ ..] => {
            let run_ns: f64 = span.nodes.iter().map(|node| node.run_ns).sum();
            Some(((*peers + 1) as f64, run_ns / frames(masters) / 1e3))
        }
        [] => None,
    });
    plot.curves.push(Curve::new("keepalived, a backup and so many masters", keepalived.collect()));
    plot
}

fn goals(found: &Found) -> Vec<Goal> {
    let ratios = found.heard.iter().map(|sample| heard_ns(sample) / keepalived_ns(found, sample.nodes - 1));
    let worst = ratios.filter(|ratio| ratio.is_finite()).fold(f64::NAN, f64::max);
    let heard = || found.heard.iter().map(heard_ns);
    let growth = heard().next_back().unwrap_or(f64::NAN) / heard().next().unwrap_or(f64::NAN);
    let percent = beside_loop(found).map_or(f64::NAN, core_percent);
    let mut goals = vec![
        Goal::new("CPU for a heartbeat heard, most peers beside one", growth, FLAT, "x"),
        Goal::new("an agent at 100 heartbeats a second", percent, CORE_PERCENT, "% of a core"),
    ];
    if !found.instances.is_empty() {
        goals.insert(
            0,
            Goal::new(
                "CPU for a heartbeat heard beside keepalived's, worst size",
                worst,
                PART_OF_KEEPALIVED,
                "x",
            ),
        );
    }
    goals
}
