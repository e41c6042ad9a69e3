//! `xbeat import`: from the files of a Linux-HA heartbeat 3 cluster (ha.cf, haresources, authkeys) to `xbeat.toml`. What has no
//! equivalent is listed with what to do instead; what heartbeat's files do not say is marked, and `xbeat check` refuses it.

mod authkeys;
mod directive;
mod hacf;
mod haresources;
mod write;

use std::path::Path;

use thiserror::Error;

pub use authkeys::authkeys;
pub use hacf::{HaCf, Medium};
pub use haresources::{Address, Line};
pub use write::toml;

/// Marks a value that heartbeat's files do not say.
pub const FILL_IN: &str = "FILL IN";
/// Largest file that is read.
pub const FILE_MAX: u64 = 1024 * 1024;

/// Why nothing was converted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    /// Its resources are Pacemaker's.
    #[error(
        "{file}:{line}: `{directive}` makes this a Pacemaker cluster: its resources are not in haresources, and xbeat has no \
         equivalent of its constraints; write xbeat.toml by hand (docs/configuration.md)"
    )]
    Pacemaker {
        /// Which file.
        file: String,
        /// Where.
        line: usize,
        /// As it is written.
        directive: String,
    },
    /// No `node`.
    #[error("{0} names no node: give the ha.cf of a cluster that has `node` lines")]
    NoNode(String),
    /// More than can be.
    #[error("{file} has {count} {what}, and at most {most} are possible")]
    TooMany {
        /// Which file.
        file: String,
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many can be.
        most: usize,
    },
}

/// Something that an operator must know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The file's name.
    pub file: String,
    /// Its line, from 1; 0 for the whole file.
    pub line: usize,
    /// What it says, and what to do.
    pub text: String,
}

impl std::fmt::Display for Remark {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.file, self.text),
            line => write!(out, "{}:{line}: {}", self.file, self.text),
        }
    }
}

/// Collects remarks about one file.
#[derive(Debug)]
pub struct Remarks {
    file: String,
    list: Vec<Remark>,
}

impl Remarks {
    /// Of this file.
    pub fn of(file: &Path) -> Self {
        Self { file: file.display().to_string(), list: Vec::new() }
    }

    fn add(&mut self, line: usize, text: impl Into<String>) {
        self.list.push(Remark { file: self.file.clone(), line, text: text.into() });
    }

    fn has(&self, line: usize, text: &str) -> bool {
        self.list.iter().any(|remark| remark.line == line && remark.text == text)
    }

    /// All, in order of place.
    pub fn into_list(mut self) -> Vec<Remark> {
        self.list.sort_by_key(|remark| remark.line);
        self.list
    }
}

#[cfg(test)]
mod tests;
