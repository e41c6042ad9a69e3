//! Instructions of the core, counted by valgrind's callgrind while `bench-subject` runs a steady cluster: one heartbeat in, one
//! round out, by the number of nodes. Counts are the same each time, whatever else the machine does.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Class, Measured};

/// Sizes of the cluster.
const NODES: [u8; 3] = [2, 8, 32];
/// Each counted; the mean is taken.
const ROUNDS: &str = "100";

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Heartbeat,
    Tick,
}

impl Part {
    const ALL: [Self; 2] = [Self::Heartbeat, Self::Tick];

    /// The subject's function, whatever its symbol is made of.
    const fn symbol(self) -> &'static str {
        match self {
            Self::Heartbeat => "*measured_heartbeat*",
            Self::Tick => "*measured_tick*",
        }
    }

    /// How the subject says how often it was called.
    const fn word(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeats",
            Self::Tick => "ticks",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat in",
            Self::Tick => "round out",
        }
    }
}

/// Whether valgrind can be run.
pub fn is_installed() -> bool {
    let status =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Counts for all sizes. `at` is told what comes next.
///
/// # Errors
/// The subject or valgrind fails, or nothing was counted.
pub fn measure(measured: &mut Measured, subject: &Path, mut at: impl FnMut(&str)) -> Result<()> {
    ensure!(subject.is_file(), "no {} (cargo build --release -p bench-subject makes it)", subject.display());
    for nodes in NODES {
        for part in Part::ALL {
            let item = format!("{}, {nodes:02} nodes", part.label());
            at(&item);
            let count = count(subject, nodes, part).with_context(|| item.clone())?;
            measured.add(Class::Callgrind, item, count.round());
        }
    }
    Ok(())
}

/// Instructions of one call.
fn count(subject: &Path, nodes: u8, part: Part) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={}", part.symbol()))
        .arg(subject)
        .args([&nodes.to_string(), ROUNDS])
        .output()
        .context("cannot run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind: {}\n{said}", output.status);
    }
    let calls = calls(&String::from_utf8_lossy(&output.stdout), part);
    let calls = calls.context("the subject does not say how often it was called")?;
    let collected =
        collected(&said).with_context(|| format!("valgrind does not say what it collected:\n{said}"))?;
    ensure!(collected > 0 && calls > 0, "{} was not met: {collected} instructions", part.symbol());
    Ok(collected as f64 / calls as f64)
}

/// `==7== Collected : 88918`.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

/// `heartbeats 100 ticks 100`.
fn calls(printed: &str, part: Part) -> Option<u64> {
    let mut words = printed.split_whitespace().skip_while(|word| *word != part.word());
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Part, calls, collected};

    #[test]
    fn what_both_say_is_understood() {
        let said = "==7== Callgrind, a call-graph\n==7== Events    : Ir\n==7== Collected : 88918\n==7== \n";
        assert_eq!(collected(said), Some(88_918));
        assert_eq!(collected("==7== Collected : none"), None);
        assert_eq!(calls("heartbeats 3100 ticks 100\n", Part::Heartbeat), Some(3_100));
        assert_eq!(calls("heartbeats 3100 ticks 100\n", Part::Tick), Some(100));
        assert_eq!(calls("error: usage", Part::Tick), None);
    }
}
