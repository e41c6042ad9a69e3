//! Clusters under everything that can go wrong, by seed: the real core, true time in which every node's clock errs, a
//! network that loses, holds back, doubles and cuts, an attacker who replays, kernels whose gates outlive their agents.
//!
//! | room | what is there |
//! |---|---|
//! | `plan` | what a seed stands for |
//! | `world` | the loop: one event after the other, frames, the attacker |
//! | `rounds`, `lives` | what an agent does when it wakes; its beginning and end |
//! | `faults`, `timepieces`, `outside`, `rolling`, `script` | what goes wrong and when; the calm after it and what must be true then |
//! | `kernel`, `machine`, `clock`, `net`, `packet`, `queue` | the parts |
//! | `oracle`, `books` | the invariants, judged exactly in true time at each write of a gate and each heartbeat |
//! | `mutation`, `campaign`, `report` | rules broken on purpose; many seeds on all processors and the table of what they showed |
//!
//! The small simulation with faults by hand is `crate::sim`.
#![allow(clippy::cast_possible_truncation, reason = "ids of a simulated cluster are below 8")]

mod books;
pub mod campaign;
mod clock;
mod faults;
mod kernel;
mod lives;
mod machine;
mod mutation;
mod net;
mod oracle;
mod outside;
mod packet;
mod plan;
mod queue;
mod report;
mod rolling;
mod rounds;
mod run;
mod script;
mod timepieces;
mod trace;
mod world;

pub use kernel::{Kernel, Taken};
pub use mutation::Broken;
pub use plan::{Kind, Plan};
pub use report::{Invariant, Violation, Witness};
pub use run::{How, Outcome, run};
