//! bpf(2) as far as the laboratory needs it beside the agent, and a hold on the programs that are attached.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Result;

const OBJ_GET: libc::c_long = 7;
const PROG_GET_NEXT_ID: libc::c_long = 11;
const MAP_GET_NEXT_ID: libc::c_long = 12;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
pub(super) const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_GET_NEXT_ID: libc::c_long = 31;
const LINK_TYPE_XDP: u32 = 6;
/// Most links that are looked at.
const LINKS_MAX: usize = 1024;
/// Most objects of a kind that are counted.
const OBJECTS_MAX: usize = 1 << 16;

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD` (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
pub(super) struct GetInfo {
    pub(super) fd: u32,
    pub(super) info_len: u32,
    pub(super) info: u64,
}

/// For `BPF_LINK_GET_NEXT_ID` and `BPF_LINK_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The start of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    link_type: u32,
    id: u32,
    prog_id: u32,
}

/// Keeps every attached XDP program attached, also when the process that attached it dies, until it is dropped.
///
/// All nodes of the laboratory share one kernel. To detach the program of an agent that was killed takes milliseconds
/// under the kernel-wide RTNL lock, which the survivor needs for its address; on two machines that is the dead one's
/// work, and a machine that lost its power does not do it at all.
#[derive(Debug)]
pub struct HeldPrograms {
    _links: Vec<OwnedFd>,
}

impl HeldPrograms {
    /// Holds what is attached now. Nothing, where the kernel does not let this process see it.
    pub fn hold() -> Self {
        let mut links = Vec::new();
        let mut id = 0;
        for _ in 0..LINKS_MAX {
            let mut next = ById { id, ..ById::default() };
            if bpf(LINK_GET_NEXT_ID, &mut next).is_err() {
                break;
            }
            id = next.next_id;
            links.extend(open_link(id).filter(is_xdp));
        }
        Self { _links: links }
    }
}

/// How many objects the kernel has, of all processes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Objects {
    /// Programs.
    pub programs: usize,
    /// Maps.
    pub maps: usize,
    /// Links.
    pub links: usize,
}

impl Objects {
    /// Counted now; nothing, where the kernel does not let this process see them.
    pub fn count() -> Self {
        Self { programs: ids(PROG_GET_NEXT_ID), maps: ids(MAP_GET_NEXT_ID), links: ids(LINK_GET_NEXT_ID) }
    }
}

fn ids(next_id: libc::c_long) -> usize {
    let mut id = 0;
    (0..OBJECTS_MAX)
        .take_while(|_| {
            let mut next = ById { id, ..ById::default() };
            let is_there = bpf(next_id, &mut next).is_ok();
            id = next.next_id;
            is_there
        })
        .count()
}

/// How many links attach the program with this id, also those whose interface is gone.
///
/// # Errors
/// One that is there cannot be asked.
pub fn links_of(program: u32) -> Result<usize> {
    let (mut id, mut count) = (0, 0);
    for _ in 0..LINKS_MAX {
        let mut next = ById { id, ..ById::default() };
        if bpf(LINK_GET_NEXT_ID, &mut next).is_err() {
            break;
        }
        id = next.next_id;
        let Some(link) = open_link(id) else { continue };
        count += usize::from(info::<LinkInfo>(&link)?.prog_id == program);
    }
    Ok(count)
}

/// The ids of the maps that a process has open.
///
/// # Errors
/// There is no such process.
pub fn maps_held_by(pid: u32) -> Result<BTreeSet<u32>> {
    let mut maps = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // One that was closed meanwhile.
        let Ok(text) = std::fs::read_to_string(entry?.path()) else { continue };
        let ids = text.lines().filter_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok());
        maps.extend(ids.collect::<Vec<u32>>());
    }
    Ok(maps)
}

/// The link with this id, unless it has gone.
fn open_link(id: u32) -> Option<OwnedFd> {
    bpf(LINK_GET_FD_BY_ID, &mut ById { id, ..ById::default() }).ok().map(owned)
}

fn is_xdp(link: &OwnedFd) -> bool {
    let mut info = LinkInfo::default();
    let (Ok(fd), Ok(info_len)) = (u32::try_from(link.as_raw_fd()), u32::try_from(size_of::<LinkInfo>()))
    else {
        return false;
    };
    let mut get = GetInfo { fd, info_len, info: (&raw mut info) as u64 };
    bpf(OBJ_GET_INFO_BY_FD, &mut get).is_ok() && info.link_type == LINK_TYPE_XDP
}

pub(super) fn bpf<T>(command: libc::c_long, attributes: &mut T) -> Result<i32> {
    // SAFETY: `attributes` is the start of `union bpf_attr` of this command, its size is given, and its pointers are live.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(i32::try_from(result)?)
}

pub(super) fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the descriptor was just made by bpf(2) and is owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// What a pinned link has attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// The link's id: the same as long as nothing was detached.
    pub link: u32,
    /// The program's id: another for each program loaded.
    pub program: u32,
    /// The kernel's digest of the program's instructions.
    pub tag: [u8; 8],
}

/// The start of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
}

/// For `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Default)]
struct ByPath {
    path: u64,
    fd: u32,
    flags: u32,
}

/// What is attached by the link that is pinned at `path`.
///
/// # Errors
/// There is none.
pub fn attachment(path: &Path) -> Result<Attachment> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let link = owned(bpf(OBJ_GET, &mut ByPath { path: name.as_ptr() as u64, ..ByPath::default() })?);
    let LinkInfo { id, prog_id, .. } = info(&link)?;
    let program = owned(bpf(PROG_GET_FD_BY_ID, &mut ById { id: prog_id, ..ById::default() })?);
    let ProgramInfo { id: program, tag, .. } = info(&program)?;
    Ok(Attachment { link: id, program, tag })
}

fn info<T: Default>(object: &OwnedFd) -> Result<T> {
    let mut info = T::default();
    let (fd, info_len) = (u32::try_from(object.as_raw_fd())?, u32::try_from(size_of::<T>())?);
    bpf(OBJ_GET_INFO_BY_FD, &mut GetInfo { fd, info_len, info: (&raw mut info) as u64 })?;
    Ok(info)
}
