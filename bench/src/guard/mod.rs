//! The guard against changes that make the program slower unnoticed: what it costs, in figures that a busy machine does not
//! change much, beside `bench/budgets.toml`. [`programs`] asks the verifier, [`ratios`] times frames beside a reference program,
//! [`callgrind`] counts the core's instructions; [`budgets`] is the file and [`judge`] the comparison.

pub mod budgets;
pub mod callgrind;
pub mod judge;
pub mod programs;
pub mod ratios;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a figure is, which decides how much of a change is still noise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Instructions that the verifier walked through, by program.
    Verified,
    /// Bytes of a program as the kernel has it, before it is compiled.
    Translated,
    /// Bytes of machine code.
    Jited,
    /// Time of a frame over that of the reference program.
    Ratio,
    /// Instructions of the core, by callgrind.
    Callgrind,
}

impl Class {
    /// All, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Verified, Self::Translated, Self::Jited, Self::Ratio, Self::Callgrind];

    /// As the file has it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Translated => "translated",
            Self::Jited => "jited",
            Self::Ratio => "ratio",
            Self::Callgrind => "callgrind",
        }
    }

    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Verified => "instructions verified",
            Self::Translated => "bytes translated",
            Self::Jited => "bytes of machine code",
            Self::Ratio => "time / reference",
            Self::Callgrind => "instructions of the core",
        }
    }

    /// Digits behind the point.
    pub const fn digits(self) -> usize {
        match self {
            Self::Verified | Self::Translated | Self::Jited | Self::Callgrind => 0,
            Self::Ratio => 3,
        }
    }

    /// Whether another kernel has other figures for the same program.
    pub const fn is_of_kernel(self) -> bool {
        match self {
            Self::Verified | Self::Translated | Self::Jited => true,
            Self::Ratio | Self::Callgrind => false,
        }
    }
}

/// Figures by what they are of.
pub type Figures = BTreeMap<Class, BTreeMap<String, f64>>;

/// What was measured, and what was not and why.
#[derive(Clone, Default, Debug)]
pub struct Measured {
    /// Complete in each class that is there.
    pub figures: Figures,
    /// The reason for each class that is not.
    pub skipped: BTreeMap<Class, String>,
}

impl Measured {
    /// Adds one.
    pub fn add(&mut self, class: Class, item: impl Into<String>, value: f64) {
        self.figures.entry(class).or_default().insert(item.into(), value);
    }

    /// Leaves a class out.
    pub fn skip(&mut self, class: Class, reason: &str) {
        self.skipped.insert(class, reason.to_owned());
    }
}
