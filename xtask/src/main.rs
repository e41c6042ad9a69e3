//! `cargo xtask VERB`: the one door through which people and CI build, test, show and measure xbeat.
//! One module a verb; each verb first sees to it that what it needs is there (see [`setup`]).

mod bench;
mod build;
mod build_ebpf;
mod cargo;
mod ci;
mod demo;
mod privilege;
mod progress;
mod setup;
mod shell;
mod sim;
mod strip;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Builds, tests, shows and measures xbeat.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install what the other verbs need; say what was found or done
    Setup(setup::Args),
    /// Build the eBPF object into target/xbeat.bpf.o and say what the kernel makes of it
    BuildEbpf(build_ebpf::Args),
    /// Build the eBPF object and the release binary that embeds it: target/release/xbeat
    Build(build::Args),
    /// Build, then show a takeover between two nodes in network namespaces
    Demo(demo::Args),
    /// Build, then run every test of the workspace
    Test(test::Args),
    /// Build for release, then simulate clusters by seed and check the invariants
    Sim(sim::Args),
    /// Everything that a change must pass: format, lints, documentation, dependencies, budgets, tests
    Ci(ci::Args),
    /// Build, then run a benchmark; without a name, say which there are
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let workspace = Workspace::locate()?;
    match verb {
        Verb::Setup(args) => setup::run(&workspace, &args),
        Verb::BuildEbpf(args) => build_ebpf::run(&workspace, &args),
        Verb::Build(args) => build::run(&workspace, &args),
        Verb::Demo(args) => demo::run(&workspace, &args),
        Verb::Test(args) => test::run(&workspace, &args),
        Verb::Sim(args) => sim::run(&workspace, &args),
        Verb::Ci(args) => ci::run(&workspace, &args),
        Verb::Bench(args) => bench::run(&workspace, &args),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        for line in [
            "test",
            "test -p agent-core name",
            "test --vm --kernel 5.10,6.1 --keep --json",
            "bench",
            "bench --install-peers",
        ] {
            let words = ["cargo xtask"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["cargo xtask", "test", "--keep"]).is_err(), "--keep without --vm");
    }
}
