//! Running cargo: the host's, with its current crate shown while it builds and its diagnostics kept.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{progress::Step, shell, workspace::Workspace};

/// Cargo right-aligns its status words (`Compiling`, `Downloaded`) in this many columns.
const STATUS_COLUMNS: usize = 12;

/// The host's cargo, in the root of the workspace.
pub(crate) fn host(workspace: &Workspace) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = shell::command(cargo);
    command.current_dir(workspace.root()).env("CARGO_TARGET_DIR", workspace.target());
    command
}

/// Runs a cargo command as a step: the status lines become its progress, warnings pass through, and a failure prints
/// everything else that cargo said.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<()> {
    let mut step = Step::start(name);
    let diagnostics = watch(&mut step, command)?;
    for line in diagnostics {
        step.line(&line);
    }
    step.done("");
    Ok(())
}

/// Runs a cargo command under a step of the caller's, and returns the lines that were not about progress.
pub(crate) fn watch(step: &mut Step, command: &mut Command) -> Result<Vec<String>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let described = shell::describe(command);
    let mut child = command.spawn().with_context(|| format!("cannot run {described}"))?;
    let stderr = child.stderr.take().context("cargo's stderr is not a pipe")?;
    let mut diagnostics = Vec::new();
    for line in BufReader::new(stderr).lines() {
        let line = line.context("cannot read what cargo says")?;
        match status(&line) {
            Some(what) => step.note(what),
            None => diagnostics.push(line),
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for {described}"))?;
    if !status.success() {
        for line in &diagnostics {
            step.line(line);
        }
        bail!("{described} failed: {status}");
    }
    Ok(diagnostics)
}

/// The progress that a line of cargo's reports; `None` for a diagnostic.
fn status(line: &str) -> Option<&str> {
    let (word, rest) = (line.get(..STATUS_COLUMNS)?, line.get(STATUS_COLUMNS..)?);
    let verb = word.trim_start();
    let is_verb = verb.starts_with(|c: char| c.is_ascii_uppercase()) && verb.chars().all(char::is_alphabetic);
    (is_verb && rest.starts_with(' ')).then(|| line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_and_diagnostics_are_told_apart() {
        for (line, expected) in [
            ("   Compiling aya v0.14.0", Some("Compiling aya v0.14.0")),
            ("  Downloaded libc v0.2.191", Some("Downloaded libc v0.2.191")),
            ("    Finished `release` profile", Some("Finished `release` profile")),
            ("warning: unused variable: `x`", None),
            ("error[E0308]: mismatched types", None),
            ("  --> src/main.rs:1:1", None),
            ("   |", None),
            ("", None),
        ] {
            assert_eq!(status(line), expected, "{line}");
        }
    }
}
