//! What is pinned, by name: the maps in a directory of their layout, and a link for each interface and direction. A start
//! without state shuts the gates that it finds and makes the heartbeats' maps anew; one that goes on takes them all.
//!
//! ```text
//! DIRECTORY/maps-1f3c9a60e2b7d548/{CONFIG,LINKS,KEYS,WINDOWS,SLOTS,COUNTERS,NEWS,GATE_ADDRESSES,GATES,BARS,...}
//! DIRECTORY/programs-9b1c40e2d3f8a657/{xbeat,...}
//! DIRECTORY/{ingress,tcx,egress}-IFINDEX-NAME
//! ```
//! Maps of another layout are never read: they go once the programs that use them are replaced.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use agent_common::ids::MAX_GROUPS;
use agent_common::maps::{self, Bar, Gate, GateAddress, name};
use aya::EbpfLoader;
use aya::maps::{Array, MapData, MapError};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Device;
use super::bpffs::{self, BpffsError};
use super::ready;

/// The gate's maps. The lock of the bars is nobody's but the kernel's.
const GATE_MAPS: [&str; 5] = [name::GATE_ADDRESSES, name::GATES, name::BARS, "BAR_LOCK", name::GATE_DROPS];
/// The heartbeats' maps: what was heard in one life of this node says nothing to another.
const HEARTBEAT_MAPS: [&str; 8] = [
    name::CONFIG,
    name::LINKS,
    name::KEYS,
    name::WINDOWS,
    name::SLOTS,
    name::COUNTERS,
    name::NEWS,
    name::RIVAL,
];
const MAPS_PREFIX: &str = "maps-";

/// Why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// No directory.
    #[error(transparent)]
    Bpffs(#[from] BpffsError),
    /// The directory cannot be read or locked.
    #[error("the directory {path} cannot be used: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another agent has it.
    #[error("another agent uses {0} (give each its own `bpffs` in [runtime])")]
    Taken(PathBuf),
    /// Gates of an agent before this one are there, and cannot be shut.
    #[error("the gates found in {path} cannot be shut: {source}")]
    NotShut {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: MapError,
    },
}

/// Which way packets go through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// XDP.
    Ingress,
    /// TCX, on what arrives.
    IngressTcx,
    /// TCX, on what leaves.
    Egress,
}

impl Way {
    const fn label(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::IngressTcx => "tcx",
            Self::Egress => "egress",
        }
    }
}

/// The directory of pins, this process's alone.
pub struct Pins {
    directory: PathBuf,
    maps: PathBuf,
    /// For the operator.
    pub remarks: Vec<String>,
    used: Vec<PathBuf>,
    _lock: Flock<File>,
}

impl Pins {
    /// Takes the directory; what is in it stays as it is.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn open(directory: &Path) -> Result<Self, PinsError> {
        let mounted = bpffs::ensure(directory)?;
        let failed = |source| PinsError::Directory { path: directory.to_owned(), source };
        let file = File::open(directory).map_err(failed)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(PinsError::Taken(directory.to_owned())),
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        let maps = self::maps(directory);
        let mut remarks = Vec::new();
        if mounted && bpffs::mounts_are_private() {
            remarks.push(format!(
                "bpffs was mounted for {} in a mount namespace of this process's own: the gate ends with it \
                 (mount bpffs outside, or run the agent in the host's mount namespace)",
                directory.display()
            ));
        }
        Ok(Self { directory: directory.to_owned(), maps, remarks, used: Vec::new(), _lock: lock })
    }

    /// For a start without state: shuts every gate found, since nobody serves by what an earlier agent was granted, and
    /// takes the heartbeats' maps away.
    ///
    /// # Errors
    /// Gates are there and cannot be shut, or a map cannot be taken away.
    pub fn begin(&self) -> Result<(), PinsError> {
        self.shut()?;
        // Programs that are loaded already are about the maps that go.
        self.entries().iter().filter(|path| named(path, ready::PREFIX)).for_each(|path| remove(path));
        for map in HEARTBEAT_MAPS {
            let path = self.maps.join(map);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(PinsError::Directory { path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn shut(&self) -> Result<(), PinsError> {
        let path = self.maps.join(name::GATES);
        if !path.exists() {
            return Ok(());
        }
        let shut = || -> Result<(), MapError> {
            let map = aya::maps::Map::Array(MapData::from_pin(&path)?);
            let mut gates: Array<MapData, Gate> = Array::try_from(map)?;
            for group in 0..MAX_GROUPS as u32 {
                gates.set(group, Gate::default(), 0)?;
            }
            Ok(())
        };
        shut().map_err(|source| PinsError::NotShut { path, source })
    }

    /// Loads the maps from their pins, or pins them when there are none.
    ///
    /// # Errors
    /// Their directory cannot be made.
    pub fn pin_maps(&self, loader: &mut EbpfLoader<'_>) -> io::Result<()> {
        fs::create_dir_all(&self.maps)?;
        on_pinned_maps(&self.directory, loader);
        Ok(())
    }

    /// The link that an earlier agent left on an interface.
    ///
    /// # Errors
    /// There is a pin, and it is no link.
    pub fn link(&self, way: Way, device: &Device) -> Result<Option<FdLink>, LinkError> {
        let path = self.path(way, device);
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(PinnedLink::from_pin(path)?.into()))
    }

    /// The pin of a link stays: the link is in use.
    pub fn keep(&mut self, way: Way, device: &Device) {
        self.used.push(self.path(way, device));
    }

    /// Pins a new link.
    ///
    /// # Errors
    /// bpffs did not take it; the link is gone then.
    pub fn pin(&mut self, way: Way, device: &Device, link: FdLink) -> Result<(), aya::pin::PinError> {
        link.pin(self.path(way, device))?;
        self.keep(way, device);
        Ok(())
    }

    /// Takes the pin of a link away: what nobody else holds is detached.
    pub fn unpin(&self, way: Way, device: &Device) {
        let _ = fs::remove_file(self.path(way, device));
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Takes everything away that was not used: links of interfaces that are gone, maps of another layout.
    pub fn tidy(&self) {
        let programs = ready::directory(&self.directory);
        for path in self.entries() {
            if path != self.maps && path != programs && !self.used.contains(&path) {
                remove(&path);
            }
        }
    }

    /// Whether maps of another layout are there: of an agent of another version, whose gates could not be shut.
    pub fn has_strangers(&self) -> bool {
        self.entries().iter().any(|path| *path != self.maps && named(path, MAPS_PREFIX))
    }

    /// Takes everything away. What this process holds itself lasts until it ends.
    pub fn remove_all(&self) {
        self.entries().iter().for_each(|path| remove(path));
        // Fails for a mount point, which stays.
        let _ = fs::remove_dir(&self.directory);
    }

    fn path(&self, way: Way, device: &Device) -> PathBuf {
        // bpffs takes no dots in names, VLAN interfaces have them.
        let name = device.name.replace('.', "_");
        self.directory.join(format!("{}-{}-{name}", way.label(), device.index))
    }

    fn entries(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| is_ours(path)).collect()
    }
}

/// Nothing else in the directory is touched.
fn is_ours(path: &Path) -> bool {
    [MAPS_PREFIX, ready::PREFIX, "ingress-", "tcx-", "egress-"].iter().any(|prefix| named(path, prefix))
}

fn named(path: &Path, prefix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
}

/// Lets an object be loaded onto the maps that are pinned in `directory`, whoever holds it.
pub(super) fn on_pinned_maps(directory: &Path, loader: &mut EbpfLoader<'_>) {
    let maps = maps(directory);
    for map in HEARTBEAT_MAPS.into_iter().chain(GATE_MAPS) {
        loader.map_pin_path(map, maps.join(map));
    }
}

/// Whether the map outlives a process; the others belong to the programs of one load.
pub(super) fn is_pinned(map: &str) -> bool {
    HEARTBEAT_MAPS.iter().chain(&GATE_MAPS).any(|pinned| *pinned == map)
}

fn maps(directory: &Path) -> PathBuf {
    directory.join(format!("{MAPS_PREFIX}{:016x}", layout()))
}

/// The layout of the maps that are pinned in `directory`, if all of this version's are there.
pub fn complete(directory: &Path) -> Option<u64> {
    let maps = maps(directory);
    HEARTBEAT_MAPS.iter().chain(&GATE_MAPS).all(|map| maps.join(map).exists()).then(layout)
}

fn remove(path: &Path) {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = result {
        tracing::warn!("the pin {} could not be removed: {error}", path.display());
    }
}

/// Names the layout of the maps: the heartbeats' own number, and FNV-1a over all that makes two gates incompatible.
pub fn layout() -> u64 {
    let numbers = [
        maps::GATE_ABI as usize,
        MAX_GROUPS,
        maps::GATE_ADDRESSES_MAX,
        maps::GATE_DROPS,
        size_of::<GateAddress>(),
        size_of::<Gate>(),
        size_of::<Bar>(),
    ];
    let bytes = numbers.iter().flat_map(|number| (*number as u64).to_be_bytes());
    bytes.fold(agent_common::layout::layout(), |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use agent_common::maps::{Gate, name};
    use aya::EbpfLoader;
    use aya::maps::{Array, Map, MapData};
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::{Pins, PinsError, complete};
    use crate::io::xdp::OBJECT;

    /// A directory in mounts of this thread's own, or why there is none.
    fn directory() -> Option<tempfile::TempDir> {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let possible = unshare(CloneFlags::CLONE_NEWNS).is_ok()
            && mount(None::<&str>, "/", None::<&str>, private, None::<&str>).is_ok()
            && EbpfLoader::new().load(OBJECT).is_ok();
        if !possible {
            println!("SKIP: not permitted, or built without the eBPF object");
        }
        possible.then(|| tempfile::tempdir().expect("a directory"))
    }

    fn gates(pins: &Pins) -> Array<MapData, Gate> {
        let map = Map::Array(MapData::from_pin(pins.maps.join(name::GATES)).expect("pinned"));
        Array::try_from(map).expect("of this layout")
    }

    #[test]
    fn what_an_earlier_agent_left_is_found_and_shut_and_what_is_of_another_layout_goes() {
        let Some(directory) = directory() else { return };
        let path = directory.path().join("bpf/xbeat");
        let open = Gate { epoch: 7, expiry_ns: u64::MAX };

        // No bpffs: one is mounted. Nobody else may use it meanwhile.
        let pins = Pins::open(&path).expect("a first agent");
        assert!(matches!(Pins::open(&path), Err(PinsError::Taken(_))));
        let mut loader = EbpfLoader::new();
        pins.pin_maps(&mut loader).expect("a directory for maps");
        let first = loader.load(OBJECT).expect("loaded onto new maps");
        gates(&pins).set(3, open, 0).expect("written");
        drop((pins, first));
        let stranger = path.join("maps-00000000");
        let other = path.join("somebody");
        fs::create_dir(&stranger).expect("made");
        fs::create_dir(&other).expect("made");

        let pins = Pins::open(&path).expect("the next agent");
        assert_eq!(gates(&pins).get(&3, 0).expect("read"), open, "who goes on finds it as it was");
        assert!(complete(&path).is_some());
        pins.begin().expect("a start without state");
        assert!(complete(&path).is_none(), "what was heard is gone");
        assert_eq!(gates(&pins).get(&3, 0).expect("read"), Gate::default(), "shut before anything else");
        let mut loader = EbpfLoader::new();
        pins.pin_maps(&mut loader).expect("the directory is there");
        let second = loader.load(OBJECT).expect("loaded onto the same maps");
        gates(&pins).set(3, open, 0).expect("written");
        let adopted: Array<&MapData, Gate> =
            Array::try_from(second.map(name::GATES).expect("gates")).expect("ours");
        assert_eq!(adopted.get(&3, 0).expect("read"), open, "they are one map");

        pins.tidy();
        assert!(!stranger.exists() && other.exists());
        pins.remove_all();
        assert!(pins.entries().is_empty() && other.exists());
    }
}
