//! Benchmarks of xbeat: one binary each, `bench-NAME`, started by `cargo xtask bench NAME`.

pub mod failover;
pub mod machine;
pub mod peers;
pub mod report;
