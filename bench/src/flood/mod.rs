//! A flood at the interface of one node, as fast as one core can make it: forged heartbeats, replays, garbage and what is for
//! somebody else, while the cluster runs with short intervals. What each frame costs, and whether anybody was called dead.

pub mod cost;
pub mod frames;
pub mod generator;
pub mod kind;
pub mod report;
pub mod rival;
pub mod subject;
pub mod taken;

pub use kind::{Kind, Load};
