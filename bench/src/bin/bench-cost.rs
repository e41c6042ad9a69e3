//! `cargo xtask bench cost`: processor time, wake-ups, memory and bytes of a heartbeat, by the size of the cluster.

use std::process::ExitCode;

use bench::options::{self, Options};
use clap::Parser;

/// What a heartbeat costs; about six minutes with --peers.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    options::run(|| bench::cost::run(&arguments.options)?.publish(arguments.options.out.as_deref()))
}
