//! What `xbeat check` says about loss: one line for 1 %, or the table that `--loss` asks for. How often is said as people
//! think of it: so many a day, or once in so many years.

use std::fmt::Write as _;

use agent_common::LinkId;
use agent_core::config::{Policy, TieBreak};

use crate::loss::{self, Expectation, Loss};
use crate::settings::Settings;

/// What is shown when no loss is given.
const USUAL: f64 = 0.01;
const DAYS_OF_A_YEAR: f64 = 365.25;

/// One line, of a loss that is bad and yet seen.
pub(super) fn line(settings: &Settings) -> String {
    if settings.listed() < 2 {
        return String::new();
    }
    let Expectation { run, cluster, .. } = loss::expectation(settings, Loss::independent(USUAL));
    let how_often = often(cluster);
    format!(
        "loss      {run} heartbeats lost in a row are a false death; at 1 % loss one is expected {how_often} in the cluster \
         (--loss PART shows more)\n"
    )
}

/// The table.
pub(super) fn table(settings: &Settings, loss: Loss) -> String {
    if settings.listed() < 2 {
        return "loss      there is no pair of nodes\n".to_owned();
    }
    let expected = loss::expectation(settings, loss);
    let mut text = String::new();
    // Writing to a String does not fail, here and below.
    let _ = writeln!(
        text,
        "loss      {} of the frames, {}; {} heartbeats lost in a row are a death",
        percent(loss.part),
        if loss.again > loss.part {
            format!("{} in a row in the mean", decimal(1.0 / (1.0 - loss.again)))
        } else {
            "each for itself".to_owned()
        },
        expected.run
    );
    let mut rows: Vec<(String, f64)> = Vec::new();
    for (place, deaths) in &expected.alone {
        let link = u8::try_from(*place).ok().and_then(LinkId::new);
        let name = link.map_or_else(String::new, |link| settings.link_name(link));
        rows.push((format!("one node in the eyes of another, {name} alone"), *deaths));
    }
    rows.push(("the same with all links of the pair, the worst pair".to_owned(), expected.pair));
    rows.push(("all pairs of the cluster, both ways".to_owned(), expected.cluster));
    let width = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    let _ = writeln!(text, "          false deaths expected");
    for (what, deaths) in &rows {
        let _ = writeln!(text, "            {what:<width$}  {}", often(*deaths));
    }
    if let (Some(leases), false) = (expected.leases, loss.again > loss.part) {
        let _ = writeln!(text, "          leases lost by their holder, at most");
        let _ = writeln!(text, "            {:<width$}  {}", "of a group, with all links", often(leases));
    }
    let _ = writeln!(text, "          {}", consequence(settings));
    text
}

/// What a false death leads to: that is for the quorum to say.
fn consequence(settings: &Settings) -> &'static str {
    match settings.quorum.policy {
        Policy::Majority => {
            "a false death in the eyes of one node moves nothing: a majority has to miss the holder, and then its lease is over"
        }
        Policy::TwoNode(TieBreak::Always) => {
            "each false death of the holder makes two servers until the nodes hear each other again"
        }
        Policy::TwoNode(TieBreak::Ping) => {
            "each false death of the holder makes two servers if the other reaches its ping targets"
        }
        Policy::TwoNode(TieBreak::Fence) => "each false death of the holder fences it",
    }
}

/// How often something happens that is expected so many times a day.
fn often(a_day: f64) -> String {
    let years = 1.0 / (a_day * DAYS_OF_A_YEAR);
    if a_day <= 0.0 || years >= 1e6 {
        "less than once in a million years".to_owned()
    } else if a_day >= 1.0 {
        format!("{} times a day", decimal(a_day))
    } else if years < 1.0 {
        format!("{} a day, once in {} days", decimal(a_day), decimal(1.0 / a_day))
    } else {
        format!("{a_day:.1e} a day, once in {} years", decimal(years))
    }
}

/// Two significant digits, and never an exponent that has to be read twice.
fn decimal(value: f64) -> String {
    if value >= 10.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else if value >= 0.1 {
        format!("{value:.2}")
    } else if value >= 0.01 {
        format!("{value:.3}")
    } else if value >= 0.001 {
        format!("{value:.4}")
    } else {
        format!("{value:.1e}")
    }
}

fn percent(part: f64) -> String {
    let text = format!("{:.4}", part * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::{often, percent};

    #[test]
    fn how_often_is_said_for_people() {
        for (a_day, said) in [
            (0.0, "less than once in a million years"),
            (1e-12, "less than once in a million years"),
            (120.4, "120 times a day"),
            (1.25, "1.2 times a day"),
            (0.0855, "0.086 a day, once in 12 days"),
            (0.000_86, "8.6e-4 a day, once in 3.2 years"),
        ] {
            assert_eq!(often(a_day), said);
        }
        assert_eq!(percent(0.01), "1 %");
        assert_eq!(percent(0.0005), "0.05 %");
    }
}
