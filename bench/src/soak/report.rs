//! The report of a soak: what was done, what was judged with its witnesses, outages and recoveries by kind of fault, memory.

use std::collections::BTreeMap;

use agent_tests::lab::bpf::Objects;
use agent_tests::lab::clock;

use super::fault::{Kind, SPARED};
use super::memory::Life;
use super::outage::Round;
use super::verdict::{self, Verdict};
use super::{RECOVERY_MAX, Soak};
use crate::report::{Cell, Curve, Goal, Plot, Report, Scale, Table};
use crate::statistics::Summary;

/// One number of a count of objects.
type Of = fn(&Objects) -> usize;

/// Violations that are listed in full.
const LISTED_MAX: usize = 50;

/// Of a soak and its verdict.
pub fn of(soak: &Soak, verdict: &Verdict) -> Report {
    let rounds = with_outages(soak);
    let mut report = Report::new("soak", "random faults on five nodes, watched from outside");
    report.notes = notes(soak, rounds.len());
    report.tables.push(witnesses(soak, &rounds));
    report.tables.push(by_kind(soak, &rounds));
    report.tables.push(memory(soak));
    report.tables.push(objects(soak));
    for (title, list) in [
        ("Violations", &verdict.violations),
        ("Beside a stall of the machine", &verdict.stalls),
        ("Deaths while busy loops had the processors", &verdict.hogged),
        ("Commands refused while something else was wrong", &soak.refused),
    ] {
        if !list.is_empty() {
            let mut table = Table::new(title, &["what"]);
            list.iter().take(LISTED_MAX).for_each(|text| table.row(vec![Cell::text(text.clone())]));
            report.tables.push(table);
        }
    }
    report.plots.push(resident(soak));
    report.plots.push(distribution(&rounds));
    report.goals = goals(soak, verdict, &rounds);
    report
}

/// Each round with the longest outage that touches it.
fn with_outages(soak: &Soak) -> Vec<Round> {
    let mut rounds = soak.rounds.clone();
    for round in &mut rounds {
        let touching = soak.watch.found.iter().filter(|outage| {
            outage.to_ns >= round.from_ns && round.whole_ns.is_none_or(|whole_ns| outage.from_ns <= whole_ns)
        });
        round.outage_ms = touching.map(super::outage::Outage::ms).fold(0.0, f64::max);
    }
    rounds
}

fn notes(soak: &Soak, rounds: usize) -> Vec<String> {
    let setting = &soak.setting;
    let minutes = clock::ms_between(soak.from_ns, soak.to_ns) / 6e4;
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    let (late, wakes) = soak.watch.stalls.counts();
    vec![
        format!(
            "{minutes:.1} minutes, {rounds} rounds, seed {}. Five voters, two links for heartbeats and a network for the \
             service, keepalive {} ms, deadtime {} ms, initdead {} ms.",
            setting.seed,
            ms(setting.keepalive),
            ms(setting.deadtime),
            ms(setting.initdead),
        ),
        format!(
            "A round is one fault or two at once, the mending, the time until all agents see each other up and agree on the \
             server and it answers the client, and 2 s of quiet. Node {SPARED} is never killed or restarted.",
        ),
        "A death has a reason while the dead node's agent is killed or stopped, the observer's is killed, or each link between \
         them is cut, lossy or pulled. One link of two is no reason; nor are commands, busy loops, and the observer's own SIGSTOP."
            .to_owned(),
        format!(
            "The machine's own noise: a thread of the highest fixed priority on each processor, waking every millisecond, was \
             later than 2 ms {late} times of {wakes}, at most {:.1} ms; the client at most {:.1} ms, the observer {:.1} ms \
             (also while SCHED_FIFO loops had the processors).",
            soak.watch.stalls.worst_of_all_ms(),
            soak.late_client_ms,
            soak.watch.observer.late_max_ms(),
        ),
    ]
}

fn witnesses(soak: &Soak, rounds: &[Round]) -> Table {
    let mut table = Table::new("What was judged", &["what", "result", "of"]);
    let mut row = |what: &str, result: String, of: String| {
        table.row([what.to_owned(), result, of].map(Cell::text).to_vec());
    };
    let watch = &soak.watch;
    let asked: u64 = soak.asked.iter().sum();
    let answers = watch.turns.answers();
    row(
        "two servers at once",
        watch.turns.doubles().len().to_string(),
        format!(
            "{} turns of serving, {} answers to {asked} questions",
            watch.turns.judged(),
            answers.iter().sum::<u64>()
        ),
    );
    let least = soak.asked.iter().min().copied().unwrap_or(0);
    row("questions to each node, at least", least.to_string(), format!("answers by node {answers:?}"));
    let stalls = watch.deaths.iter().filter(|death| verdict::is_stall(soak, death)).count();
    let hogged = watch.deaths.iter().filter(|death| verdict::is_hogged(soak, death)).count();
    row(
        "deaths without a reason",
        watch.deaths.len().to_string(),
        format!(
            "{} deaths; of those without a reason {stalls} beside a stall of the machine, {hogged} while busy loops had the \
             processors",
            watch.excused + watch.deaths.len()
        ),
    );
    row(
        "scheduling of the agents",
        format!("{:?}", watch.scheduling),
        "as each said after each round".to_owned(),
    );
    row(
        "epochs that did not rise",
        watch.epochs.wrong().len().to_string(),
        format!("starts of serving by node {:?}", watch.epochs.seen()),
    );
    let (missed, connections) = watch.streams();
    row(
        "events missed",
        missed.to_string(),
        format!("processes whose events were followed, by node {connections:?}"),
    );
    row(
        "outages outside of rounds",
        verdict::outside(soak).count().to_string(),
        format!(
            "{} outages of 10 ms or more, {} answers to the client",
            watch.found.len(),
            watch.outages.answered()
        ),
    );
    let recoveries = Summary::of(rounds.iter().filter_map(Round::recovery_ms));
    row(
        "whole again, median ms",
        format!("{:.0}", recoveries.median),
        format!("maximum {:.0} ms, {} rounds", recoveries.max, rounds.len()),
    );
    table
}

fn by_kind(soak: &Soak, rounds: &[Round]) -> Table {
    let mut table = Table::new(
        "By kind of fault",
        &[
            "fault",
            "done",
            "alone",
            "with outage",
            "outage ms, median",
            "p99",
            "max",
            "whole after ms, median",
            "max",
        ],
    );
    let mut done = BTreeMap::<Kind, usize>::new();
    soak.done.iter().for_each(|kind| *done.entry(*kind).or_default() += 1);
    for kind in Kind::ALL {
        let of: Vec<&Round> = rounds.iter().filter(|round| round.kind == kind).collect();
        let outages = || of.iter().map(|round| round.outage_ms).filter(|outage| *outage > 0.0);
        let (outage, recovery) =
            (Summary::of(outages()), Summary::of(of.iter().filter_map(|round| round.recovery_ms())));
        let times = if kind == Kind::Two { of.len() } else { done.get(&kind).copied().unwrap_or(0) };
        table.row(vec![
            Cell::text(kind.label()),
            Cell::count(times),
            Cell::count(of.len()),
            Cell::count(outages().count()),
            Cell::number(outage.median, 1),
            Cell::number(outage.p99, 1),
            Cell::number(outage.max, 1),
            Cell::number(recovery.median, 0),
            Cell::number(recovery.max, 0),
        ]);
    }
    table
}

fn memory(soak: &Soak) -> Table {
    let mut table = Table::new(
        "Memory of the agents, longest life of each node",
        &[
            "process",
            "lives",
            "watched s",
            "resident KiB, first",
            "middle",
            "last",
            "slope KiB/h, 2nd half",
            "locked KiB",
            "descriptors, first",
            "last",
            "threads, last",
        ],
    );
    let agents =
        soak.watch.lives.iter().enumerate().map(|(node, lives)| (format!("node {node}"), lives.as_slice()));
    let own = ("the observer's process".to_owned(), std::slice::from_ref(&soak.watch.own));
    for (name, lives) in agents.chain([own]) {
        let longest = lives.iter().max_by(|one, two| one.seconds().total_cmp(&two.seconds()));
        let Some(life) = longest else { continue };
        let samples = life.samples();
        let (Some(first), Some(middle), Some(last)) =
            (samples.first(), samples.get(samples.len() / 2), samples.last())
        else {
            continue;
        };
        table.row(vec![
            Cell::text(name),
            Cell::count(lives.len()),
            Cell::number(life.seconds(), 0),
            Cell::number(first.resident_kib as f64, 0),
            Cell::number(middle.resident_kib as f64, 0),
            Cell::number(last.resident_kib as f64, 0),
            Cell::number(life.slope_kib_per_hour(), 0),
            Cell::number(last.locked_kib as f64, 0),
            Cell::count(first.descriptors),
            Cell::count(last.descriptors),
            Cell::count(last.threads),
        ]);
    }
    table
}

fn objects(soak: &Soak) -> Table {
    let mut table = Table::new(
        "BPF objects in the kernel at the end of times of quiet",
        &["kind", "first", "least", "most", "last"],
    );
    let own: Vec<Objects> =
        soak.watch.kept.iter().filter(|kept| !kept.is_shared).map(|kept| kept.objects).collect();
    let kinds: [(&str, Of); 3] = [
        ("programs", |objects| objects.programs),
        ("maps", |objects| objects.maps),
        ("links", |objects| objects.links),
    ];
    for (name, of) in kinds {
        let cell = |objects: Option<&Objects>| {
            Cell::number(objects.map_or(f64::NAN, |objects| of(objects) as f64), 0)
        };
        table.row(vec![
            Cell::text(name),
            cell(own.first()),
            cell(own.iter().min_by_key(|objects| of(objects))),
            cell(own.iter().max_by_key(|objects| of(objects))),
            cell(own.last()),
        ]);
    }
    table
}

fn resident(soak: &Soak) -> Plot {
    let mut plot = Plot::new("memory", "Resident memory of the agents", "minutes", "KiB");
    for (node, lives) in soak.watch.lives.iter().enumerate() {
        let samples = lives.iter().flat_map(Life::samples);
        let point = |sample: &super::memory::Sample| {
            (clock::ms_between(soak.from_ns, sample.at_ns) / 6e4, sample.resident_kib as f64)
        };
        let name = if node == SPARED { format!("node {node}, one process") } else { format!("node {node}") };
        plot.curves.push(Curve::new(name, samples.map(point).filter(|(minute, _)| *minute >= 0.0).collect()));
    }
    plot
}

/// The outages of all rounds, the shortest first.
fn distribution(rounds: &[Round]) -> Plot {
    let (x, y) = ("rounds, the shortest outage first, %", "longest outage, ms");
    let mut plot =
        Plot::new("outages", "Outage of the service by kind of fault", x, y).scale(Scale::Linear, Scale::Log);
    let groups: [(&str, &[Kind]); 5] = [
        ("agent killed or stopped", &[Kind::Kill, Kind::Pause]),
        (
            "both links, partition, one way, loss",
            &[Kind::CutBoth, Kind::Partition, Kind::Deaf, Kind::LossBoth],
        ),
        ("one link of two", &[Kind::CutOne, Kind::LossOne, Kind::Unplug]),
        ("commands", &[Kind::Takeover, Kind::Standby, Kind::Reload, Kind::Restart, Kind::Retime]),
        ("two at once", &[Kind::Two]),
    ];
    for (name, kinds) in groups {
        let of: Vec<&Round> = rounds.iter().filter(|round| kinds.contains(&round.kind)).collect();
        let mut outages: Vec<f64> = of.iter().map(|round| round.outage_ms).collect();
        outages.sort_by(f64::total_cmp);
        let count = outages.len() as f64;
        let points = outages.into_iter().enumerate();
        let points = points.map(|(place, outage)| ((place + 1) as f64 / count * 100.0, outage));
        plot.curves.push(Curve::new(name, points.collect()));
    }
    plot
}

fn goals(soak: &Soak, verdict: &Verdict, rounds: &[Round]) -> Vec<Goal> {
    let watch = &soak.watch;
    let stalls = watch.deaths.iter().filter(|death| verdict::is_stall(soak, death)).count();
    let hogged = watch.deaths.iter().filter(|death| verdict::is_hogged(soak, death)).count();
    let spared = watch.lives.get(SPARED).and_then(|lives| lives.first());
    let recovery = rounds.iter().map(|round| round.recovery_ms().unwrap_or(f64::NAN)).fold(0.0, f64::max);
    vec![
        Goal::new("two servers at once", watch.turns.doubles().len() as f64, 0.0, "times"),
        Goal::new("deaths without a reason", (watch.deaths.len() - hogged - stalls) as f64, 0.0, "deaths"),
        Goal::new("more of them, beside a stall of the machine", stalls as f64, 0.0, "deaths"),
        Goal::new("more of them, while busy loops had the processors", hogged as f64, 0.0, "deaths"),
        Goal::new("epochs that did not rise", watch.epochs.wrong().len() as f64, 0.0, "times"),
        Goal::new(
            "longest outage outside of rounds",
            verdict.outage_outside_ms,
            soak.setting.deadtime.as_secs_f64() * 1e3,
            "ms",
        ),
        Goal::new("whole again after the last mending", recovery, RECOVERY_MAX.as_secs_f64() * 1e3, "ms"),
        Goal::new(
            format!("growth of node {SPARED}'s resident memory in the second half"),
            spared.map_or(f64::NAN, Life::growth_kib),
            verdict::GROWTH_KIB,
            "KiB",
        ),
        Goal::new("violations", verdict.violations.len() as f64, 0.0, "violations"),
    ]
}
