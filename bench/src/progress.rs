//! How far a benchmark is, on standard error: a bar with the time that is left on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;

use agent_tests::lab::clock;
use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines where no terminal shows a bar.
const QUIET_NS: u64 = 30_000_000_000;

/// A bar of so many steps. It is removed when this is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    title: String,
    is_terminal: bool,
    said_ns: u64,
}

impl Progress {
    /// Nothing is done yet.
    pub fn new(title: impl Into<String>, steps: usize) -> Self {
        let title = title.into();
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(steps as u64) } else { ProgressBar::hidden() };
        bar.set_length(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg} ({eta} left)")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(title.clone());
        Self { bar, title, is_terminal, said_ns: clock::now_ns() }
    }

    /// What is done now.
    pub fn at(&mut self, what: impl Into<String>) {
        let what = what.into();
        let now_ns = clock::now_ns();
        if !self.is_terminal && now_ns - self.said_ns >= QUIET_NS {
            self.said_ns = now_ns;
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            eprintln!("{}: {done}/{all} {what}", self.title);
        }
        self.bar.set_message(what);
    }

    /// A step is done.
    pub fn step(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
