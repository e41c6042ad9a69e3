//! What a benchmark leaves: tables, plots and goals, as text on the screen and as `NAME.json`, `NAME.md` and `NAME-PLOT.svg` in
//! a directory. The machine stands at the head of each.

mod markdown;
mod plot;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

pub use plot::{Curve, Plot, Scale};
pub use table::{Cell, Table};

use crate::machine::Machine;

/// Everything that one benchmark found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// As `cargo xtask bench` has it.
    pub name: &'static str,
    /// What it is about, one line.
    pub title: String,
    /// Where.
    pub machine: Machine,
    /// Versions of the software, one line each.
    pub versions: Vec<String>,
    /// What a reader must know about the method.
    pub notes: Vec<String>,
    /// In order.
    pub tables: Vec<Table>,
    /// In order.
    pub plots: Vec<Plot>,
    /// What was to be reached.
    pub goals: Vec<Goal>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// A goal and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// What is bounded.
    pub what: String,
    /// What was measured, `None` for nothing: not met.
    pub measured: Option<f64>,
    /// The bound.
    pub at_most: f64,
    /// ms, %, ns.
    pub unit: &'static str,
}

/// What a report's plots are drawn from.
#[derive(Deserialize)]
struct Drawn {
    name: String,
    plots: Vec<Plot>,
}

/// Draws the plots of a report again, from `NAME.json` and beside it.
///
/// # Errors
/// It cannot be read, is no report, or a plot cannot be written.
pub fn redraw(json: &Path) -> Result<()> {
    let text = fs::read_to_string(json).with_context(|| format!("cannot read {}", json.display()))?;
    let report: Drawn = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what a benchmark wrote with --out", json.display()))?;
    for plot in &report.plots {
        let path = json.with_file_name(plot.file(&report.name));
        fs::write(&path, plot.svg()?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl Goal {
    /// `measured` may be NaN, which is nothing.
    pub fn new(what: impl Into<String>, measured: f64, at_most: f64, unit: &'static str) -> Self {
        Self { what: what.into(), measured: measured.is_finite().then_some(measured), at_most, unit }
    }

    /// Whether it was reached.
    pub fn is_met(&self) -> bool {
        self.measured.is_some_and(|measured| measured <= self.at_most)
    }
}

impl Report {
    /// Nothing found yet.
    pub fn new(name: &'static str, title: impl Into<String>) -> Self {
        Self {
            name,
            title: title.into(),
            machine: Machine::here(),
            versions: Vec::new(),
            notes: Vec::new(),
            tables: Vec::new(),
            plots: Vec::new(),
            goals: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// For people, as Markdown.
    pub fn markdown(&self) -> String {
        markdown::write(self)
    }

    /// Prints it, and writes all files into `directory` if there is one.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn publish(&self, directory: Option<&Path>) -> Result<()> {
        let text = self.markdown();
        println!("{text}");
        let Some(directory) = directory else { return Ok(()) };
        fs::create_dir_all(directory).context("cannot make the directory for results")?;
        let write = |file: String, content: &str| {
            let path = directory.join(file);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
        };
        write(format!("{}.md", self.name), &text)?;
        write(format!("{}.json", self.name), &serde_json::to_string_pretty(self)?)?;
        for plot in &self.plots {
            write(plot.file(self.name), &plot.svg()?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Curve, Goal, Plot, Report, Scale, Table, redraw};

    #[test]
    fn all_of_it_is_in_the_files() {
        let mut report = Report::new("sample", "what a sample is");
        let mut table = Table::new("by size", &["size", "ms"]);
        table.row(vec![Cell::text("small"), Cell::number(1.25, 2)]);
        table.row(vec![Cell::text("large"), Cell::number(f64::NAN, 2)]);
        report.tables.push(table);
        let mut plot = Plot::new("by-size", "by size", "size", "ms").scale(Scale::Linear, Scale::Log);
        plot.curves.push(Curve::new("xbeat", vec![(1.0, 0.1), (2.0, 100.0), (3.0, 0.0)]));
        report.plots.push(plot);
        report.goals.push(Goal::new("met", 1.0, 2.0, "ms"));
        report.goals.push(Goal::new("not measured", f64::NAN, 2.0, "ms"));
        report.skipped.push("corosync: not installed".to_owned());

        let directory = tempfile::tempdir().expect("a directory");
        report.publish(Some(directory.path())).expect("written");
        let read = |file: &str| std::fs::read_to_string(directory.path().join(file)).expect(file);
        // Columns are padded.
        let text = read("sample.md").split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["| small | 1.25 |", "| large | - |", "| met | 1 | 2 ms | met |", "MISSED", "corosync"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json: serde_json::Value = serde_json::from_str(&read("sample.json")).expect("JSON");
        assert_eq!(json["goals"][1]["measured"], serde_json::Value::Null);
        let svg = read("sample-by-size.svg");
        assert!(svg.contains("<svg") && svg.contains("xbeat"));

        let file = |name: &str| directory.path().join(name);
        std::fs::remove_file(file("sample-by-size.svg")).expect("removed");
        redraw(&file("sample.json")).expect("drawn again");
        assert_eq!(read("sample-by-size.svg"), svg);
        let error = redraw(&file("sample.md")).expect_err("no report");
        assert!(error.to_string().contains("--out"), "{error}");
    }
}
