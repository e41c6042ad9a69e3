//! `cargo xtask bench loss`: false deaths and lost service per hour under loss, of xbeat and of other software, beside the
//! closed-form expectation. All clusters run at the same time.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bench::loss::{self, KEEPALIVE, Setup, plots, report, run};
use bench::options::{self, Options};
use bench::report::Report;
use clap::Parser;

/// How often every loss is measured.
const RUNS: usize = 1;

/// Measures false deaths under loss.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Seconds of each loss
    #[arg(long, value_name = "S", default_value_t = 55)]
    seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    options::run(|| measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<()> {
    let mut report = Report::new("loss", "false deaths and lost service under loss");
    let peers = arguments.options.peers(&mut report);
    let (setups, channels) = (loss::setups(&peers), loss::channels());
    let (runs, seconds) = (arguments.options.runs.unwrap_or(RUNS), arguments.seconds);
    let estimate = run::estimate(setups.len(), channels.len(), runs, seconds);
    eprintln!(
        "loss: {} clusters side by side, {} ways to lose frames, about {} minutes",
        setups.len(),
        channels.len(),
        estimate.as_secs().div_ceil(60)
    );
    let outcome = run::run(&setups, &channels, runs, seconds)?;
    report.skipped.extend(outcome.skipped.iter().cloned());
    report.notes.extend(notes(&setups, runs, seconds));
    report::fill(&mut report, &outcome, &channels);
    plots::add(&mut report, &outcome, &channels);
    report.publish(arguments.options.out.as_deref())?;
    let Some(directory) = &arguments.options.out else { return Ok(()) };
    let cells: Vec<serde_json::Value> = outcome
        .cells
        .iter()
        .flat_map(|(setup, seen)| {
            channels.iter().zip(seen).map(|(channel, seen)| cell(setup, *channel, seen))
        })
        .collect();
    let path = directory.join("loss-cells.json");
    std::fs::write(&path, serde_json::to_string_pretty(&cells)?).context("cannot write the cells")
}

fn cell(setup: &Setup, channel: agent_tests::lab::loss::Channel, seen: &loss::Seen) -> serde_json::Value {
    let (least, most) = loss::model::expected(setup, channel);
    serde_json::json!({
        "cluster": setup.name(),
        "loss": loss::label(channel),
        "expected_per_node_hour": [least, most],
        "seen": seen,
    })
}

fn notes(setups: &[Setup], runs: usize, seconds: u64) -> Vec<String> {
    vec![
        format!(
            "{} clusters of two nodes ran side by side, {runs} x {seconds} s for each way to lose frames. A classifier at \
             each port towards a node loses every frame but the client's, both ways and each link for itself. `N (<M)`: \
             none seen, which tells that there are less than M an hour with 95 %.",
            setups.len()
        ),
        format!(
            "Deadtime is the count times 10 ms. xbeat's keepalive is {:.1} ms, so that the last heartbeat of a deadtime \
             does not race with its end: death is `count` heartbeats lost in a row on all links. With a keepalive of \
             exactly 10 ms the last one counts only if it wins that race. `!`: outside of what the closed form gives \
             with 95 %.",
            KEEPALIVE.as_secs_f64() * 1e3
        ),
        format!(
            "Rates are per hour of one node that judges another: two of each cluster, one of keepalived's, whose master \
             judges nobody. The client asks each 10 ms; what is not answered is lost service. `†`: the cluster was not \
             whole {} s after the losses before, and may have had nobody to call dead.",
            run::MEND.as_secs()
        ),
    ]
}
