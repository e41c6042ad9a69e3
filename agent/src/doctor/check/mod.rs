//! The checks: each looks at facts and says what they mean. Nothing here reads the machine.

pub mod files;
pub mod kernel;
pub mod network;
pub mod timing;

#[cfg(test)]
mod tests;
