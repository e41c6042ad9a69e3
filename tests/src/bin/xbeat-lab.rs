//! `xbeat-lab demo`: shows a takeover in network namespaces of its own. Started by `cargo xtask demo`.

use std::process::ExitCode;
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::demo::{self, Options};
use agent_tests::lab::failover::Kill;
use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

/// Exit code after Ctrl-C, as a shell would give it.
const INTERRUPTED: u8 = 130;

/// The laboratory of xbeat.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Two nodes and a client: the node with the service address fails, the other takes over
    Demo(DemoArguments),
}

#[derive(clap::Args)]
struct DemoArguments {
    /// Time between two heartbeats
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = interval)]
    keepalive: Duration,
    /// Silence after which a node is dead
    #[arg(long, value_name = "TIME", default_value = "30ms", value_parser = interval)]
    deadtime: Duration,
    /// What is taken from the node that holds the address
    #[arg(long, value_enum, default_value = "both")]
    kill: KillArgument,
    /// Print the result as one JSON object; progress goes to stderr
    #[arg(long)]
    json: bool,
    /// Run in a user namespace, on the socket path
    #[arg(long)]
    unprivileged: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KillArgument {
    /// The agent, with SIGKILL
    Agent,
    /// The network link
    Link,
    /// Both at once
    Both,
}

fn main() -> ExitCode {
    let Verb::Demo(arguments) = Arguments::parse().verb;
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if clock::is_interrupted() => {
            eprintln!("interrupted; everything is cleaned up");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &DemoArguments) -> Result<()> {
    if arguments.unprivileged {
        demo::become_root_inside()?;
    }
    clock::catch_interrupts()?;
    let report = demo::run(Options {
        keepalive: arguments.keepalive,
        deadtime: arguments.deadtime,
        kill: match arguments.kill {
            KillArgument::Agent => Kill::Agent,
            KillArgument::Link => Kill::Link,
            KillArgument::Both => Kill::Both,
        },
        json: arguments.json,
        unprivileged: arguments.unprivileged,
    })?;
    if arguments.json {
        println!("{}", report.to_json()?);
    }
    Ok(())
}

/// An interval as the configuration writes it: "500us", "10ms", "1.5s", a bare number is seconds.
fn interval(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        other => anyhow::bail!("`{other}` is no unit: write 500us, 10ms or 1.5s"),
    };
    let seconds = number.parse::<f64>().with_context(|| format!("`{text}` is no interval"))? * scale;
    ensure!(seconds > 0.0 && seconds <= 60.0, "between 0 and 60 seconds");
    Ok(Duration::from_secs_f64(seconds))
}
