//! The file of budgets: tolerances and remarks that people write, and below a marker the figures that `--update` writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Class, Figures, Measured};
use crate::machine::Machine;

/// Begins what is written anew; the lines after it, too, are part of it.
const MARKER: &str = "# ---- measured ----";
const MARKER_TEXT: &str = "# ---- measured ----\n# Written by `cargo xtask bench guard --update`; remarks below this line are lost.\n";

/// How far a figure may be from its budget, in percent of it.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Above: more fails.
    pub above: f64,
    /// Below: less is pointed out, for the budget guards nothing any more.
    pub below: f64,
    /// Instead of `above` where the kernel is of another series than that of the budgets.
    pub other_kernel: Option<f64>,
}

/// Whose figures the budgets are.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// Of the processor, as Rust has it.
    pub arch: String,
    /// "6.18".
    pub kernel: String,
}

impl Home {
    /// This machine.
    pub fn here() -> Self {
        let kernel = Machine::here().kernel;
        let series: Vec<&str> = kernel.split(['.', '-']).take(2).collect();
        Self { arch: std::env::consts::ARCH.to_owned(), kernel: series.join(".") }
    }
}

/// The file.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// By class; all of them.
    pub tolerance: BTreeMap<Class, Tolerance>,
    /// Whose.
    pub home: Home,
    /// The budgets.
    #[serde(default)]
    pub budget: Figures,
}

impl Budgets {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// It is no TOML, has keys that it should not, or lacks a tolerance.
    pub fn parse(text: &str) -> Result<Self> {
        let budgets: Self = toml::from_str(text)?;
        for class in Class::ALL {
            let tolerance = budgets.tolerance(class)?;
            let numbers = [Some(tolerance.above), Some(tolerance.below), tolerance.other_kernel];
            let is_percent = |value: f64| value.is_finite() && value >= 0.0;
            ensure!(
                numbers.into_iter().flatten().all(is_percent),
                "[tolerance.{}]: percent, not below zero",
                class.key()
            );
        }
        for (class, items) in &budgets.budget {
            for (item, value) in items {
                ensure!(value.is_finite() && *value > 0.0, "[budget.{}] {item:?}: above zero", class.key());
            }
        }
        Ok(budgets)
    }

    /// A class's tolerance.
    ///
    /// # Errors
    /// There is none.
    pub fn tolerance(&self, class: Class) -> Result<Tolerance> {
        self.tolerance.get(&class).copied().with_context(|| format!("no [tolerance.{}]", class.key()))
    }
}

/// The text of the file with measured figures in it. Classes that were not measured keep the budgets that they have.
///
/// # Errors
/// The file has no marker, or would not be readable.
pub fn updated(text: &str, old: &Budgets, measured: &Measured, home: &Home) -> Result<String> {
    let (head, _) = text.split_once(MARKER).with_context(|| format!("the file lacks the line {MARKER:?}"))?;
    let mut new = format!("{head}{MARKER_TEXT}\n[home]\n");
    let _ = write!(new, "arch = {:?}\nkernel = {:?}\n", home.arch, home.kernel);
    for class in Class::ALL {
        let Some(items) = measured.figures.get(&class).or_else(|| old.budget.get(&class)) else { continue };
        let _ = write!(new, "\n[budget.{}]\n", class.key());
        for (item, value) in items {
            let _ = writeln!(new, "{item:?} = {value:.*}", class.digits());
        }
    }
    Budgets::parse(&new).context("the file as it would be written")?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::{Budgets, Home, updated};
    use crate::guard::{Class, Measured};

    const HEAD: &str = "# A remark.\n[tolerance]\nverified = { above = 3, below = 10, other_kernel = 40 } # why\n\
        translated = { above = 3, below = 10 }\njited = { above = 3, below = 10 }\nratio = { above = 60.5, below = 60 }\n\
        callgrind = { above = 3, below = 10 }\n\n";
    const TAIL: &str = "# ---- measured ----\n[home]\narch = \"x86_64\"\nkernel = \"6.18\"\n\
        [budget.verified]\nxbeat = 100\ngone = 3\n[budget.callgrind]\n\"tick, 2 nodes\" = 7\n";

    fn home() -> Home {
        Home { arch: "x86_64".to_owned(), kernel: "6.19".to_owned() }
    }

    #[test]
    fn a_file_is_read() {
        let budgets = Budgets::parse(&format!("{HEAD}{TAIL}")).expect("budgets");
        assert_eq!(budgets.tolerance(Class::Verified).expect("one").other_kernel, Some(40.0));
        assert_eq!(budgets.tolerance(Class::Ratio).expect("one").above, 60.5);
        assert_eq!(budgets.budget[&Class::Callgrind]["tick, 2 nodes"], 7.0);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_said() {
        let file = format!("{HEAD}{TAIL}");
        for (from, to, said) in [
            ("[budget.verified]", "[budget.verifed]", "verifed"),
            ("ratio = { above = 60.5, below = 60 }\n", "", "no [tolerance.ratio]"),
            ("above = 60.5", "above = -1", "not below zero"),
            ("above = 60.5", "abov = 1", "abov"),
            ("xbeat = 100", "xbeat = 0", "above zero"),
            ("xbeat = 100", "xbeat = \"many\"", "many"),
            ("kernel = \"6.18\"", "", "kernel"),
        ] {
            assert!(file.contains(from), "{from}");
            let error = format!("{:#}", Budgets::parse(&file.replace(from, to)).expect_err(to));
            assert!(error.contains(said), "{said} in {error}");
        }
    }

    #[test]
    fn an_update_keeps_what_people_wrote_and_what_was_not_measured() {
        let text = format!("{HEAD}{TAIL}");
        let old = Budgets::parse(&text).expect("budgets");
        let mut measured = Measured::default();
        measured.add(Class::Verified, "xbeat", 120.0);
        measured.add(Class::Ratio, "forged", 0.12345);
        let new = updated(&text, &old, &measured, &home()).expect("written");
        assert!(new.starts_with(HEAD), "{new}");
        let read = Budgets::parse(&new).expect("budgets");
        assert_eq!(read.home, home());
        assert_eq!(read.budget[&Class::Verified].len(), 1, "{new}");
        assert_eq!(read.budget[&Class::Verified]["xbeat"], 120.0);
        assert_eq!(read.budget[&Class::Ratio]["forged"], 0.123);
        assert_eq!(read.budget[&Class::Callgrind], old.budget[&Class::Callgrind]);
        assert_eq!(updated(&new, &read, &measured, &home()).expect("written"), new, "the same again");
        assert!(updated(HEAD, &old, &measured, &home()).is_err(), "no marker");
    }
}
