//! Somebody else's programs on an interface: the smallest there are, which pass everything. Made by bpf(2) directly, so
//! that they have nothing to do with how the agent makes its own.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::bpf::{GetInfo, bpf, owned};
use super::netns::Netns;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ENABLE_STATS: libc::c_long = 32;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const ATTACH_TYPE_TCX_INGRESS: u32 = 46;
/// `r0 = 2 (XDP_PASS); exit`
const XDP_PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
/// `r0 = -1 (TCX_NEXT); exit`
const TCX_NEXT: [u64; 2] = [0xffff_ffff_0000_00b7, 0x0000_0000_0000_0095];

/// An attached XDP program; one that a link attaches is detached on drop.
#[derive(Debug)]
pub struct ForeignXdp {
    id: u32,
    _program: OwnedFd,
    _link: Option<OwnedFd>,
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

/// For `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    reserved: u32,
}

/// For `BPF_OBJ_PIN`.
#[repr(C)]
#[derive(Default)]
struct ObjPin {
    pathname: u64,
    fd: u32,
    flags: u32,
}

impl ForeignXdp {
    /// Loads the program under `name` (at most 15 characters) and attaches it natively to an interface of `netns`.
    ///
    /// # Errors
    /// Not privileged, or the interface is taken.
    pub fn attach(netns: &Netns, interface: &str, name: &str) -> Result<Self> {
        let program = load(PROG_TYPE_XDP, XDP_PASS, name)?;
        let flags = 1 << 2; // XDP_FLAGS_DRV_MODE
        let link = link(netns, interface, &program, ATTACH_TYPE_XDP, flags)?;
        Ok(Self { id: id_of(&program)?, _program: program, _link: Some(link) })
    }

    /// The same by netlink, as `ip` and libxdp do it: it stays when this is dropped, as long as the interface does. The
    /// program is pinned at `pin`, in a bpffs.
    ///
    /// # Errors
    /// Not privileged, or the interface is taken.
    pub fn attach_by_netlink(netns: &Netns, interface: &str, name: &str, pin: &Path) -> Result<Self> {
        let program = load(PROG_TYPE_XDP, XDP_PASS, name)?;
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let mut attributes =
            ObjPin { pathname: path.as_ptr() as u64, fd: u32::try_from(program.as_raw_fd())?, flags: 0 };
        bpf(BPF_OBJ_PIN, &mut attributes).context("cannot pin the program")?;
        netns.ip(&format!("link set dev {interface} xdp pinned {}", pin.display()))?;
        Ok(Self { id: id_of(&program)?, _program: program, _link: None })
    }

    /// The kernel's id of the program.
    pub fn id(&self) -> u32 {
        self.id
    }
}

/// Somebody else's classifier on what arrives at an interface, which lets everything go on.
#[derive(Debug)]
pub struct ForeignTcx {
    id: u32,
    program: OwnedFd,
    _link: OwnedFd,
    /// While it is open, the kernel counts how often programs run.
    _counting: OwnedFd,
}

impl ForeignTcx {
    /// Loads and attaches it.
    ///
    /// # Errors
    /// Not privileged, or the kernel has no TCX (6.6).
    pub fn attach(netns: &Netns, interface: &str, name: &str) -> Result<Self> {
        let counting = owned(bpf(BPF_ENABLE_STATS, &mut 0u32).context("cannot count runs")?);
        let program = load(PROG_TYPE_SCHED_CLS, TCX_NEXT, name)?;
        let link = link(netns, interface, &program, ATTACH_TYPE_TCX_INGRESS, 0)?;
        Ok(Self { id: id_of(&program)?, program, _link: link, _counting: counting })
    }

    /// The kernel's id of the program.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How often it has run.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn runs(&self) -> Result<u64> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.program.as_raw_fd()))?;
        let count = info.lines().find_map(|line| line.strip_prefix("run_cnt:"));
        Ok(count.context("no count of runs")?.trim().parse()?)
    }
}

/// The ids of the classifiers on what arrives at an interface of `netns`, in the order in which they run.
///
/// # Errors
/// The kernel does not say.
pub fn classifiers(netns: &Netns, interface: &str) -> Result<Vec<u32>> {
    let mut ids = vec![0u32; 16];
    let count = netns.run(|| {
        let mut query = ProgQuery {
            target_ifindex: nix::net::if_::if_nametoindex(interface)?,
            attach_type: ATTACH_TYPE_TCX_INGRESS,
            prog_ids: ids.as_mut_ptr() as u64,
            count: 16,
            ..ProgQuery::default()
        };
        bpf(BPF_PROG_QUERY, &mut query).context("cannot list the classifiers")?;
        Ok(query.count)
    })?;
    ids.truncate(usize::try_from(count)?);
    Ok(ids)
}

fn load(kind: u32, instructions: [u64; 2], name: &str) -> Result<OwnedFd> {
    let mut load = ProgLoad {
        prog_type: kind,
        insn_cnt: 2,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    for (to, from) in load.prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    Ok(owned(bpf(BPF_PROG_LOAD, &mut load).context("cannot load the program")?))
}

fn id_of(program: &OwnedFd) -> Result<u32> {
    let mut info = ProgInfo::default();
    let mut get = GetInfo {
        fd: u32::try_from(program.as_raw_fd())?,
        info_len: u32::try_from(size_of::<ProgInfo>())?,
        info: (&raw mut info) as u64,
    };
    bpf(super::bpf::OBJ_GET_INFO_BY_FD, &mut get).context("cannot read the program's id")?;
    Ok(info.id)
}

fn link(netns: &Netns, interface: &str, program: &OwnedFd, kind: u32, flags: u32) -> Result<OwnedFd> {
    netns.run(|| {
        let mut create = LinkCreate {
            prog_fd: u32::try_from(program.as_raw_fd())?,
            target_ifindex: nix::net::if_::if_nametoindex(interface)?,
            attach_type: kind,
            flags,
        };
        Ok(owned(bpf(BPF_LINK_CREATE, &mut create).context("cannot attach the program")?))
    })
}
