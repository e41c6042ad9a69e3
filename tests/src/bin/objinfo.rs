//! Loads every program of an eBPF object and says what the kernel made of it.

fn main() {}
