//! The host's side of `cargo xtask test --vm`, which finds or makes all that this is told of: boots two machines of each
//! kernel, one kernel after the other, and prints the table.

use std::env::set_current_dir;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_tests::lab::agent::new_keys;
use agent_tests::lab::clock;
use agent_tests::vm::checks;
use agent_tests::vm::pair::Parts;
use agent_tests::vm::table::{Row, Table};
use anyhow::{Context as _, Result};
use clap::Parser;

/// Exit code after Ctrl-C, as a shell would give it.
const INTERRUPTED: u8 = 130;

/// Boots machines of several kernels and checks xbeat on them.
#[derive(Parser)]
struct Arguments {
    /// qemu-system-x86_64
    #[arg(long)]
    qemu: PathBuf,
    /// The directory of static binaries
    #[arg(long)]
    programs: PathBuf,
    /// The directory of the eBPF objects
    #[arg(long)]
    objects: PathBuf,
    /// Where sockets and logs go; all paths are absolute
    #[arg(long)]
    run: PathBuf,
    /// A kernel: SERIES=DIRECTORY with vmlinuz and modules/
    #[arg(long, value_parser = pair)]
    kernel: Vec<(String, String)>,
    /// A kernel that could not be had: SERIES=REASON
    #[arg(long, value_parser = pair)]
    missing: Vec<(String, String)>,
    /// Leave sockets and logs
    #[arg(long)]
    keep: bool,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (left, right) = text.split_once('=').ok_or("SERIES=WHAT")?;
    Ok((left.to_owned(), right.to_owned()))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) if clock::is_interrupted() => {
            eprintln!("interrupted; the machines are gone");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    clock::catch_interrupts()?;
    fs::create_dir_all(&arguments.run).context("cannot make the directory of the run")?;
    // Paths of sockets are short by this: they end at 107 bytes.
    set_current_dir(&arguments.run).context("cannot enter the directory of the run")?;
    let outcome = rows(arguments);
    if arguments.keep {
        eprintln!("sockets and logs: {}", arguments.run.display());
    } else {
        fs::remove_dir_all(&arguments.run).context("cannot remove the directory of the run")?;
    }
    let table = Table::new(outcome?);
    let text = if arguments.json { table.json()? + "\n" } else { table.markdown() };
    print!("{text}");
    // The last line, also where the table goes to a file.
    eprintln!("{}", table.summary);
    Ok(table.summary.is_good())
}

fn rows(arguments: &Arguments) -> Result<Vec<Row>> {
    let keys = new_keys(&arguments.run)?;
    let mut rows = Vec::new();
    for (series, reason) in &arguments.missing {
        let mut row = Row::new(series);
        row.skip_the_rest(reason);
        rows.push(row);
    }
    for (series, directory) in &arguments.kernel {
        clock::check_interrupt()?;
        let parts = with_kernel(arguments, &keys, Path::new(directory));
        rows.push(checks::kernel(series, parts, Path::new(series)));
    }
    clock::check_interrupt()?;
    rows.push(checks::host(with_kernel(arguments, &keys, Path::new(""))));
    Ok(rows)
}

fn with_kernel<'a>(arguments: &'a Arguments, keys: &'a str, kernel: &'a Path) -> Parts<'a> {
    Parts { qemu: &arguments.qemu, kernel, programs: &arguments.programs, objects: &arguments.objects, keys }
}
