//! What the tests of xbeat share: the laboratory of network namespaces, frames, and the rule for skipping.

pub mod cluster;
pub mod corpus;
pub mod frames;
pub mod gate;
pub mod kernel;
pub mod lab;
pub mod privileged;
pub mod sim;
pub mod vm;
