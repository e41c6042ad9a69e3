//! Benchmarks of xbeat: one binary each, `bench-NAME`, started by `cargo xtask bench NAME`.

pub mod cost;
pub mod failover;
pub mod flood;
pub mod guard;
pub mod loss;
pub mod machine;
pub mod options;
pub mod peers;
pub mod progress;
pub mod report;
pub mod soak;
pub mod starvation;
pub mod statistics;
