//! Loads the embedded object, fills its maps and attaches the program to the interfaces of the links: native, else
//! generic, else not at all. Every step down is explained with its remedy. Nobody's program is ever replaced.
//!
//! The attachments live as long as [`Kernel`] does: the process holds them, and the kernel takes them back when it ends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_common::ids::{MAX_NODES, NodeSet};
use agent_common::maps::{ClusterConfig, KeyState, LinkConfig, LinkTable, PeerSlot, name};
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, Xdp, XdpError, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader};
use nix::errno::Errno;
use nix::poll::poll;

use super::counters::KernelMaps;
use super::foreign::{self, Foreign};
use super::paths::Arrival;
use super::slots::MappedSlots;
use crate::bridge::{KernelView, Keyring};
use crate::settings::{ReceiveMode, Settings, XdpSetting};

/// The object that `cargo xtask build-ebpf` made; empty when none was built in.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xbeat.bpf.o"));
/// The program's name in the object.
const PROGRAM: &str = "xbeat";

/// How often, and how long apart, it is looked whether a killed predecessor's program has gone.
const PREDECESSOR_LOOKS: u32 = 10;
const PREDECESSOR_WAIT_MS: u8 = 30;

/// Why there is no XDP at all; nothing is attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The configuration says so.
    #[error("the configuration says xdp = \"off\"")]
    Off,
    /// Built without it.
    #[error("this binary was built without the eBPF object (build it with `cargo xtask build`)")]
    NotBuiltIn,
    /// No privilege.
    #[error("not permitted (run it as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)")]
    NotPermitted,
    /// The kernel or the object.
    #[error("the eBPF object could not be loaded: {0}")]
    Object(#[source] EbpfError),
    /// The verifier.
    #[error("the kernel refused the program (is it older than 5.10?): {0}")]
    Program(#[source] ProgramError),
    /// A map is missing or of another shape: object and binary do not belong together.
    #[error("map {0} of the eBPF object: {1}")]
    Map(&'static str, #[source] MapError),
    /// The slots could not be mapped into memory.
    #[error("the slots could not be mapped into memory: {0}")]
    Mapping(#[source] Errno),
    /// Every interface refused it.
    #[error("no interface took the program")]
    NowhereAttached,
}

/// A loaded and attached program.
pub struct Kernel {
    /// Holds the program and its attachments.
    ebpf: Ebpf,
    /// The peers' slots.
    pub slots: MappedSlots,
    /// News.
    pub news: RingBuf<MapData>,
    config: Array<MapData, ClusterConfig>,
    links: Array<MapData, LinkTable>,
    cluster: ClusterConfig,
}

/// What attaching came to.
pub struct Attached {
    /// The program, if any interface carries it.
    pub kernel: Result<Kernel, LoadError>,
    /// The control thread's view, if any interface carries it.
    pub view: Option<KernelMaps>,
    /// By interface.
    pub modes: BTreeMap<String, ReceiveMode>,
    /// For the operator: what was tried and did not work, and what to do about it.
    pub remarks: Vec<String>,
}

/// What both ways of receiving must know of the cluster.
pub fn cluster_config(settings: &Settings, incarnation: u64) -> ClusterConfig {
    let mut nodes = NodeSet::EMPTY;
    agent_common::NodeId::all().take(settings.nodes.len()).for_each(|node| nodes.insert(node));
    ClusterConfig {
        cluster: settings.cluster_id,
        nodes: nodes.0,
        incarnation,
        deadtime_max_us: u32::try_from(settings.timing.initdead.as_micros()).unwrap_or(u32::MAX),
        me: u32::from(settings.me.raw()),
    }
}

/// Attaches the program to every interface of `arrivals` as the configuration wants it. It cannot fail: what gets no
/// program receives through sockets.
pub fn attach(
    settings: &Settings,
    cluster: ClusterConfig,
    keyring: &Keyring,
    arrivals: &[Arrival],
) -> Attached {
    let mut modes: BTreeMap<String, ReceiveMode> =
        arrivals.iter().map(|arrival| (arrival.interface.clone(), ReceiveMode::Socket)).collect();
    let mut remarks = Vec::new();
    let loaded = load(settings, cluster, keyring).and_then(|(mut kernel, view)| {
        kernel.serve(arrivals)?;
        for arrival in arrivals {
            if modes.get(&arrival.interface).is_some_and(|mode| *mode != ReceiveMode::Socket) {
                continue;
            }
            if let Some(mode) = kernel.attach(settings.runtime.xdp, arrival, &mut remarks) {
                modes.insert(arrival.interface.clone(), mode);
            }
        }
        let served: Vec<Arrival> = arrivals
            .iter()
            .filter(|at| modes.get(&at.interface) != Some(&ReceiveMode::Socket))
            .cloned()
            .collect();
        if served.is_empty() {
            return Err(LoadError::NowhereAttached);
        }
        kernel.serve(&served)?;
        Ok((kernel, view))
    });
    match loaded {
        Ok((kernel, view)) => Attached { kernel: Ok(kernel), view: Some(view), modes, remarks },
        Err(error) => Attached { kernel: Err(error), view: None, modes, remarks },
    }
}

fn load(
    settings: &Settings,
    cluster: ClusterConfig,
    keyring: &Keyring,
) -> Result<(Kernel, KernelMaps), LoadError> {
    if settings.runtime.xdp == XdpSetting::Off {
        return Err(LoadError::Off);
    }
    if OBJECT.is_empty() {
        return Err(LoadError::NotBuiltIn);
    }
    let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|error| {
        if matches!(errno_of_load(&error), Some(Errno::EPERM | Errno::EACCES)) {
            LoadError::NotPermitted
        } else {
            LoadError::Object(error)
        }
    })?;
    // Before the maps are taken: the program refers to them by descriptors that `ebpf` still holds.
    program(&mut ebpf)?.load().map_err(LoadError::Program)?;
    let keys: Array<MapData, KeyState> = take(&mut ebpf, name::KEYS)?;
    let counters: PerCpuArray<MapData, u64> = take(&mut ebpf, name::COUNTERS)?;
    let mut view = KernelMaps::new(counters, keys);
    view.set_keys(keyring).map_err(|error| LoadError::Map(name::KEYS, MapError::IoError(error)))?;
    let slots = map_slots(&mut ebpf)?;
    let news: RingBuf<MapData> = take(&mut ebpf, name::NEWS)?;
    let config = take(&mut ebpf, name::CONFIG)?;
    let links = take(&mut ebpf, name::LINKS)?;
    let mut kernel = Kernel { ebpf, slots, news, config, links, cluster };
    kernel.set_incarnation(cluster.incarnation)?;
    Ok((kernel, view))
}

impl Kernel {
    /// This node starts over with another incarnation.
    ///
    /// # Errors
    /// The map could not be written; the old incarnation stays in force.
    pub fn set_incarnation(&mut self, incarnation: u64) -> Result<(), LoadError> {
        self.cluster.incarnation = incarnation;
        self.config.set(0, self.cluster, 0).map_err(|error| LoadError::Map(name::CONFIG, error))
    }

    /// The program serves these links and no others.
    fn serve(&mut self, arrivals: &[Arrival]) -> Result<(), LoadError> {
        let mut table = LinkTable::default();
        for arrival in arrivals {
            if let Some(link) = table.links.get_mut(arrival.link.index()) {
                *link = link_config(arrival);
            }
        }
        self.links.set(0, table, 0).map_err(|error| LoadError::Map(name::LINKS, error))
    }

    /// Tries the modes in order on one interface; what did not work goes to `remarks`.
    fn attach(
        &mut self,
        wanted: XdpSetting,
        arrival: &Arrival,
        remarks: &mut Vec<String>,
    ) -> Option<ReceiveMode> {
        let name = &arrival.interface;
        match settled_program(arrival.index) {
            Ok(None) => {}
            Ok(Some(program)) => {
                remarks.push(format!(
                    "{name}: another XDP program is on it, {program}, and is left alone: \
                     receiving through a socket (remove it with `ip link set {name} xdp off` to have XDP)"
                ));
                return None;
            }
            Err(errno) => {
                remarks.push(format!(
                    "{name}: cannot see whether an XDP program is on it ({errno}): receiving through a socket"
                ));
                return None;
            }
        }
        for mode in modes(wanted) {
            let result = program(&mut self.ebpf).and_then(|program| {
                program.attach_to_if_index(arrival.index, *mode).map_err(LoadError::Program)
            });
            match (result, mode) {
                (Ok(_), XdpMode::Skb) => return Some(ReceiveMode::Generic),
                (Ok(_), XdpMode::Driver | XdpMode::Default | XdpMode::Hardware) => {
                    return Some(ReceiveMode::Native);
                }
                (Err(error), _) => remarks.push(explain(name, *mode, &error)),
            }
        }
        None
    }
}

/// The program on the interface, once it is sure to stay: that of an agent which was just killed goes with its process,
/// a moment later.
fn settled_program(index: u32) -> Result<Option<Foreign>, Errno> {
    let mut found = foreign::program_on(index)?;
    for _ in 0..PREDECESSOR_LOOKS {
        if found.as_ref().and_then(|program| program.name.as_deref()) != Some(PROGRAM) {
            break;
        }
        // Nothing to wait for but time: it is a sleep, before any thread runs.
        let _ = poll(&mut [], PREDECESSOR_WAIT_MS);
        found = foreign::program_on(index)?;
    }
    Ok(found)
}

/// What to try, in order.
const fn modes(wanted: XdpSetting) -> &'static [XdpMode] {
    match wanted {
        XdpSetting::Auto => &[XdpMode::Driver, XdpMode::Skb],
        XdpSetting::Native => &[XdpMode::Driver],
        XdpSetting::Generic => &[XdpMode::Skb],
        XdpSetting::Off => &[],
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, LoadError> {
    let program = ebpf.program_mut(PROGRAM).ok_or(LoadError::Program(ProgramError::NotLoaded))?;
    program.try_into().map_err(LoadError::Program)
}

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, LoadError> {
    let missing = || LoadError::Map(name, MapError::InvalidName { name: name.to_owned() });
    let map = ebpf.take_map(name).ok_or_else(missing)?;
    M::try_from(map).map_err(|error| LoadError::Map(name, error))
}

fn map_slots(ebpf: &mut Ebpf) -> Result<MappedSlots, LoadError> {
    let missing = || LoadError::Map(name::SLOTS, MapError::InvalidName { name: name::SLOTS.to_owned() });
    let Some(Map::Array(data)) = ebpf.take_map(name::SLOTS) else { return Err(missing()) };
    let info = data.info().map_err(|error| LoadError::Map(name::SLOTS, error))?;
    let (size, expected) = (info.value_size() as usize, size_of::<PeerSlot>());
    if size != expected || (info.max_entries() as usize) < MAX_NODES {
        return Err(LoadError::Map(name::SLOTS, MapError::InvalidValueSize { size, expected }));
    }
    MappedSlots::new(data.fd()).map_err(LoadError::Mapping)
}

fn link_config(arrival: &Arrival) -> LinkConfig {
    let destination = match arrival.destination {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    LinkConfig { ifindex: arrival.index, port: u32::from(arrival.port), destination: destination.octets() }
}

fn errno_of_load(error: &EbpfError) -> Option<Errno> {
    let raw = if let EbpfError::MapError(MapError::CreateError { io_error, .. }) = error {
        io_error.raw_os_error()
    } else if let EbpfError::MapError(MapError::SyscallError(error)) = error {
        error.io_error.raw_os_error()
    } else {
        None
    };
    raw.map(Errno::from_raw)
}

fn errno_of_attach(error: &LoadError) -> Option<Errno> {
    let raw = if let LoadError::Program(ProgramError::SyscallError(error)) = error {
        error.io_error.raw_os_error()
    } else if let LoadError::Program(ProgramError::XdpError(XdpError::NetlinkError(error))) = error {
        error.raw_os_error()
    } else {
        None
    };
    raw.map(Errno::from_raw)
}

/// One line for the operator: what was tried, why it failed, what to do.
fn explain(interface: &str, mode: XdpMode, error: &LoadError) -> String {
    let mode = match mode {
        XdpMode::Skb => "generic",
        XdpMode::Driver | XdpMode::Default | XdpMode::Hardware => "native",
    };
    match errno_of_attach(error) {
        Some(errno) => format!("{interface}: {mode} XDP: {errno}: {}", remedy(errno)),
        None => format!("{interface}: {mode} XDP: {error}"),
    }
}

fn remedy(errno: Errno) -> &'static str {
    const KNOWN: [(&[Errno], &str); 6] = [
        (&[Errno::EBUSY, Errno::EEXIST], "another XDP program is on the interface; it is left alone"),
        (&[Errno::EOPNOTSUPP], "the driver has no such XDP; the next mode is used"),
        (
            &[Errno::EINVAL, Errno::ERANGE],
            "the driver refuses it as the interface is set up; often the MTU is above a page (jumbo frames), or LRO is on",
        ),
        (
            &[Errno::ENOMEM, Errno::ENOSPC],
            "the driver lacks queues for XDP; lower `ethtool -L` combined channels",
        ),
        (
            &[Errno::EPERM, Errno::EACCES],
            "not permitted; run it as root, or give it CAP_BPF and CAP_NET_ADMIN",
        ),
        (&[Errno::ENODEV], "the interface is gone"),
    ];
    KNOWN.iter().find(|(errnos, _)| errnos.contains(&errno)).map_or("see `dmesg`", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use agent_common::LinkId;
    use aya::programs::{ProgramError, XdpMode};
    use nix::errno::Errno;

    use super::{Arrival, LoadError, explain, link_config};

    fn refused(errno: Errno) -> LoadError {
        LoadError::Program(ProgramError::SyscallError(aya::sys::SyscallError {
            call: "bpf_link_create",
            io_error: std::io::Error::from_raw_os_error(errno as i32),
        }))
    }

    #[test]
    fn a_refusal_names_interface_mode_and_remedy() {
        let busy = explain("eth0", XdpMode::Driver, &refused(Errno::EBUSY));
        assert!(busy.starts_with("eth0: native XDP: EBUSY") && busy.contains("left alone"), "{busy}");
        let jumbo = explain("eth0", XdpMode::Skb, &refused(Errno::EINVAL));
        assert!(jumbo.contains("generic") && jumbo.contains("MTU"), "{jumbo}");
    }

    #[test]
    fn ipv4_destinations_are_mapped() {
        let address: IpAddr = "10.0.0.1".parse().expect("an address");
        let link = LinkId::new(0).expect("in range");
        let arrival =
            Arrival { link, interface: "eth0".to_owned(), index: 3, port: 694, destination: address };
        let config = link_config(&arrival);
        assert_eq!((config.ifindex, config.port), (3, 694));
        assert_eq!(config.destination, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    }
}
