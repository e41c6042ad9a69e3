//! `[quorum]`: who may decide, and what the choice does not protect from.

use std::ops::Range;

use agent_common::NodeId;
use agent_core::config::{self, Policy, Quorum, TieBreak};

use super::cluster::Nodes;
use super::report::Findings;
use super::section::{At, Section, advice};
use crate::settings::VoteChange;

#[derive(Clone, Copy)]
enum PolicyWord {
    Majority,
    TwoNode,
}

/// What `[quorum]` says.
pub(super) struct Decided {
    pub(super) quorum: Quorum,
    pub(super) vote_change: Option<VoteChange>,
    /// What is to be found among the ping groups.
    pub(super) ping: Option<PingRule>,
}

/// A ping group breaks the tie.
pub(super) struct PingRule {
    /// Which one, if that is said.
    pub(super) name: Option<At<String>>,
    /// Where `tie_break` stands.
    pub(super) span: Range<usize>,
}

/// The policy and the last change of the votes.
pub(super) fn quorum(root: &Section<'_>, nodes: &Nodes, findings: &mut Findings<'_>) -> Option<Decided> {
    let keys = ["policy", "tie_break", "ping", "number", "change"];
    let Some(section) = root.table("quorum", "[quorum]", &keys, findings) else {
        warn_majority(nodes, nodes.span.clone(), findings);
        let quorum = Quorum { policy: Policy::Majority, number: 0, change: None };
        return (!root.has("quorum")).then_some(Decided { quorum, vote_change: None, ping: None });
    };
    let words = [("majority", PolicyWord::Majority), ("two-node", PolicyWord::TwoNode)];
    let policy = section.choice("policy", &words, findings);
    let tie_break = section.choice(
        "tie_break",
        &[("fence", TieBreak::Fence), ("ping", TieBreak::Ping), ("always", TieBreak::Always)],
        findings,
    );
    let ping = ping_rule(&section, tie_break.as_ref(), findings);
    let number = section.integer("number", 0..=u64::from(u16::MAX), findings);
    let number = number.and_then(|at| u16::try_from(at.value).ok()).unwrap_or(0);
    let change = change(&section, nodes, number, findings);
    if policy.is_none() && section.has("policy") {
        return None;
    }
    let word = policy.as_ref().map_or(PolicyWord::Majority, |at| at.value);
    let place = policy.map_or(section.span(), |at| at.span);
    let policy = match word {
        PolicyWord::Majority => {
            if let Some(tie_break) = tie_break {
                findings.error(
                    tie_break.span,
                    "a majority needs no `tie_break`",
                    "remove `tie_break`, or write policy = \"two-node\"",
                );
            }
            warn_majority(nodes, place, findings);
            Policy::Majority
        }
        PolicyWord::TwoNode => Policy::TwoNode(two_node(&section, nodes, place, tie_break, findings)?),
    };
    let in_core = change.as_ref().and_then(|change| match change {
        VoteChange::Added(node) => Some(config::VoteChange::Added(*node)),
        // It is not listed any more: the first id beyond the list stands for it.
        VoteChange::Removed(_) => NodeId::all().nth(nodes.count()).map(config::VoteChange::Removed),
    });
    Some(Decided { quorum: Quorum { policy, number, change: in_core }, vote_change: change, ping })
}

fn ping_rule(
    section: &Section<'_>,
    tie_break: Option<&At<TieBreak>>,
    findings: &mut Findings<'_>,
) -> Option<PingRule> {
    let name = section.string("ping", "gateway", findings);
    match tie_break {
        Some(At { value: TieBreak::Ping, span }) => {
            let name = name.map(|name| At::new(name.value.to_owned(), name.span));
            Some(PingRule { name, span: span.clone() })
        }
        Some(At { value: TieBreak::Fence | TieBreak::Always, .. }) | None => {
            if let Some(name) = name.filter(|_| tie_break.is_some() || !section.has("tie_break")) {
                let message = "`ping` in [quorum] says which ping group breaks the tie, and none does";
                findings.error(name.span, message, "remove it, or write tie_break = \"ping\"");
            }
            None
        }
    }
}

fn two_node(
    section: &Section<'_>,
    nodes: &Nodes,
    place: Range<usize>,
    tie_break: Option<At<TieBreak>>,
    findings: &mut Findings<'_>,
) -> Option<TieBreak> {
    if nodes.count() != 2 {
        let message = format!("policy \"two-node\" is for two nodes, and {} are listed", nodes.count());
        findings.error(
            place,
            message,
            "write policy = \"majority\", which needs no tie-break with three or more",
        );
        return None;
    }
    if nodes.ids().any(|node| nodes.is_witness(node)) {
        findings.error(
            place,
            "policy \"two-node\" with a witness leaves only one node that can serve",
            "list two nodes and a witness, with policy = \"majority\"",
        );
    }
    let Some(At { value, span }) = tie_break else {
        section.demand(
            "tie_break",
            "policy \"two-node\" lacks `tie_break`",
            "add tie_break = \"fence\", \"ping\" or \"always\"; docs/configuration.md says what each risks",
            findings,
        );
        return None;
    };
    let (message, help) = match value {
        TieBreak::Fence => (
            "tie_break \"fence\": no takeover of a dead peer happens until a fence has succeeded; \
             a fence device that shares the peer's power or network fails with it",
            "a witness with policy = \"majority\" needs no fence",
        ),
        TieBreak::Ping => (
            "tie_break \"ping\": when the link between the nodes is cut and both still reach the ping targets, \
             both serve the address at once",
            "a witness with policy = \"majority\" excludes that",
        ),
        TieBreak::Always => (
            "tie_break \"always\": whenever the nodes do not hear each other, both serve the address at once, \
             until they hear each other again",
            "a witness with policy = \"majority\" excludes that; more than one [[link]] makes it rarer",
        ),
    };
    findings.warn(span, message, help);
    Some(value)
}

fn warn_majority(nodes: &Nodes, place: Range<usize>, findings: &mut Findings<'_>) {
    if nodes.count() == 2 {
        findings.warn(
            place,
            "a majority of two votes is both: when one node dies, the other cannot take over",
            "add a third [[node]] (witness = true suffices), or write policy = \"two-node\" with a tie_break",
        );
    } else if nodes.count() > 2 && nodes.count().is_multiple_of(2) {
        let (count, half) = (nodes.count(), nodes.count() / 2);
        findings.warn(
            place,
            format!("{count} votes split into {half} and {half} leave no majority on either side"),
            "a witness makes the number odd",
        );
    }
}

fn change(
    section: &Section<'_>,
    nodes: &Nodes,
    number: u16,
    findings: &mut Findings<'_>,
) -> Option<VoteChange> {
    let example = nodes.names().last().map_or_else(|| "+alpha".to_owned(), |name| format!("+{name}"));
    let Some(written) = section.string("change", &example, findings) else {
        if number > 0 {
            section.demand(
                "change",
                format!("`number` is {number}, but `change` does not say which vote came or went"),
                format!(
                    "add change = \"{example}\" for a node that was added, \"-NAME\" for one that was removed"
                ),
                findings,
            );
        }
        return None;
    };
    if number == 0 {
        let help = "add number = 1, and count it up with every change of the voters";
        findings.error(written.span.clone(), "`change` without `number`", help);
    }
    let span = written.span;
    if let Some(name) = written.value.strip_prefix('+') {
        let node = nodes.find(name);
        if node.is_none() && nodes.are_named() {
            let message = format!("`change` adds the vote of `{name}`, which no [[node]] has as its name");
            findings.error(span, message, advice(name, &nodes.names()));
        }
        return node.map(VoteChange::Added);
    }
    if let Some(name) = written.value.strip_prefix('-').filter(|name| !name.is_empty()) {
        if nodes.find(name).is_some() {
            let message = format!("`change` removes the vote of `{name}`, which is still listed");
            findings.error(span, message, format!("remove its [[node]], or write change = \"+{name}\""));
        }
        return Some(VoteChange::Removed(name.to_owned()));
    }
    let help = format!("write change = \"{example}\" or \"-NAME\"");
    findings.error(span, "`change` does not begin with + or - and a name", help);
    None
}
