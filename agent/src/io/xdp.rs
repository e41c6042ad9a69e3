//! Loads the embedded object, fills its maps and attaches its programs: heartbeats and gate on the interfaces of the
//! links and of the service addresses, and the gate's other half on what leaves the latter.
//!
//! Where there is a bpffs the attachments are pinned, outlive this process and are found by the next; where there is
//! none they end with it, and the gate is userspace's.

use std::collections::BTreeMap;

use agent_common::ids::{MAX_NODES, NodeSet};
use agent_common::maps::{ClusterConfig, KeyState, PeerSlot, RIVALS, Rival, name};
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::ProgramError;
use aya::{Ebpf, EbpfError, EbpfLoader};
use nix::errno::Errno;

use super::counters::KernelMaps;
use super::paths::Arrival;
use super::programs::Programs;
use super::rival::MappedRivals;
use super::slots::MappedSlots;
use crate::bridge::{KernelView, Keyring};
use crate::gate::classifier::{self, Side};
use crate::gate::ingress;
use crate::gate::keeper::{GateError, Keeper};
use crate::gate::{Device, Gates};
use crate::settings::{ReceiveMode, Settings, XdpSetting};

/// The object that `cargo xtask build-ebpf` made; empty when none was built in.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xbeat.bpf.o"));
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

/// What the rt thread needs of a loaded object.
pub struct Kernel {
    /// The peers' slots.
    pub slots: MappedSlots,
    /// News.
    pub news: RingBuf<MapData>,
    /// Who else uses this node's id.
    pub rivals: MappedRivals,
    config: Array<MapData, ClusterConfig>,
    cluster: ClusterConfig,
}

/// An object, its maps given to those who need them.
struct Loaded {
    kernel: Kernel,
    programs: Programs,
    view: KernelMaps,
}

/// What attaching came to.
pub struct Attached {
    /// The rt thread's part, if any interface carries the program.
    pub kernel: Result<Kernel, LoadError>,
    /// The programs themselves, if any interface carries one.
    pub programs: Option<Programs>,
    /// The control thread's view, if any interface carries it.
    pub view: Option<KernelMaps>,
    /// By interface.
    pub modes: BTreeMap<String, ReceiveMode>,
    /// What the rt thread needs of the gate, or why the kernel guards nothing.
    pub gate: Result<Option<Gates>, GateError>,
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

/// Attaches the program to every interface of `arrivals` and of the service addresses as the configuration wants it.
/// It cannot fail: what gets no program receives through sockets, and has no gate in the kernel.
pub fn attach(
    settings: &Settings,
    cluster: ClusterConfig,
    keyring: &Keyring,
    arrivals: &[Arrival],
    keeper: &mut Keeper,
) -> Attached {
    let mut modes: BTreeMap<String, ReceiveMode> =
        arrivals.iter().map(|arrival| (arrival.interface.clone(), ReceiveMode::Socket)).collect();
    let mut remarks = Vec::new();
    let loaded = load(settings, cluster, keyring, keeper).and_then(|mut loaded| {
        let programs = &mut loaded.programs;
        programs.serve(arrivals)?;
        keeper.shut_in(&mut programs.ebpf, settings);
        let carried = programs.attach_all(settings.runtime.xdp, arrivals, keeper, &mut remarks);
        for (device, carried) in &carried {
            modes.entry(device.name.clone()).and_modify(|mode| *mode = carried.mode);
        }
        let served: Vec<Arrival> = arrivals
            .iter()
            .filter(|at| modes.get(&at.interface) != Some(&ReceiveMode::Socket))
            .cloned()
            .collect();
        if carried.is_empty() {
            return Err(LoadError::NowhereAttached);
        }
        programs.serve(&served)?;
        let outlives = |device: &Device| carried.iter().any(|(on, how)| on == device && how.outlives);
        let gate = keeper.complete(&mut programs.ebpf, settings, outlives);
        keeper.keep(&mut programs.ebpf);
        Ok((loaded, gate))
    });
    remarks.extend(keeper.remarks());
    match loaded {
        Ok((Loaded { kernel, programs, view }, gate)) => {
            let (programs, view) = (Some(programs), Some(view));
            Attached { kernel: Ok(kernel), programs, view, modes, gate, remarks }
        }
        Err(error) => {
            let gate = keeper.give_up();
            Attached { kernel: Err(error), programs: None, view: None, modes, gate, remarks }
        }
    }
}

fn load(
    settings: &Settings,
    cluster: ClusterConfig,
    keyring: &Keyring,
    keeper: &mut Keeper,
) -> Result<Loaded, LoadError> {
    if settings.runtime.xdp == XdpSetting::Off {
        return Err(LoadError::Off);
    }
    if OBJECT.is_empty() {
        return Err(LoadError::NotBuiltIn);
    }
    let mut loader = EbpfLoader::new();
    keeper.prepare(&mut loader);
    let mut ebpf = loader.load(OBJECT).map_err(|error| {
        if matches!(errno_of_load(&error), Some(Errno::EPERM | Errno::EACCES)) {
            LoadError::NotPermitted
        } else {
            LoadError::Object(error)
        }
    })?;
    // Before the maps are taken: the program refers to them by descriptors that `ebpf` still holds.
    keeper.adopt(&mut ebpf);
    load_programs(&mut ebpf, settings.runtime.xdp).map_err(LoadError::Program)?;
    let keys: Array<MapData, KeyState> = take(&mut ebpf, name::KEYS)?;
    let counters: PerCpuArray<MapData, u64> = take(&mut ebpf, name::COUNTERS)?;
    let drops: PerCpuArray<MapData, u64> = take(&mut ebpf, name::GATE_DROPS)?;
    let mut view = KernelMaps::new(counters, drops, keys);
    view.set_keys(keyring).map_err(|error| LoadError::Map(name::KEYS, MapError::IoError(error)))?;
    let slots = map_slots(&mut ebpf)?;
    let news: RingBuf<MapData> = take(&mut ebpf, name::NEWS)?;
    let config = take(&mut ebpf, name::CONFIG)?;
    let links = take(&mut ebpf, name::LINKS)?;
    let rivals = map_rivals(&mut ebpf)?;
    let mut kernel = Kernel { slots, news, rivals, config, cluster };
    kernel.set_incarnation(cluster.incarnation)?;
    Ok(Loaded { kernel, programs: Programs::new(ebpf, links), view })
}

/// Those that some interface may want, now or when it comes.
pub(crate) fn load_programs(ebpf: &mut Ebpf, wanted: XdpSetting) -> Result<(), ProgramError> {
    match wanted {
        XdpSetting::Auto => {
            ingress::load(ebpf)?;
            // Where it is needed in the end, that it is not there is told.
            let _ = classifier::load(ebpf, Side::Ingress);
        }
        XdpSetting::Native | XdpSetting::Generic => drop(ingress::load(ebpf)?),
        XdpSetting::Tcx => drop(classifier::load(ebpf, Side::Ingress)?),
        XdpSetting::Off => {}
    }
    Ok(())
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
}

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, LoadError> {
    let missing = || LoadError::Map(name, MapError::InvalidName { name: name.to_owned() });
    let map = ebpf.take_map(name).ok_or_else(missing)?;
    M::try_from(map).map_err(|error| LoadError::Map(name, error))
}

fn map_slots(ebpf: &mut Ebpf) -> Result<MappedSlots, LoadError> {
    let data = take_array(ebpf, name::SLOTS, size_of::<PeerSlot>(), MAX_NODES)?;
    MappedSlots::new(data.fd()).map_err(LoadError::Mapping)
}

fn map_rivals(ebpf: &mut Ebpf) -> Result<MappedRivals, LoadError> {
    let data = take_array(ebpf, name::RIVAL, size_of::<Rival>(), RIVALS)?;
    MappedRivals::new(data.fd()).map_err(LoadError::Mapping)
}

/// An array to map into memory, of the shape that is read there.
fn take_array(
    ebpf: &mut Ebpf,
    name: &'static str,
    expected: usize,
    entries: usize,
) -> Result<MapData, LoadError> {
    let missing = || LoadError::Map(name, MapError::InvalidName { name: name.to_owned() });
    let Some(Map::Array(data)) = ebpf.take_map(name) else { return Err(missing()) };
    let info = data.info().map_err(|error| LoadError::Map(name, error))?;
    let size = info.value_size() as usize;
    if size != expected || (info.max_entries() as usize) < entries {
        return Err(LoadError::Map(name, MapError::InvalidValueSize { size, expected }));
    }
    Ok(data)
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
