//! A cluster in one thread under a virtual clock: the real core, the real frames and their validation, a network that
//! loses, delays and cuts, and machines whose kernel goes on while the agent is paused or killed.
//!
//! [`World`] is driven by a test: it runs for a while, something is broken or healed, it runs on. Meanwhile every
//! verdict is checked against what the kernels really received (invariants I2 and I3), and [`Witness`] counts what
//! happened, so that a test can show that its trouble came about. The same seed gives the same history.

mod faults;
mod machine;
mod network;
mod rng;
mod witness;
mod world;

pub use machine::Setup;
pub use network::Loss;
pub use rng::Rng;
pub use witness::Witness;
pub use world::World;
