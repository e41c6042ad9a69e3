//! Virtual machines as nodes: what `cargo xtask test --vm` shows on kernels that this machine does not run.
//! The host's side boots machines by QEMU ([`machine`]) and gives them orders over a serial line ([`channel`]); the
//! guest's side ([`guest`]) is their first process and carries the orders out. [`checks`] is the table of kernels.

pub mod channel;
pub mod checks;
pub mod config;
pub mod cpio;
pub mod faults;
pub mod guest;
pub mod initramfs;
pub mod load;
pub mod machine;
pub mod modules;
pub mod pair;
pub mod protocol;
pub mod qmp;
pub mod table;
pub mod wire;
