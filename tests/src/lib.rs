//! What the tests of xbeat share: the laboratory of network namespaces, frames, and the rule for skipping.

pub mod lab;
pub mod privileged;
