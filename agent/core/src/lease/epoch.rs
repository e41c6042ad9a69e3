//! Epochs (design: Epochs): (milliseconds since 1970 or the highest seen + 1, whichever is more) << 8 | node id, so no two nodes
//! ever use the same.

use agent_common::NodeId;

use crate::mutation::{Mutated, Mutation};

/// An epoch that no node ever used: above `seen`, and with the node's own id in the low byte.
pub(crate) fn above(seen: u64, wall_ms: u64, me: NodeId, mutated: Mutated) -> u64 {
    const TIME_MAX: u64 = u64::MAX >> 8;
    let time = wall_ms.max((seen >> 8).saturating_add(1)).min(TIME_MAX);
    let id = if mutated.is(Mutation::TwoCandidatesOneEpoch) { 0 } else { u64::from(me.raw()) };
    time << 8 | id
}

#[cfg(test)]
mod tests {
    use super::above;
    use crate::mutation::Mutated;
    use agent_common::NodeId;

    #[test]
    fn epochs_rise_with_time_and_with_what_was_seen_and_carry_the_node() {
        let node = |raw| NodeId::new(raw).unwrap();
        let epoch = |seen, ms, id| above(seen, ms, node(id), Mutated::default());
        assert_eq!(epoch(0, 1000, 3), 1000 << 8 | 3);
        assert_eq!(epoch(1000 << 8 | 3, 1000, 3), 1001 << 8 | 3);
        assert_eq!(epoch(5000 << 8 | 9, 1000, 3), 5001 << 8 | 3, "a clock that is behind");
        assert_ne!(epoch(0, 1000, 3), epoch(0, 1000, 4));
        assert_eq!(epoch(u64::MAX, 1000, 3) >> 8, u64::MAX >> 8, "no overflow");
    }
}
