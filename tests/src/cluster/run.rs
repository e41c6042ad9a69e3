//! One seed from beginning to end, and what came of it.

use super::mutation::Broken;
use super::plan::Plan;
use super::report::{Violation, Witness};
use super::world::World;

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which seed.
    pub seed: u64,
    /// What it stands for.
    pub plan: Plan,
    /// The first violation, which ended the run.
    pub violation: Option<Violation>,
    /// What happened.
    pub witness: Witness,
    /// True nanoseconds served, over all groups.
    pub served_ns: u64,
    /// True nanoseconds of all groups in which they could have been served.
    pub possible_ns: u64,
    /// True nanoseconds that the run took.
    pub span_ns: u64,
    /// Events.
    pub events: u64,
    /// What happened in lines, if it was asked for.
    pub trace: String,
}

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// With this rule broken.
    pub broken: Option<Broken>,
    /// With lines for people.
    pub traced: bool,
    /// Without the books of promises that bear each lease: what a broken rule leads to must show by itself.
    pub by_effect: bool,
    /// A third of the trouble: for a quick look.
    pub short: bool,
}

/// Runs `seed`.
pub fn run(seed: u64, how: How) -> Outcome {
    let mut world = World::new(seed, how);
    let plan = world.plan.clone();
    world.note(|| format!("{plan:?}"));
    let end = world.begin();
    world.run(end);
    world.book();
    Outcome {
        seed,
        violation: world.violation.clone(),
        witness: world.oracle.witness,
        served_ns: world.oracle.served.iter().sum(),
        possible_ns: (world.now - world.counted_from) * u64::from(plan.groups),
        span_ns: world.now,
        events: world.queue.planned(),
        trace: world.take_trace(),
        plan,
    }
}
