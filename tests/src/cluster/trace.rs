//! Transitions of the core as lines for people.

use agent_core::Change;

/// One transition.
pub(super) fn change(change: &Change) -> String {
    match change {
        Change::Peer { peer, from, to, silent, deadtime } => format!(
            "holds {} for {to:?}, was {from:?} (silent {} us, deadtime {} us)",
            peer.raw(),
            silent.as_micros(),
            deadtime.as_micros()
        ),
        Change::Link { peer, link, from, to } => {
            format!("link {} to {}: {from:?} -> {to:?}", link.raw(), peer.raw())
        }
        Change::Restarted { peer, incarnation } => {
            format!("hears {} anew, incarnation {incarnation}", peer.raw())
        }
        Change::Group { group, from, to, owner, epoch } => {
            let owner = owner.map(|owner| owner.raw());
            format!("group {}: {from:?} -> {to:?}, owner {owner:?}, epoch {epoch:#x}", group.raw())
        }
        Change::Lease { group, held, reason } => {
            let what = if *held { "holds" } else { "lost" };
            format!("{what} the lease of group {}: {}", group.raw(), reason.text())
        }
        Change::Vote { group, epoch, candidate } => {
            let candidate = candidate.map(|candidate| candidate.raw());
            format!("votes in group {}: epoch {epoch:#x}, candidate {candidate:?}", group.raw())
        }
        Change::Quorum { have } => format!("quorum: {have}"),
        Change::Late { by } => format!("was {} us late", by.as_micros()),
        other @ (Change::Gate { .. } | Change::Failed { .. } | Change::Vanished { .. }) => {
            format!("{other:?}")
        }
    }
}
