//! Everything between the core and the kernel's network: XDP, UDP sockets, the peers' slots.
//! The files here may be `unsafe`; what they decide is in pure functions with tests.

pub mod channel;
pub mod counters;
pub mod datagram;
pub mod foreign;
pub mod interface;
pub mod merge;
pub mod paths;
pub mod programs;
pub mod receiver;
pub mod rival;
pub mod slots;
pub mod sockopt;
pub mod stamp;
pub mod xdp;
