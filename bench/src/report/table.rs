//! A table: named columns, rows of words and numbers.

use serde::Serialize;

/// One place of a table.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// A word.
    Text(String),
    /// A number, shown with so many digits behind the point; `None` was not measured.
    Number {
        /// The value.
        value: Option<f64>,
        /// Shown behind the point.
        #[serde(skip)]
        digits: usize,
    },
}

impl Cell {
    /// A word.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number; NaN was not measured.
    pub fn number(value: f64, digits: usize) -> Self {
        Self::Number { value: value.is_finite().then_some(value), digits }
    }

    /// A count.
    pub fn count(value: usize) -> Self {
        Self::number(value as f64, 0)
    }

    /// As tables show it.
    pub fn show(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number { value: Some(value), digits } => format!("{value:.digits$}"),
            Self::Number { value: None, .. } => "-".to_owned(),
        }
    }
}

/// The table.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Heads of the columns.
    pub columns: Vec<String>,
    /// As long as `columns` each.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.into(), columns, rows: Vec::new() }
    }

    /// Adds one.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }
}
