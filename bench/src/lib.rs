//! Benchmarks of xbeat: one binary each, `bench-NAME`, started by `cargo xtask bench NAME`.
