//! The ABI of xbeat: wire format, validation and map types, shared by the kernel programs and the userspace agent.
#![no_std]
