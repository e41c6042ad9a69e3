//! xbeat: the heartbeat agent. See ARCHITECTURE.md for the map of the code.

fn main() {}
