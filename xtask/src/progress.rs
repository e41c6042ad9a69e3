//! What a person sees while something takes long: a spinner with the elapsed time on a terminal, plain lines elsewhere.
//! Everything goes to stderr, so that stdout holds results only.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two redraws of the spinner.
const TICK: Duration = Duration::from_millis(120);
/// Between two plain lines where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

/// One step under way. Dropping it without [`Step::done`] removes the spinner and says nothing more.
pub(crate) struct Step {
    name: String,
    bar: ProgressBar,
    last_note: Duration,
    plain: bool,
}

impl Step {
    /// Shows the step as begun.
    pub(crate) fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if plain {
            eprintln!("... {name}");
        } else {
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(TICK);
        }
        Self { name, bar, last_note: Duration::ZERO, plain }
    }

    /// Shows what the step is at: each time on a terminal, now and then elsewhere.
    pub(crate) fn note(&mut self, what: &str) {
        if !self.plain {
            self.bar.set_message(what.to_owned());
        } else if self.bar.elapsed() >= self.last_note + PLAIN_INTERVAL {
            self.last_note = self.bar.elapsed();
            eprintln!("... {} ({:.0} s) {what}", self.name, self.last_note.as_secs_f64());
        }
    }

    /// Prints a line above the spinner.
    pub(crate) fn line(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Ends the step with its result and the time it took.
    pub(crate) fn done(self, result: &str) {
        let elapsed = self.bar.elapsed();
        self.bar.finish_and_clear();
        let separator = if result.is_empty() { "" } else { ": " };
        eprintln!("ok  {}{separator}{result} ({:.1} s)", self.name, elapsed.as_secs_f64());
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// One item that needed nothing to be done.
pub(crate) fn found(name: &str, what: &str) {
    eprintln!("ok  {name}: {what}");
}

/// Something that is missing and that one can go on without.
pub(crate) fn warn(name: &str, what: &str) {
    eprintln!("!!  {name}: {what}");
}
