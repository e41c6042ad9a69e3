//! Somebody else's XDP program on an interface: the smallest there is, which passes everything. Made by bpf(2) directly,
//! so that it has nothing to do with how the agent makes its own.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use super::bpf::{GetInfo, bpf, owned};
use super::netns::Netns;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
/// `r0 = 2 (XDP_PASS); exit`
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// An attached program; detached on drop.
#[derive(Debug)]
pub struct ForeignXdp {
    id: u32,
    _program: OwnedFd,
    _link: OwnedFd,
}

/// The start of `union bpf_attr` for `BPF_PROG_LOAD` (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// For `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// The start of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    prog_type: u32,
    id: u32,
}

impl ForeignXdp {
    /// Loads the program under `name` (at most 15 characters) and attaches it natively to an interface of `netns`.
    ///
    /// # Errors
    /// Not privileged, or the interface is taken.
    pub fn attach(netns: &Netns, interface: &str, name: &str) -> Result<Self> {
        let mut load = ProgLoad {
            prog_type: PROG_TYPE_XDP,
            insn_cnt: 2,
            insns: PROGRAM.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..ProgLoad::default()
        };
        for (to, from) in load.prog_name.iter_mut().zip(name.bytes().take(15)) {
            *to = from;
        }
        let program = owned(bpf(BPF_PROG_LOAD, &mut load).context("cannot load the program")?);
        let mut info = ProgInfo::default();
        let mut get = GetInfo {
            fd: u32::try_from(program.as_raw_fd())?,
            info_len: u32::try_from(size_of::<ProgInfo>())?,
            info: (&raw mut info) as u64,
        };
        bpf(super::bpf::OBJ_GET_INFO_BY_FD, &mut get).context("cannot read the program's id")?;
        let link = netns.run(|| {
            let mut create = LinkCreate {
                prog_fd: u32::try_from(program.as_raw_fd())?,
                target_ifindex: nix::net::if_::if_nametoindex(interface)?,
                attach_type: ATTACH_TYPE_XDP,
                flags: 1 << 2, // XDP_FLAGS_DRV_MODE
            };
            Ok(owned(bpf(BPF_LINK_CREATE, &mut create).context("cannot attach the program")?))
        })?;
        Ok(Self { id: info.id, _program: program, _link: link })
    }

    /// The kernel's id of the program.
    pub fn id(&self) -> u32 {
        self.id
    }
}
