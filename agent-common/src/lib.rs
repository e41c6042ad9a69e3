//! The ABI of xbeat: what travels on the wire and what lies in the BPF maps, and the one validation of both.
//! The XDP program and the daemon compile the same code from here, so they cannot disagree about a frame.
//!
//! A frame is `body || tag`: the body is zero-padded to 55 + 64k bytes (whole SHA-256 blocks with the
//! HMAC padding), the tag is HMAC-SHA256 truncated to 128 bits over the body. See [`wire`] for the picture.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod beat;
pub mod frame;
pub mod held;
pub mod hmac;
pub mod ids;
pub mod layout;
pub mod loss;
pub mod maps;
pub mod receive;
pub mod reject;
pub mod rival;
pub mod screen;
pub mod sections;
pub mod sha256;
pub mod slot;
pub mod validate;
pub mod window;
pub mod wire;

pub use beat::{Ack, Beat, Claim, Echo, Name, NodeState};
pub use ids::{GroupId, KeyId, LinkId, NodeId, NodeSet};
pub use receive::{Accepted, Keys, receive};
pub use reject::Reject;
