//! Figures beside their budgets: which are above, which are so far below that the budget guards nothing, which have none.

use anyhow::Result;

use super::{
    Class, Measured,
    budgets::{Budgets, Home},
};

/// One item and what came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// What it is.
    pub class: Class,
    /// Of what.
    pub item: String,
    /// Nothing is in the file.
    pub budget: Option<f64>,
    /// Nothing was measured.
    pub measured: Option<f64>,
    /// The most that is accepted.
    pub limit: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
}

/// What a figure came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As before, as far as one can tell.
    Within,
    /// More than is accepted.
    Above,
    /// So much less that the budget should be lowered.
    Below,
    /// Measured, but not in the file.
    NoBudget,
    /// In the file, but not there any more.
    Gone,
}

impl Verdict {
    /// Whether the change must not pass.
    pub const fn fails(self) -> bool {
        match self {
            Self::Within | Self::Below => false,
            Self::Above | Self::NoBudget | Self::Gone => true,
        }
    }

    /// For tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Within => "within",
            Self::Above => "ABOVE",
            Self::Below => "far below",
            Self::NoBudget => "NO BUDGET",
            Self::Gone => "GONE",
        }
    }
}

impl Finding {
    /// How far off it is, in percent of the budget.
    pub fn change_percent(&self) -> Option<f64> {
        Some((self.measured? / self.budget? - 1.0) * 100.0)
    }

    /// What is wrong and what to do; nothing when all is well.
    pub fn advice(&self) -> Option<String> {
        let shown = |value: Option<f64>| {
            value.map_or_else(|| "none".to_owned(), |value| format!("{value:.*}", self.class.digits()))
        };
        let what = format!(
            "{} of {:?}: budget {}, measured {}",
            self.class.label(),
            self.item,
            shown(self.budget),
            shown(self.measured)
        );
        let percent = self.change_percent().unwrap_or(0.0);
        match self.verdict {
            Verdict::Within => None,
            Verdict::Above => Some(format!(
                "{what} ({percent:+.1} %, at most {} is accepted). Make it cheaper, or accept it: cargo xtask bench guard \
                 --update, with the reason in the commit message",
                shown(self.limit)
            )),
            Verdict::Below => Some(format!(
                "{what} ({percent:+.1} %): so much better that the budget guards it no more. Tighten it: cargo xtask bench \
                 guard --update"
            )),
            Verdict::NoBudget => {
                Some(format!("{what}: new. Give it a budget: cargo xtask bench guard --update"))
            }
            Verdict::Gone => Some(format!(
                "{what}: nothing of this name is measured any more. If that is meant, take it out: cargo xtask bench guard \
                 --update"
            )),
        }
    }
}

/// Compares everything that was measured, `here`. Classes that were skipped are not judged.
///
/// # Errors
/// A class has no tolerance.
pub fn judge(budgets: &Budgets, measured: &Measured, here: &Home) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for class in Class::ALL {
        if measured.skipped.contains_key(&class) {
            continue;
        }
        let tolerance = budgets.tolerance(class)?;
        let is_other = class.is_of_kernel() && here.kernel != budgets.home.kernel;
        let above =
            if is_other { tolerance.other_kernel.unwrap_or(tolerance.above) } else { tolerance.above };
        // Another kernel may well have less of it, which says nothing of us.
        let below = if is_other { f64::INFINITY } else { tolerance.below };
        let (has, had) = (measured.figures.get(&class), budgets.budget.get(&class));
        for (item, value) in has.into_iter().flatten() {
            let budget = had.and_then(|had| had.get(item)).copied();
            let limit = budget.map(|budget| budget * (1.0 + above / 100.0));
            let verdict = match budget.zip(limit) {
                None => Verdict::NoBudget,
                Some((_, limit)) if *value > limit => Verdict::Above,
                Some((budget, _)) if *value < budget * (1.0 - below / 100.0) => Verdict::Below,
                Some(_) => Verdict::Within,
            };
            findings.push(Finding {
                class,
                item: item.clone(),
                budget,
                measured: Some(*value),
                limit,
                verdict,
            });
        }
        for (item, budget) in had.into_iter().flatten() {
            if has.is_none_or(|has| !has.contains_key(item)) {
                let (budget, measured, limit) = (Some(*budget), None, None);
                let verdict = Verdict::Gone;
                findings.push(Finding { class, item: item.clone(), budget, measured, limit, verdict });
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Finding, Verdict, judge};
    use crate::guard::{
        Class, Measured,
        budgets::{Budgets, Home, Tolerance},
    };

    fn home(kernel: &str) -> Home {
        Home { arch: "x86_64".to_owned(), kernel: kernel.to_owned() }
    }

    /// A budget of 100 for each class; 3 % above, 10 % below, 40 % on other kernels.
    fn budgets() -> Budgets {
        let tolerance = Tolerance { above: 3.0, below: 10.0, other_kernel: Some(40.0) };
        Budgets {
            tolerance: Class::ALL.into_iter().map(|class| (class, tolerance)).collect(),
            home: home("6.18"),
            budget: Class::ALL
                .into_iter()
                .map(|class| (class, BTreeMap::from([("item".to_owned(), 100.0)])))
                .collect(),
        }
    }

    fn one(class: Class, value: f64, here: &Home) -> Finding {
        let mut measured = Measured::default();
        measured.add(class, "item", value);
        for other in Class::ALL.into_iter().filter(|other| *other != class) {
            measured.skip(other, "not asked for");
        }
        let mut findings = judge(&budgets(), &measured, here).expect("judged");
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings.remove(0)
    }

    #[test]
    fn figures_are_judged_by_both_tolerances() {
        for class in Class::ALL {
            for (value, expected) in [
                (103.0, Verdict::Within),
                (103.1, Verdict::Above),
                (90.0, Verdict::Within),
                (89.9, Verdict::Below),
                (100.0, Verdict::Within),
            ] {
                let finding = one(class, value, &home("6.18"));
                assert_eq!(finding.verdict, expected, "{class:?} {value}");
                assert_eq!(finding.advice().is_none(), expected == Verdict::Within);
            }
        }
        assert!(Verdict::Above.fails() && !Verdict::Below.fails());
    }

    #[test]
    fn another_kernel_has_other_figures_of_programs_only() {
        let there = home("5.10");
        for (class, value, expected) in [
            (Class::Verified, 139.0, Verdict::Within),
            (Class::Verified, 141.0, Verdict::Above),
            (Class::Jited, 10.0, Verdict::Within),
            (Class::Callgrind, 104.0, Verdict::Above),
            (Class::Ratio, 104.0, Verdict::Above),
        ] {
            assert_eq!(one(class, value, &there).verdict, expected, "{class:?} {value}");
        }
    }

    #[test]
    fn what_is_new_and_what_is_gone_fails_and_says_what_to_do() {
        let mut measured = Measured::default();
        measured.add(Class::Ratio, "new", 1.0);
        for class in Class::ALL.into_iter().filter(|class| *class != Class::Ratio) {
            measured.skip(class, "no permission");
        }
        let findings = judge(&budgets(), &measured, &home("6.18")).expect("judged");
        let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::NoBudget, Verdict::Gone]);
        for finding in findings {
            assert!(finding.verdict.fails());
            assert!(finding.advice().is_some_and(|advice| advice.contains("bench guard --update")));
        }
    }

    #[test]
    fn a_failure_names_item_budget_and_measured() {
        let advice = one(Class::Callgrind, 120.0, &home("6.18")).advice().expect("advice");
        for part in ["\"item\"", "budget 100", "measured 120", "+20.0 %", "at most 103", "commit message"] {
            assert!(advice.contains(part), "{part} in {advice}");
        }
    }
}
