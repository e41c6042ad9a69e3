//! The command line: arguments, exit codes, and one module for each command that does more than ask the agent.
//! Commands that talk to the agent wait for its answer and report it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client;
use crate::ctl::protocol::Request;

mod check;
mod doctor;
mod import;
mod keygen;
mod node;
pub mod print;
mod run;

/// Where the configuration is unless `--config` says otherwise.
pub const CONFIG: &str = "/etc/xbeat/xbeat.toml";

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The answer is no, or it failed.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No agent answers.
    NotRunning = 3,
    /// Not permitted.
    NotPermitted = 4,
    /// The configuration is wrong.
    Configuration = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Heartbeat agent for Linux high-availability clusters.
#[derive(Debug, Parser)]
#[command(name = "xbeat", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    /// Configuration file; names the agent that a command talks to
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Control socket of the agent, instead of the one that the configuration names
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 no or failed, 2 usage, 3 not running, 4 not permitted, 6 configuration";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent in the foreground
    Run,
    /// Check the configuration and say what it means
    Check(CheckArgs),
    /// Show nodes, groups and how the agent runs
    Status {
        /// One JSON object, a stable interface
        #[arg(long)]
        json: bool,
    },
    /// Show nodes, links, groups and events as they change; q quits
    Top,
    /// Show what happened
    Events(EventsArgs),
    /// Hand a group over to another node and do not take it again
    Standby(GroupArgs),
    /// Take a group from the node that holds it
    Takeover(GroupArgs),
    /// Suspend decisions, or take them up again; what is served stays served
    Maintenance {
        /// Whether decisions are suspended
        #[arg(value_enum)]
        switch: Switch,
    },
    /// Put the binary on disk in the place of the running agent, without a gap: for upgrades
    Restart,
    /// Read configuration and keys again; what cannot change live is taken up by a restart without a gap
    Reload,
    /// Take in a node that the configuration file does not list, or remove one that joined
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Look at this machine: what the agent needs, what is in its way, and what to do about it
    Doctor {
        /// One JSON object, a stable interface
        #[arg(long)]
        json: bool,
    },
    /// Convert the files of a Linux-HA heartbeat cluster: ha.cf, haresources and authkeys
    Import(import::ImportArgs),
    /// Make a key file, or add a key to one
    Keygen(KeygenArgs),
}

/// What `xbeat check` is asked besides.
#[derive(Debug, Args)]
struct CheckArgs {
    /// Part of the frames that every link loses: what it does to these intervals [default: one line for 1%]
    #[arg(long, value_name = "PART", value_parser = crate::loss::part)]
    loss: Option<f64>,
    /// How many frames a link loses in a row, in the mean [default: losses know nothing of each other]
    #[arg(long, value_name = "FRAMES", requires = "loss", value_parser = crate::loss::burst)]
    burst: Option<f64>,
    /// Whether this binary can go on from an agent that keeps its state in this form
    #[arg(long, value_name = "TERMS", hide = true)]
    resumes: Option<String>,
}

/// What `xbeat events` shows.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with what happens from now on
    #[arg(long, short)]
    pub follow: bool,
    /// One JSON object a line, a stable interface
    #[arg(long)]
    pub json: bool,
    /// How many past events to begin with [default: all that the agent remembers]
    #[arg(long, short = 'n', value_name = "N")]
    pub lines: Option<u32>,
}

/// Which groups a command is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct GroupArgs {
    /// The group's name
    group: Option<String>,
    /// Every group of this node
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// Suspend
    On,
    /// Take up again
    Off,
}

#[derive(Debug, Args)]
struct KeygenArgs {
    /// The key file
    #[arg(long, short, value_name = "FILE", default_value = crate::config::KEY_FILE)]
    out: PathBuf,
    /// Id of the key, 1 to 255 [default: 1, or the lowest free one with --add]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    id: Option<u8>,
    /// Add a key to a file that exists
    #[arg(long)]
    add: bool,
}

/// Parses the arguments of this process and does what they say.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // With nobody to read it, there is nobody to tell.
            let _ = error.print();
            return exit;
        }
    };
    match cli.command {
        Command::Run => run::run(&cli.config, cli.socket),
        Command::Check(CheckArgs { resumes: Some(terms), .. }) => check::resumes(&cli.config, &terms),
        Command::Check(CheckArgs { loss, burst, resumes: None }) => check::check(&cli.config, loss, burst),
        Command::Status { json } => client::status(&cli.config, cli.socket, json),
        Command::Top => crate::top::top(&cli.config, cli.socket),
        Command::Events(args) => client::events(&cli.config, cli.socket, &args),
        Command::Standby(GroupArgs { group, .. }) => {
            let done = format!("{} handed over", what(group.as_deref()));
            client::operate(&cli.config, cli.socket, &Request::Standby { group }, &done)
        }
        Command::Takeover(GroupArgs { group, .. }) => {
            let done = format!("{} served here", what(group.as_deref()));
            client::operate(&cli.config, cli.socket, &Request::Takeover { group }, &done)
        }
        Command::Maintenance { switch } => {
            let (on, done) = match switch {
                Switch::On => {
                    (true, "maintenance is on: decisions are suspended, what is served stays served")
                }
                Switch::Off => (false, "maintenance is off: decisions are made again"),
            };
            client::operate(&cli.config, cli.socket, &Request::Maintenance { on }, done)
        }
        Command::Restart => client::changeover::restart(&cli.config, cli.socket),
        Command::Reload => client::changeover::reload(&cli.config, cli.socket),
        Command::Node(command) => node::node(&cli.config, cli.socket, command),
        Command::Doctor { json } => doctor::doctor(&cli.config, cli.socket.as_deref(), json),
        Command::Import(args) => import::import(&args),
        Command::Keygen(args) => keygen::keygen(&args.out, args.id, args.add),
    }
}

fn what(group: Option<&str>) -> String {
    group.map_or_else(|| "every group is".to_owned(), |group| format!("group {group} is"))
}
