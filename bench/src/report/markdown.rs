//! A report as Markdown that reads well as plain text, too: columns of one width.

use std::fmt::Write as _;

use super::{Cell, Report, Table};

pub(super) fn write(report: &Report) -> String {
    let mut text = format!("# {}: {}\n\n{}\n", report.name, report.title, report.machine.line());
    for line in &report.versions {
        let _ = writeln!(text, "- {line}");
    }
    for note in &report.notes {
        let _ = write!(text, "\n{note}\n");
    }
    for table in &report.tables {
        text += &one(table);
    }
    if !report.goals.is_empty() {
        let mut goals = Table::new("Goals", &["goal", "measured", "at most", ""]);
        for goal in &report.goals {
            let measured = goal.measured.map_or_else(|| "-".to_owned(), short);
            let verdict = if goal.is_met() { "met" } else { "MISSED" };
            let bound = format!("{} {}", short(goal.at_most), goal.unit);
            goals.row([goal.what.clone(), measured, bound, verdict.to_owned()].map(Cell::text).to_vec());
        }
        text += &one(&goals);
    }
    for plot in &report.plots {
        let _ = write!(text, "\n![{}]({})\n", plot.title, plot.file(report.name));
    }
    for skipped in &report.skipped {
        let _ = write!(text, "\nSKIP: {skipped}\n");
    }
    text
}

fn one(table: &Table) -> String {
    let shown: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(Cell::show).collect()).collect();
    let mut widths: Vec<usize> = table.columns.iter().map(|column| column.chars().count().max(3)).collect();
    for row in &shown {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    // Numbers stand to the right: a column is one of numbers when nothing else is in it.
    let is_number = |column: usize| {
        !table.rows.is_empty()
            && table.rows.iter().all(|row| matches!(row.get(column), Some(Cell::Number { .. })))
    };
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if is_number(column) { format!(" {cell:>width$} |") } else { format!(" {cell:<width$} |") }
        });
        format!("|{}\n", padded.collect::<String>())
    };
    let rule: String = widths
        .iter()
        .enumerate()
        .map(|(column, width)| {
            if is_number(column) {
                format!("{}:|", "-".repeat(width + 1))
            } else {
                format!("{}|", "-".repeat(width + 2))
            }
        })
        .collect();
    let rows: String = shown.iter().map(|row| line(row)).collect();
    format!("\n## {}\n\n{}|{rule}\n{rows}", table.title, line(&table.columns))
}

/// Three digits that count.
fn short(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (2.0 - value.abs().log10().floor()).clamp(0.0, 4.0) as usize };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
